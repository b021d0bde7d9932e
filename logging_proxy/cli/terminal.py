"""Output of the commands, to a terminal or a pipe: lines, bytes, and lines that are redrawn."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TextIO

from logging_proxy.cli.paint import Paint, cut_painted

_UP_AND_CLEAR = "\x1b[{}F\x1b[J"


class Terminal:
    """Standard output, and standard error for notes; `columns` is None for a pipe."""

    def __init__(self, out: TextIO, err: TextIO, paint: Paint, columns: int | None, rows: int = 24) -> None:
        self.out = out
        self.err = err
        self.paint = paint
        self.columns = columns
        self.rows = rows
        self._changing = 0

    @property
    def is_terminal(self) -> bool:
        return self.columns is not None

    def lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.out.write(line + "\n")

    def pieces(self, pieces: Iterable[str]) -> None:
        """Write one text that comes in pieces, and a line end."""
        for piece in pieces:
            self.out.write(piece)
        self.out.write("\n")

    def line(self, line: str) -> None:
        """Write one line and flush it."""
        self.out.write(line + "\n")
        self.out.flush()

    def write_bytes(self, data: bytes) -> None:
        """Write bytes unchanged."""
        self.out.flush()
        self.out.buffer.write(data)

    def note(self, text: str) -> None:
        """Print a note on standard error."""
        self.err.write(f"logging-proxy: {text}\n")
        self.err.flush()

    def change(self, lasting: Iterable[str], changing: list[str]) -> None:
        """Replace the lines last passed as `changing` by `lasting`, then the new `changing`."""
        parts = [_UP_AND_CLEAR.format(self._changing)] if self._changing else []
        parts += [f"{line}\n" for line in lasting]
        if self.is_terminal:
            shown = [cut_painted(line, (self.columns or 80) - 1) for line in changing]
            shown = shown[-max(1, self.rows - 2) :]
            parts += [f"{line}\n" for line in shown]
            self._changing = len(shown)
        if parts:
            self.out.write("".join(parts))
            self.out.flush()


class Progress:
    """A progress bar on standard error, if that is a terminal."""

    WIDTH = 30

    def __init__(self, err: TextIO, label: str) -> None:
        self._err = err
        self._label = label
        self._shown = ""

    def show(self, done: int, total: int | None, words: str) -> None:
        """Show the progress; without a total, only the words."""
        if not self._err.isatty():
            return
        if total is None:
            line = f"{self._label} {words}"
        else:
            filled = self.WIDTH * min(done, total) // max(1, total)
            share = 100 * min(done, total) // max(1, total)
            line = f"{self._label} [{'#' * filled}{'.' * (self.WIDTH - filled)}] {share:3} %  {words}"
        if line != self._shown:
            self._err.write(f"\r\x1b[K{line}")
            self._err.flush()
            self._shown = line

    def clear(self) -> None:
        if self._shown:
            self._err.write("\r\x1b[K")
            self._err.flush()
            self._shown = ""


def columns_of(stream: TextIO) -> tuple[int, int] | None:
    """The size of a stream's terminal, or None for a pipe."""
    try:
        if not stream.isatty():
            return None
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return None
    return size.columns or 80, size.lines or 24


def tolerate_any_text(*streams: TextIO) -> None:
    """Write characters that a stream's encoding lacks as escapes."""
    for stream in streams:
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def open_standard_streams() -> None:
    """Open closed standard streams on the null device, so that no other file gets their descriptors."""
    null = os.open(os.devnull, os.O_RDWR)
    while null <= 2:
        null = os.dup(null)
    os.close(null)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)


def discard_output() -> None:
    """The output was closed by its reader: discard what is buffered, so that exiting raises no error."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(null, stream.fileno())
    os.close(null)
