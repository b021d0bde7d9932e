"""The commands for a single exchange: `show` and `export`."""

from __future__ import annotations

import heapq
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace

from logging_proxy.cli import render, views
from logging_proxy.cli.body_json import LazyBody, base64_pieces, json_pieces, with_members
from logging_proxy.cli.commands import Context
from logging_proxy.cli.curl import curl_command
from logging_proxy.cli.messages import Message, head_first, open_message, up_to
from logging_proxy.cli.redacting import redacted_data, redacted_events, redacted_half
from logging_proxy.cli.secrets import Redactor
from logging_proxy.cli.sources import SIDES, Document, Exchange, Side, Source, Trouble
from logging_proxy.cli.streams import (
    Arrival,
    StreamEvent,
    arrivals,
    form_of_arrivals,
    is_stream,
    stream_events,
    websocket_events,
)
from logging_proxy.service.console import safe
from logging_proxy.understanding.websocket import WebSocketReader, agreed_deflate

_MARKS: dict[Side, str] = {"request": ">", "response": "<"}


def show(context: Context) -> None:
    """`logging-proxy show`."""
    source = context.source()
    showing = _Showing(context, source, source.get(context.options.id))
    if context.options.raw:
        showing.raw()
    elif context.json:
        showing.as_json()
    elif context.options.stream:
        showing.stream()
    elif context.options.body:
        showing.one_body(context.options.body)
    else:
        showing.everything()
    showing.note_redacted()


def export(context: Context) -> None:
    """`logging-proxy export`."""
    source = context.source()
    showing = _Showing(context, source, source.get(context.options.id))
    if context.options.curl:
        showing.curl()
    else:
        showing.export_raw(context.options.half)
    showing.note_redacted()


