"""`GET /api/exchanges/{id}/conversation` and `.../events`: what was said, and how it arrived."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.web.server import Request

from logging_proxy.captures.reader import CaptureReader
from logging_proxy.logserver.threads import Run
from logging_proxy.logserver.web.answers import (
    Answer,
    Problem,
    ProblemResource,
    Refused,
    give_later,
    json_answer,
    refuse,
)
from logging_proxy.logserver.web.parameters import read_flag, read_number, read_parameters
from logging_proxy.understanding.captured import message_of, read_captured
from logging_proxy.understanding.conversation_parts import Shown, conversation, no_conversation
from logging_proxy.understanding.events import (
    event_documents,
    socket_events,
    stream_events,
    without_secrets,
)
from logging_proxy.understanding.pricing.prices import list_prices
from logging_proxy.understanding.reading import Message, dialect_of

Documents = tuple[dict[str, Any] | None, dict[str, Any] | None]
FindDocuments = Callable[[], Awaitable[Documents]]
"""Finds the metadata of the halves of an exchange, without those of what has not begun."""

MOST_EVENTS, DEFAULT_EVENTS = 1000, 200
"""Events of a page: the maximum, and where no limit is given."""


class _Understanding(ProblemResource):
    """What is below one exchange: its parameters are read, its files are read by a thread."""

    isLeaf = True
    _known: Collection[str] = ("reveal",)
    """The names of the parameters."""

    def __init__(self, reader: CaptureReader, run: Run, find: FindDocuments) -> None:
        super().__init__()
        self._reader = reader
        self._run = run
        self._find = find

    def render_GET(self, request: Request) -> bytes | int:
        if request.postpath:
            return refuse(request, Problem.NO_ADDRESS)
        try:
            make = self._maker(read_parameters(request, self._known))
        except Refused as refused:
            return refuse(request, refused.problem, refused.detail, **refused.more)
        return give_later(request, Deferred.fromCoroutine(self._answer(make)))

    def _maker(self, given: dict[str, str]) -> Callable[[Documents], Answer]:
        raise NotImplementedError

    async def _answer(self, make: Callable[[Documents], Answer]) -> Answer:
        documents = await self._find()
        answer: Answer = await self._run(lambda: make(documents))
        return answer


class ConversationResource(_Understanding):
    """`GET /api/exchanges/{id}/conversation`."""

    def _maker(self, given: dict[str, str]) -> Callable[[Documents], Answer]:
        shown = Shown(read_flag(given, "reveal"))

        def make(documents: Documents) -> Answer:
            read = read_captured(*documents, self._reader.body)
            if read is None:
                return json_answer(no_conversation())
            provider = list_prices().provider_of(read.url)
            return json_answer(conversation(read.dialect, read.asked, read.answers, provider, shown))

        return make


class EventsResource(_Understanding):
    """`GET /api/exchanges/{id}/events`: those of a stream, or the messages of a WebSocket; paged."""

    _known = ("from", "limit", "reveal")

    def _maker(self, given: dict[str, str]) -> Callable[[Documents], Answer]:
        reveal = read_flag(given, "reveal")
        start = read_number(given, "from", 0, 0, 10**9)
        limit = read_number(given, "limit", DEFAULT_EVENTS, 1, MOST_EVENTS)

        def make(documents: Documents) -> Answer:
            request, response = documents
            if response is None:
                return json_answer({"events": [], "next": None})
            asked = Message({}) if request is None else message_of(request, self._reader.body)
            answered = message_of(response, self._reader.body)
            url = str((request or response).get("destination_url") or "")
            if answered.status == 101 and request is not None:
                taken: Any = socket_events(urlsplit(url).path, asked, answered)
            else:
                dialect = dialect_of(url, asked, answered)
                taken = stream_events(dialect, answered)
                taken = taken if reveal else without_secrets(dialect, taken)
            events, more = event_documents(taken, start, limit, reveal)
            return json_answer({"events": events, "next": more})

        return make
