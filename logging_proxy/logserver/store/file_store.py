"""Captures as files in a log directory: the `CaptureStore` of this server."""

from __future__ import annotations

import os
from collections.abc import Iterator

from logging_proxy.captures.names import CAPTURE_FILE, metadata_name
from logging_proxy.index import Row
from logging_proxy.logserver.store.directory import LogDirectory
from logging_proxy.logserver.store.gather import FileWriter
from logging_proxy.logserver.store.protocol import What


class FileStore:
    """See `CaptureStore`."""

    def __init__(self, directory: LogDirectory) -> None:
        self._directory = directory

    def open(self) -> None:
        self._directory.open()

    def check(self) -> None:
        self._directory.check()

    def probe(self) -> None:
        self._directory.probe()

    def close(self) -> None:
        self._directory.close()

    def writer(self) -> FileWriter:
        return FileWriter(self._directory)

    def delete(self, row: Row, what: What) -> int:
        return sum(self._directory.delete(name) for name in _files(row, what))

    def has_bytes(self, row: Row) -> bool:
        return any(os.path.lexists(os.path.join(self._directory.path, name)) for name in _binaries(row))

    def measure(self) -> tuple[int, int]:
        size = count = 0
        with os.scandir(self._directory.path) as entries:
            for entry in entries:
                if CAPTURE_FILE.fullmatch(entry.name):
                    try:
                        size += entry.stat(follow_symlinks=False).st_size
                    except OSError:  # it is gone, or the disk does not give it
                        continue
                    count += 1
        return size, count


def _binaries(row: Row) -> list[str]:
    return [name for name in (row.request_file, row.response_file) if name]


def _files(row: Row, what: What) -> Iterator[str]:
    """The bytes before the metadata: without metadata a rebuild of the index would not find the bytes."""
    yield from _binaries(row)
    if what is What.ALL:
        yield from map(metadata_name, _binaries(row))
