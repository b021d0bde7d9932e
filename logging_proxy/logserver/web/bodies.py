"""
Bodies of requests, held in memory up to a limit, never in temporary files.

Captures are to be found in the log directory and nowhere else.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from twisted.web.server import Request

from logging_proxy.logserver.web.answers import Problem, Refused

BODY_LIMIT = 2 << 20
"""The shipper sends at most 1 MiB at a time."""


class Body(BytesIO):
    """A request's body, kept up to the limit; `overflow` says that there was more."""

    overflow = False

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > BODY_LIMIT:
            self.overflow = True
            return len(data)
        return super().write(data)


class DroppedBody:
    """The body of a request that has no use for one: nothing of it is kept."""

    overflow = True

    def write(self, data: bytes) -> int:
        return len(data)

    def tell(self) -> int:
        return 0

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0

    def close(self) -> None: ...


def read_body(request: Request) -> bytes:
    """All of the body.  Raises `Refused` when it is too large."""
    content: Any = request.content
    if content is None or getattr(content, "overflow", False):
        raise Refused(Problem.TOO_LARGE)
    content.seek(0)
    data: bytes = content.read(BODY_LIMIT + 1)
    if len(data) > BODY_LIMIT:
        raise Refused(Problem.TOO_LARGE)
    return data
