"""
The C extension, where it could be compiled: a fast path for streams and small exchanges.

All that it does is also implemented, and explained, in Python, which takes over in every unusual
case.  It is not used if PURE_PYTHON is set in the environment, as with zope's packages.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from logging_proxy.net.shortcut._compiled import FastPath, Reader, Sender, Writing

trouble: str | None = None
"""Why the C extension is missing, unless PURE_PYTHON is set."""

compiled = False
if not os.environ.get("PURE_PYTHON"):
    try:
        from logging_proxy.net.shortcut import _compiled
    except ImportError as error:
        missing = isinstance(error.path, str) and error.path.endswith("__init__.py")
        trouble = "it was not built" if missing else str(error)
    else:
        compiled = True


def sender(transport: Any, failed: Callable[[], object]) -> Sender | None:
    """See `net.wire.sender`."""
    return _compiled.Sender(transport, failed) if compiled else None


def reader(transport: Any, *parts: Any) -> Reader | None:
    """See `net.wire.read_directly`."""
    return _compiled.Reader(transport, *parts) if compiled else None


def fast_path(sink: Any, **parts: Any) -> FastPath | None:
    """A fast path from a `Reader` to the sender of `sink`; None if there is none."""
    if not compiled or not isinstance(sink.send, _compiled.Sender):
        return None
    return _compiled.FastPath(sink=sink, send=sink.send, **{**_WITHOUT, **parts})


_WITHOUT: dict[str, Any] = {
    "exchange": None,
    "writer": None,
    "writing": None,
    "counted": None,
    "shared": None,
    "sending": None,
    "least": 0,
    "largest": 0,
}


def writing(writer: Any, *parts: Any) -> Writing | None:
    """See `recording.writer.CaptureWriter.shortest_write`."""
    return _compiled.Writing(writer, *parts) if compiled else None


def creator() -> Callable[[str, bytes, int], bool] | None:
    """See `logserver.store.system.System.create`."""
    return _compiled.create if compiled else None


def splitter() -> Callable[[bytes, Any, tuple[int, ...], int], tuple[list[Any], int]] | None:
    """See `recording.records.RecordReader.feed`."""
    return _compiled.split if compiled else None
