"""
Responses of the API: JSON, and errors as problem details (RFC 9457).

Every error is a `Problem`, and `problem_of` alone maps exceptions to problems.  Responses never echo the
request, so nothing needs escaping.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from logging_proxy.index import BadCursor, BadFilter, IndexTrouble, TooSlow

_log = Logger()

PROBLEM_TYPE = "application/problem+json"


class Problem(Enum):
    """Every error of the API: the last part of its `type`, its status and its title."""

    BAD_BODY = "bad-body", 400, "The body cannot be used."
    BAD_HOST = "bad-host", 400, "A request has one Host."
    BAD_ID = "bad-id", 400, "This is not the id of an exchange."
    BAD_NAME = "bad-name", 400, "This is not the name of a spool."
    BAD_OFFSET = "bad-offset", 400, "This is not an offset."
    BAD_PARAMETER = "bad-parameter", 400, "A parameter makes no sense."
    BAD_UPGRADE = "bad-upgrade", 400, "This is not the handshake of a WebSocket."
    NO_TOKEN = "no-token", 401, "A token is required."
    WRONG_HOST = "wrong-host", 403, "This is not a name of this server."
    WRONG_ORIGIN = "wrong-origin", 403, "Pages of other origins may not do this."
    NO_ADDRESS = "no-address", 404, "There is no such address."
    UNKNOWN_EXCHANGE = "unknown-exchange", 404, "There is no such exchange."
    UNKNOWN_CURSOR = "unknown-cursor", 404, "This is not a cursor that this server gave."
    UNKNOWN_SPOOL = "unknown-spool", 404, "There is no such spool."
    NO_BYTES = "no-bytes", 404, "This half of the exchange has not begun."
    NO_METHOD = "no-method", 405, "This address does not take this method."
    EXISTS = "exists", 409, "This is stored already."
    MISSING_BYTES = "missing-bytes", 409, "Bytes before these are missing."
    DELETED = "deleted", 410, "The bytes have been deleted."
    TOO_LARGE = "too-large", 413, "This is more than is taken."
    BAD_RANGE = "bad-range", 416, "The range is not in the file."
    NEEDS_UPGRADE = "needs-upgrade", 426, "This address speaks WebSocket."
    TOO_MANY_FAILURES = "too-many-failures", 429, "Too many wrong tokens came from this address."
    INTERNAL = "internal", 500, "The server has a fault."
    BUSY = "busy", 503, "Too much of this is under way."
    INDEX_TROUBLE = "index-trouble", 503, "The index cannot be asked now."
    NO_ROOM = "no-room", 503, "A limit of what is kept for proxies elsewhere is reached."
    STORAGE_TROUBLE = "storage-trouble", 503, "This cannot be stored or read now."
    TOO_SLOW = "too-slow", 503, "The search took too long: ask a narrower one."

    def __init__(self, kind: str, status: int, title: str) -> None:
        self.kind = kind
        self.status = status
        self.title = title


class Refused(Exception):
    """The request is answered with a problem; `more` are additional members of its JSON object."""

    def __init__(self, problem: Problem, detail: str = "", **more: Any) -> None:
        super().__init__(problem, detail)
        self.problem = problem
        self.detail = detail
        self.more = more


def problem_of(error: Exception) -> Refused:
    """The problem that an exception stands for."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, BadCursor):
        return Refused(Problem.UNKNOWN_CURSOR)
    if isinstance(error, BadFilter):
        more = {"known": list(error.known)} if error.known else {}
        return Refused(Problem.BAD_PARAMETER, str(error), parameter=error.name, **more)
    if isinstance(error, TooSlow):
        return Refused(Problem.TOO_SLOW)
    if isinstance(error, IndexTrouble):
        return Refused(Problem.INDEX_TROUBLE)
    if isinstance(error, OSError):
        return Refused(Problem.STORAGE_TROUBLE, error.strerror or "")
    return Refused(Problem.INTERNAL)


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete response; may be made in any thread."""

    status: int
    kind: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def json_answer(value: Any, status: int = 200) -> Answer:
    return Answer(status, "application/json", json.dumps(value).encode("ascii") + b"\n")


def problem_answer(refused: Refused) -> Answer:
    """The problem as an `application/problem+json` response."""
    problem = refused.problem
    value: dict[str, Any] = {"type": f"urn:logging-proxy:problem:{problem.kind}", "title": problem.title}
    value |= {"status": problem.status, **refused.more}
    if refused.detail:
        value["detail"] = refused.detail
    body = json.dumps(value).encode("ascii") + b"\n"
    return Answer(problem.status, PROBLEM_TYPE, body, _HEADERS.get(problem, {}))


_HEADERS = {
    Problem.NO_TOKEN: {"WWW-Authenticate": "Bearer"},
    Problem.NEEDS_UPGRADE: {"Upgrade": "websocket", "Connection": "Upgrade"},
    Problem.BUSY: {"Retry-After": "1"},
    Problem.TOO_MANY_FAILURES: {"Retry-After": "3"},
}


def give(request: Request, answer: Answer) -> bytes:
    """Sets status and headers of `answer`; returns the body, for `render` to return."""
    request.setResponseCode(answer.status)
    request.setHeader("Content-Type", answer.kind)
    request.setHeader("Content-Length", str(len(answer.body)))
    for name, value in answer.headers.items():
        request.setHeader(name, value)
    return answer.body


def refuse(request: Request, problem: Problem, detail: str = "", **more: Any) -> bytes:
    return give(request, problem_answer(Refused(problem, detail, **more)))


def give_later(request: Request, answer: Deferred[Answer]) -> int:
    """Responds when `answer` fires, with a problem if it fails; not at all if the client has disconnected."""
    has_left = watch_for_leaving(request)

    def finish(found: Answer) -> None:
        if not has_left():
            request.write(give(request, found))
            request.finish()

    answer.addErrback(answer_for_failure)
    answer.addCallback(finish)
    answer.addErrback(lambda failure: _log.failure("an answer", failure=failure))
    return NOT_DONE_YET


def answer_for_failure(failure: Failure) -> Answer:
    """The problem that a failure stands for; bugs, disk and index errors are logged."""
    error = failure.value
    refused = problem_of(error) if isinstance(error, Exception) else Refused(Problem.INTERNAL)
    if refused.problem is Problem.INTERNAL:
        _log.failure("a request failed", failure=failure)
    elif isinstance(error, OSError | IndexTrouble):
        _log.error("a request failed: {reason}", reason=str(error))
    return problem_answer(refused)


def watch_for_leaving(request: Request) -> Callable[[], bool]:
    """A function that tells, in any thread, whether the client has disconnected."""
    left: list[Failure] = []
    request.notifyFinish().addErrback(left.append)
    return lambda: bool(left)


class ProblemResource(Resource):
    """A resource whose errors are problems.  Its `render_` methods are the HTTP methods it accepts."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def getChild(self, path: bytes, request: Request) -> Resource:
        return Nowhere()

    def render(self, request: Request) -> Any:
        method, allowed = request.method.decode("latin-1"), self.allowed()
        if method in allowed:
            return getattr(self, f"render_{method}")(request)
        if not allowed:
            return refuse(request, Problem.NO_ADDRESS)
        request.setHeader("Allow", ", ".join(allowed))
        return refuse(request, Problem.NO_METHOD)

    def allowed(self) -> list[str]:
        """The HTTP methods that this address accepts."""
        names = [name.removeprefix("render_") for name in dir(self) if name.startswith("render_")]
        return [name for name in names if name != "HEAD" or "GET" in names]


class Nowhere(ProblemResource):
    """Any address that does not exist."""

    isLeaf = True


class Refusal(ProblemResource):
    """Answers every request with the same problem."""

    isLeaf = True

    def __init__(self, problem: Problem, detail: str = "") -> None:
        super().__init__()
        self._problem = problem
        self._detail = detail

    def render(self, request: Request) -> bytes:
        return refuse(request, self._problem, self._detail)
