"""
The part in C, where it could be compiled: what is usual of a stream, or of a small exchange, done in one go.

Everything it does is done in Python as well, and that is where it is explained.  An event
of a stream costs 21 µs with it and 28 without, of which the kernel's are 15.  With PURE_PYTHON
set in the environment, as packages of zope have it too, it is not used.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from logging_proxy.net.shortcut._compiled import Passage, Reader, Sender, Writing

trouble: str | None = None
"""Why the part in C is not there, though nobody has asked for that."""

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
    """See `http.wire.sender`."""
    return _compiled.Sender(transport, failed) if compiled else None


def reader(transport: Any, *parts: Any) -> Reader | None:
    """See `http.wire.read_directly`."""
    return _compiled.Reader(transport, *parts) if compiled else None


def passage(sink: Any, **parts: Any) -> Passage | None:
    """A way from a `Reader` to where `sink` sends; None if there is none."""
    if not compiled or not isinstance(sink.send, _compiled.Sender):
        return None
    return _compiled.Passage(sink=sink, send=sink.send, **{**_WITHOUT, **parts})


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
    """See `capture.writer.CaptureWriter.shortest_write`."""
    return _compiled.Writing(writer, *parts) if compiled else None


def creator() -> Callable[[str, bytes, int], bool] | None:
    """See `logserver.system.System.create`."""
    return _compiled.create if compiled else None


def splitter() -> Callable[[bytes, Any, tuple[int, ...], int], tuple[list[Any], int]] | None:
    """See `capture.records.RecordReader.feed`."""
    return _compiled.split if compiled else None
