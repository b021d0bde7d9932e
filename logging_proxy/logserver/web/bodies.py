"""
Request bodies, kept in memory up to a limit.

twisted.web would spill large bodies into temporary files; captured bytes must never leave the log directory.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from twisted.web.server import Request

from logging_proxy.logserver.web.answers import Problem, Refused

BODY_LIMIT = 2 << 20
"""Largest body that is kept, in bytes; the shipper sends at most half of it at a time."""


class Body(BytesIO):
    """A request body, kept up to the limit; `overflow` is true when there was more."""

    overflow = False

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > BODY_LIMIT:
            self.overflow = True
            return len(data)
        return super().write(data)


class DroppedBody:
    """The body of a request that needs none: its bytes are discarded."""

    overflow = True

    def write(self, data: bytes) -> int:
        return len(data)

    def tell(self) -> int:
        return 0

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0

    def close(self) -> None: ...


def read_body(request: Request) -> bytes:
    """The whole body.  Raises `Refused` when it was too large."""
    content: Any = request.content
    if content is None or getattr(content, "overflow", False):
        raise Refused(Problem.TOO_LARGE)
    content.seek(0)
    data: bytes = content.read(BODY_LIMIT + 1)
    if len(data) > BODY_LIMIT:
        raise Refused(Problem.TOO_LARGE)
    return data
