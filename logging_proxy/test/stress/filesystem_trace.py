"""
Traces the changes that a program makes to files, and reconstructs the files after a power loss.

While a `Trace` is entered, the calls of `os` that change files below a directory are executed and noted in
the order in which they ended.  `Remains` replays the notes up to any point and determines what is certain to
be on the disk then: a file's content at its last sync, and names as `Names` says.  All else may be lost.
"""

from __future__ import annotations

import enum
import os
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from logging_proxy.logserver.store.system import System

_CALLS = ("open", "pwrite", "pwritev", "ftruncate", "fsync", "fdatasync", "rename", "unlink", "mkdir")


class Names(enum.Enum):
    """Which file names survive a power loss."""

    STRICT = "those that a sync of their directory has seen (POSIX)"
    JOURNAL = "those, and that of a file when it is synced (ext4, XFS, Btrfs, APFS)"
    ALL = "all, with or without their bytes"


@dataclass(frozen=True, slots=True)
class Note:
    """A change; `node` is the number of a file, `name` and `other` are paths."""

    when: int
    what: str
    node: int = 0
    name: str = ""
    other: str = ""
    data: bytes = b""
    at: int = 0


class Trace:
    """Notes the changes to files below `root`."""

    def __init__(self, root: Path) -> None:
        self.notes: list[Note] = []
        self._root = str(root)
        self._lock = threading.RLock()
        self._true: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in _CALLS}
        self._system = {name: getattr(System, name) for name in ("fsync", "fdatasync", "sync_filesystem")}
        self._files: dict[str, int] = {}
        self._nodes: dict[int, int] = {}
        """Node by inode, while the inode has a name."""

    def __enter__(self) -> Trace:
        for name in _CALLS:
            setattr(os, name, getattr(self, name))
            if hasattr(System, name):
                setattr(System, name, staticmethod(getattr(self, name)))
        System.sync_filesystem = staticmethod(self.sync_filesystem)  # type: ignore[method-assign]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, call in self._true.items():
            setattr(os, name, call)
            if hasattr(System, name):
                setattr(System, name, staticmethod(call))
        System.sync_filesystem = staticmethod(self._system["sync_filesystem"])  # type: ignore[method-assign]

    # --- the calls

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        with self._lock:
            fd: int = self._true["open"](path, flags, mode, dir_fd=dir_fd)
            name = self._path(path, dir_fd)
            if name and flags & os.O_CREAT:
                inode = os.fstat(fd).st_ino
                if name not in self._files:
                    self._files[name] = self._nodes[inode] = len(self.notes) + 1
                    self._note("create", self._files[name], name)
                elif flags & os.O_TRUNC:
                    self._note("truncate", self._files[name])
            return fd

    def pwrite(self, fd: int, data: bytes, at: int) -> int:
        with self._lock:
            size: int = self._true["pwrite"](fd, data, at)
            self._note("write", self._node(fd), data=bytes(data[:size]), at=at)
            return size

    def pwritev(self, fd: int, parts: Any, at: int) -> int:
        with self._lock:
            size: int = self._true["pwritev"](fd, parts, at)
            self._note("write", self._node(fd), data=b"".join(parts)[:size], at=at)
            return size

    def ftruncate(self, fd: int, size: int) -> None:
        with self._lock:
            self._true["ftruncate"](fd, size)
            self._note("truncate", self._node(fd), at=size)

    def fsync(self, fd: int) -> None:
        self._sync("fsync", fd)

    def fdatasync(self, fd: int) -> None:
        self._sync("fdatasync", fd)

    def sync_filesystem(self, fd: int) -> None:
        with self._lock:
            self._note("sync all")

    def rename(
        self, old: Any, new: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
    ) -> None:
        with self._lock:
            self._true["rename"](old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
            name, other = self._path(old, src_dir_fd), self._path(new, dst_dir_fd)
            if name in self._files:
                self._files[other] = self._files.pop(name)
                self._note("rename", name=name, other=other)

    def unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        with self._lock:
            self._true["unlink"](path, dir_fd=dir_fd)
            name = self._path(path, dir_fd)
            if self._files.pop(name, 0):
                self._note("unlink", name=name)

    def mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        with self._lock:
            self._true["mkdir"](path, mode, dir_fd=dir_fd)
            if name := self._path(path, dir_fd):
                self._note("mkdir", name=name)

    # --- notes

    def _sync(self, call: str, fd: int) -> None:
        """A sync covers the content at its start, which is less than that at its end."""
        with self._lock:
            found = os.fstat(fd)
            if stat.S_ISDIR(found.st_mode):
                self._note("sync names", name=os.path.realpath(f"/proc/self/fd/{fd}"))
                return
            if found.st_ino in self._nodes:
                self._fill(fd, found)
                self._note("sync", self._nodes[found.st_ino])

    def _fill(self, fd: int, found: os.stat_result) -> None:
        """Note content written by calls that are not traced, such as those of buffered files."""
        node = self._nodes[found.st_ino]
        if not any(note.node == node and note.what == "write" for note in reversed(self.notes[-50:])):
            path = f"/proc/self/fd/{fd}"
            self._note("write", node, data=Path(path).read_bytes())

    def _note(self, what: str, node: int = 0, name: str = "", **more: Any) -> None:
        if what not in ("write", "truncate", "sync") or node:
            self.notes.append(Note(time.monotonic_ns(), what, node, name, **more))

    def _node(self, fd: int) -> int:
        return self._nodes.get(os.fstat(fd).st_ino, 0)

    def _path(self, path: Any, dir_fd: int | None) -> str:
        """The absolute path of a name below the root; empty for other names."""
        base = os.readlink(f"/proc/self/fd/{dir_fd}") if dir_fd is not None else os.getcwd()
        name = os.path.normpath(os.path.join(base, os.fspath(path)))
        return name if name.startswith(self._root + os.sep) else ""


@dataclass(slots=True)
class _File:
    data: bytearray = field(default_factory=bytearray)
    certain: bytes = b""


class Remains:
    """The files after the first notes of a trace, and their state after a power loss."""

    def __init__(self, names: Names) -> None:
        self._kind = names
        self._files: dict[int, _File] = {}
        self._names: dict[str, int] = {}
        self._certain: dict[str, int] = {}
        self._directories: list[str] = []

    def play(self, note: Note) -> None:
        """Apply the next note."""
        getattr(self, "_" + note.what.replace(" ", "_"))(note)

    def lay_out(self, root: Path, target: Path) -> None:
        """Write the surviving files to `target` in place of `root`."""
        for name in self._directories:
            (target / Path(name).relative_to(root)).mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, node in (self._names if self._kind is Names.ALL else self._certain).items():
            (target / Path(name).relative_to(root)).write_bytes(self._files[node].certain)

    def _create(self, note: Note) -> None:
        self._files[note.node] = _File()
        self._names[note.name] = note.node

    def _write(self, note: Note) -> None:
        data = self._files[note.node].data
        data.extend(bytes(max(0, note.at - len(data))))
        data[note.at : note.at + len(note.data)] = note.data

    def _truncate(self, note: Note) -> None:
        del self._files[note.node].data[note.at :]

    def _sync(self, note: Note) -> None:
        file = self._files[note.node]
        file.certain = bytes(file.data)
        if self._kind is Names.JOURNAL:
            self._certain |= {name: node for name, node in self._names.items() if node == note.node}

    def _sync_names(self, note: Note) -> None:
        def here(name: str) -> bool:
            return os.path.dirname(name) == note.name

        kept = {name: node for name, node in self._certain.items() if not here(name)}
        self._certain = kept | {name: node for name, node in self._names.items() if here(name)}

    def _sync_all(self, note: Note) -> None:
        for file in self._files.values():
            if len(file.certain) != len(file.data) or file.certain != file.data:
                file.certain = bytes(file.data)
        self._certain = dict(self._names)

    def _rename(self, note: Note) -> None:
        self._names[note.other] = self._names.pop(note.name)

    def _unlink(self, note: Note) -> None:
        self._names.pop(note.name, None)

    def _mkdir(self, note: Note) -> None:
        self._directories.append(note.name)