class _Showing:
    """Writes one exchange in the format that the options ask for."""

    def __init__(self, context: Context, source: Source, exchange: Exchange) -> None:
        self._options = context.options
        self._terminal = context.terminal
        self._json = context.json
        self._source = source
        self._exchange = exchange
        self._redactor = Redactor(context.options.reveal)

    # --- text

    def everything(self) -> None:
        """The summary, the heads and, unless `--headers` is given, the bodies."""
        paint = self._terminal.paint
        self._terminal.lines(render.summary(self._exchange, self._redactor, paint))
        for side in SIDES:
            message = self._message(side)
            if message is None:
                self._note_refused(side)
                continue
            self._terminal.lines(["", *render.head_lines(message, _MARKS[side], self._redactor, paint)])
            if not self._options.headers and message.has_body:
                hint = f"logging-proxy show {self._exchange.id[:8]} --body {side}"
                self._terminal.lines([""])
                self._terminal.lines(render.shortened(self._body_lines(side, message), hint, paint))
            self._note_refused(side)

    def _body_lines(self, side: Side, message: Message) -> Iterator[str]:
        if self._is_websocket:
            return self._event_lines(self._messages(side))
        return render.body_lines(message.body(), self._redactor, self._terminal.paint, render.SHOWN_LINE)

    def one_body(self, side: Side) -> None:
        message = self._required(side)
        if self._is_websocket:
            self._terminal.lines(self._event_lines(self._messages(side)))
        else:
            paint = self._terminal.paint
            self._terminal.pieces(render.body_fragments(message.body(), self._redactor, paint))
        self._note_refused(side)

    def stream(self) -> None:
        """The events of the response stream, or the messages of a WebSocket, with their times."""
        self._terminal.lines(self._event_lines(self._events()))
        outcome = self._exchange.row.get("outcome")
        if outcome not in (None, "complete"):
            self._terminal.lines([self._terminal.paint(f"[{safe(str(outcome))}]", "red")])

    def _event_lines(self, events: Iterable[StreamEvent]) -> Iterator[str]:
        terminal, before = self._terminal, 0
        for event in redacted_events(events, self._redactor):
            yield render.event_line(event, before, terminal.paint, terminal.columns)
            before = event.at

    def _events(self) -> Iterator[StreamEvent]:
        if self._is_websocket:
            sides = [self._messages(side) for side in SIDES if self._exchange.half(side)]
            return heapq.merge(*sides, key=lambda event: event.at)
        message = self._required("response")
        form, _, arriving = form_of_arrivals(self._arrivals("response"), message.content_type)
        events = stream_events(arriving, message.content_type)
        return events if is_stream(form) or self._redactor.reveal else self._without_split_secrets(events)

    def _arrivals(self, side: Side) -> Iterator[Arrival]:
        message = self._required(side)
        pieces = (self._exchange.half(side) or {}).get("pieces") or []
        return arrivals(message.pieces(), pieces, message.header("content-encoding"))

    def _without_split_secrets(self, events: Iterator[StreamEvent]) -> Iterator[StreamEvent]:
        """The pieces, or only their sizes if their whole text has a secret, which may span several pieces."""
        count = self._redactor.count
        for _ in redacted_data(self._required("response").body(), self._redactor):
            if self._redactor.count > count:
                return (replace(piece, data=f"[{len(piece.data):,} characters]") for piece in events)
        return events

    @property
    def _is_websocket(self) -> bool:
        """Whether the connection became a WebSocket."""
        answer = self._exchange.response or {}
        names = {str(name).lower(): str(value).lower() for name, value in answer.get("headers") or []}
        return answer.get("status") == 101 and names.get("upgrade") == "websocket"

    def _messages(self, side: Side) -> Iterator[StreamEvent]:
        """The messages of a WebSocket that went in the direction of this half."""
        from_client = side == "request"
        extensions = self._required("response").header("sec-websocket-extensions")
        reader = WebSocketReader(agreed_deflate(extensions, from_client))
        return websocket_events(self._arrivals(side), reader, _MARKS[side])

    # --- JSON

    def as_json(self) -> None:
        """One line of JSON with the whole exchange, or with the part that the options select."""
        view: Document = {"id": self._exchange.id}
        if self._options.stream:
            view["events"] = views.events_view(self._events(), self._redactor)
        elif self._options.body:
            body = self._json_body(self._options.body, self._required(self._options.body))
            if isinstance(body, LazyBody):
                self._terminal.pieces(with_members(view, body))
                return
            view.update(body)
        else:
            view = views.exchange_view(self._exchange, self._redactor)
            for side in SIDES:
                message = None if self._options.headers else self._message(side)
                if message is not None and isinstance(view.get(side), dict):
                    view[side]["body"] = self._json_body(side, message)
        self._terminal.pieces(json_pieces(view))

    def _json_body(self, side: Side, message: Message) -> LazyBody | Document:
        if self._is_websocket:
            return {"messages": views.events_view(self._messages(side), self._redactor)}
        return LazyBody(message.body, self._redactor)

    # --- bytes

    def raw(self) -> None:
        """The stored bytes: a body, the heads, or both messages whole."""
        if self._options.stream:
            raise Trouble("--stream and --raw exclude each other: the former decodes the body")
        sides: tuple[Side, ...] = (self._options.body,) if self._options.body else SIDES
        for side in sides:
            self._copy(self._parts(side), side)

    def _parts(self, side: Side) -> Iterator[bytes]:
        head, blank, body = head_first(self._bytes(side))
        if not self._options.body:
            yield head + blank
        if not self._options.headers:
            yield from body

    def export_raw(self, side: Side) -> None:
        self._copy(self._bytes(side), side)

    def _bytes(self, side: Side) -> Iterator[bytes]:
        """The stored bytes of a half, redacted unless `--reveal` is given."""
        if self._redactor.reveal:
            return self._pieces(side)
        if self._refused(side):
            self._terminal.note(f"refused bytes of the {side} are omitted; --reveal includes them")
        if self._is_websocket:
            raise Trouble(
                "the frames of a WebSocket cannot be redacted; --stream shows their messages, --reveal all"
            )
        return redacted_half(lambda: self._pieces(side), self._redactor)

    def _copy(self, pieces: Iterator[bytes], side: Side) -> None:
        output = getattr(self._options, "output", None)
        if self._json:
            start = render.json_line({"id": self._exchange.id, "half": side})[:-1]
            self._terminal.pieces(itertools.chain([f'{start},"base64":'], base64_pieces(pieces), ["}"]))
        elif output is not None:
            write_private(output, pieces)
        elif self._terminal.is_terminal:
            raise Trouble("captured bytes may control the terminal: redirect them to a file or a pipe")
        else:
            for piece in pieces:
                self._terminal.write_bytes(piece)

    def note_redacted(self) -> None:
        """Say what was replaced, where no program that reads the output is disturbed."""
        told = self._redactor.told()
        if told:
            self._terminal.note(
                f"{safe(told)}; --reveal shows {'it' if self._redactor.count == 1 else 'them'}"
            )

    # --- curl

    def curl(self) -> None:
        message = self._required("request")
        document = self._exchange.request or self._exchange.row
        destination = str(document.get("destination_url") or "")
        refused = self._refused("request")
        if refused is not None and not refused["offset"] and not destination:
            raise Trouble("the request was refused; export --raw --reveal gives its bytes")
        url = destination if self._options.direct else str(document.get("source_url") or "")
        if not url:
            raise Trouble("the request had no destination")
        file = self._options.output or f"{self._exchange.id[:8]}_request_body.bin"
        command = curl_command(
            message, url, destination, str(document.get("route") or ""), file, self._redactor
        )
        if command.body is not None:
            write_private(file, command.body)
            self._terminal.note(f"the request's body is in {file}")
        if command.variables:
            self._terminal.note(f"the command needs {', '.join(f'${name}' for name in command.variables)}")
        if self._json:
            value = {
                "id": self._exchange.id,
                "curl": command.text,
                "variables": command.variables,
                "body_file": None if command.body is None else file,
            }
            self._terminal.lines([render.json_line(value)])
        else:
            self._terminal.lines([command.text])

    # --- messages

    def _message(self, side: Side) -> Message | None:
        """The message of a half; None if it does not exist or is empty."""
        message = open_message(lambda: self._pieces(side))
        return message if message.head.first or message.has_body else None

    def _refused(self, side: Side) -> Document | None:
        """Offset and size of the refused bytes in the body, if any."""
        refused: Document | None = (self._exchange.half(side) or {}).get("refused")
        return refused

    def _pieces(self, side: Side) -> Iterator[bytes]:
        """The stored bytes of a half.  Refused bytes, which may be a head with secrets, need `--reveal`."""
        pieces, refused = self._source.body(self._exchange, side), self._refused(side)
        return pieces if refused is None or self._redactor.reveal else up_to(int(refused["offset"]), pieces)

    def _note_refused(self, side: Side) -> None:
        refused = self._refused(side)
        if refused is not None and not self._redactor.reveal:
            text = f"[{refused['bytes']:,} bytes of the {side} were refused: --reveal shows them]"
            self._terminal.lines(["", self._terminal.paint(text, "red")])

    def _required(self, side: Side) -> Message:
        message = self._message(side)
        if message is None:
            raise Trouble(f"{self._exchange.id[:8]}: there is no {side}")
        return message


def write_private(path: str, pieces: Iterable[bytes]) -> None:
    """Write a new file with mode 0600; an existing file is never overwritten."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise Trouble(f"{path}: is there already; name another file with --output") from None
    with open(fd, "wb") as file:
        for piece in pieces:
            file.write(piece)
