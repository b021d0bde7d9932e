"""Answers of our own: short plain text, recorded like any other answer."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import formatdate

from logging_proxy.capture.records import Flag, Kind
from logging_proxy.http.heads import RequestHead
from logging_proxy.http.server import REASONS, ServerConnection


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response of ours."""

    head: bytes
    body: bytes
    shown_body: bytes
    """What the client gets of the body: nothing of it after a HEAD."""
    keep_alive: bool

    @property
    def records(self) -> tuple[tuple[int, int, bytes], ...]:
        return (
            (int(Kind.RESPONSE_HEAD), int(Flag.OURS), self.head),
            (int(Kind.RESPONSE_PIECE), int(Flag.LAST), self.shown_body),
        )

    def send(self, connection: ServerConnection) -> None:
        connection.send(self.head + self.shown_body)
        connection.finish(self.keep_alive)


def answer(
    request: RequestHead,
    may_keep_alive: bool,
    now: float,
    status: int,
    text: bytes,
    fields: tuple[tuple[bytes, bytes], ...] = (),
) -> Answer:
    """The answer `status` to `request`, with `text` as its body; `now` in seconds since 1970."""
    keep_alive = may_keep_alive and request.minor == 1
    lines = [
        b"HTTP/1.1 %d %b\r\n" % (status, REASONS.get(status, b"Unknown")),
        b"Date: " + formatdate(now, usegmt=True).encode() + b"\r\n",
    ]
    lines += [name + b": " + value + b"\r\n" for name, value in fields]
    if text:
        lines.append(b"Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n")
    lines.append(b"Content-Length: %d\r\n" % len(text))
    if not keep_alive:
        lines.append(b"Connection: close\r\n")
    lines.append(b"\r\n")
    shown = b"" if request.method == b"HEAD" else text
    return Answer(b"".join(lines), text, shown, keep_alive)
