"""Checks of this machine: disk, ring buffer, clock, and the parts that may be missing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

from logging_proxy.captures import heads
from logging_proxy.captures.names import CAPTURE_FILE
from logging_proxy.cli.doctor.check import Check, fail, ok, warn
from logging_proxy.configuration import Configuration
from logging_proxy.net import shortcut
from logging_proxy.recording.directories import UnsafeDirectory, check_private
from logging_proxy.recording.disk import spool_size
from logging_proxy.recording.recorder import RING_SIZE
from logging_proxy.recording.rings import LEAST_SIZE, SHARE
from logging_proxy.recording.telling import told_trouble
from logging_proxy.service.bootstrap import spool_root, worker_count
from logging_proxy.service.run import any_is_read

MIB = 1 << 20
LITTLE_SPACE, NO_SPACE = 1024 * MIB, 64 * MIB
FEW_FILES = 40_000
"""An exchange has four files."""

MUCH_WAITING = 64 * MIB
EARLIEST = datetime(2025, 1, 1)
"""A clock that is earlier was never set."""

AHEAD = timedelta(minutes=5)

Space = Callable[[Path], os.statvfs_result]


def check_disk(configuration: Configuration, space: Space = os.statvfs) -> Iterator[Check]:
    """The directories of captures and spools: permissions, free space, and what waits in the spools."""
    root = spool_root(configuration)
    if configuration.embedded:
        yield _directory("log_dir", Path(configuration.logging_server.log_dir).absolute(), space)
    if not configuration.embedded or configuration.logging.spool_dir is not None:
        yield _directory("spool", root, space)
    yield from _spools(root)


def _directory(name: str, path: Path, space: Space) -> Check:
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    what = str(path) if there == path else f"{path} (not made yet)"
    if not there.is_dir():
        return fail(name, f"{there}: not a directory", "set logging_server.log_dir to another one")
    if not os.access(there, os.W_OK | os.X_OK):
        return fail(name, f"{there}: not writable", "change its permissions, or logging_server.log_dir")
    if there == path and name == "log_dir":
        try:
            check_private(str(path), os.stat(path))
        except UnsafeDirectory as error:
            return fail(name, str(error), "captures hold keys: chmod go-w, or own it")
    return _space(name, what, space(there))


def _space(name: str, what: str, found: os.statvfs_result) -> Check:
    free = found.f_bavail * found.f_frsize
    text = f"{what}: {_size(free)} free"
    if free < NO_SPACE:
        return fail(name, text, "make room: captures will be lost")
    if free < LITTLE_SPACE:
        return warn(name, text, "make room, or set logging_server.retention")
    if found.f_files and found.f_favail < FEW_FILES:
        return warn(name, f"{text}, room for {found.f_favail} files", "an exchange has four files")
    return ok(name, text)


def _spools(root: Path) -> Iterator[Check]:
    try:
        spools = sorted(each for each in root.iterdir() if each.is_dir() and not each.is_symlink())
    except OSError:
        return
    for spool in spools:
        trouble = told_trouble(str(spool))
        if trouble:
            yield fail(
                "spool", f"{spool}: its proxy cannot write: {trouble}", "make room, or repair the disk"
            )
    waiting = sum(map(spool_size, spools))
    if waiting > MUCH_WAITING and not any_is_read(root):
        text = f"{root}: {_size(waiting)} are waiting to be stored"
        yield warn("spool", text, "start the proxy or the logging server, which stores them")


def check_ring(configuration: Configuration, space: Space = os.statvfs) -> Check:
    """The ring buffer's directory, which should be in memory."""
    path = Path(configuration.logging.ring_dir)
    advice = "set logging.ring_dir to a directory in memory; until then the ring lies on the disk"
    if not path.is_dir():
        return warn("ring", f"{path}: no such directory", advice)
    if not os.access(path, os.W_OK | os.X_OK):
        return warn("ring", f"{path}: not writable", advice)
    found = space(path)
    free, workers = found.f_bavail * found.f_frsize, worker_count(configuration)
    share = free // (SHARE * workers)
    text = f"{path}: {_size(free)} free"
    if share < LEAST_SIZE:
        return warn("ring", text, advice)
    if share < RING_SIZE:
        return warn(
            "ring", text, f"with {_size(SHARE * workers * RING_SIZE)} large bodies are recorded faster"
        )
    return ok("ring", text)


def check_clock(
    configuration: Configuration,
    now: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
) -> Check:
    """Whether the clock is set, runs forward, and is not behind the newest capture."""
    local = datetime.fromtimestamp(now())
    if monotonic() > monotonic():
        return fail("clock", "the monotonic clock runs backwards", "times of captures would be wrong")
    if local < EARLIEST:
        return fail("clock", f"it is {local:%Y-%m-%d %H:%M}", "set the clock")
    newest = _newest(configuration.logging_server.log_dir)
    if newest is not None and newest > local + AHEAD:
        text = f"it is {local:%Y-%m-%d %H:%M}, and the newest capture is of {newest:%Y-%m-%d %H:%M}"
        return warn(
            "clock", text, "set the clock, or expect that retention and --since mistake these captures"
        )
    return ok("clock", f"{local:%Y-%m-%d %H:%M:%S} {time.strftime('%z')}")


def _newest(log_dir: str) -> datetime | None:
    """The local time in the last of the names of captures."""
    try:
        names = [entry.name for entry in os.scandir(log_dir) if CAPTURE_FILE.fullmatch(entry.name)]
    except OSError:
        return None
    try:
        return datetime.strptime(max(names)[:19], "%Y-%m-%d_%H-%M-%S") if names else None
    except ValueError:
        return None


def check_parts() -> Iterator[Check]:
    """The parts that make the proxy faster, and those that decode bodies."""
    modules = "modules compiled" if not heads.__file__.endswith(".py") else "modules in Python"
    if shortcut.trouble is not None:
        text = f"no part in C ({shortcut.trouble}), {modules}"
        yield warn("parts", text, "install a C compiler and Python's headers, then logging-proxy again")
    else:
        yield ok("parts", f"{'part in C' if shortcut.compiled else 'part in C switched off'}, {modules}")
    codings = {"br": ("brotlicffi",), "zstd": ("compression.zstd", "backports.zstd")}
    missing = [coding for coding, names in codings.items() if not any(map(_is_installed, names))]
    if missing:
        text = f"bodies in {' and '.join(missing)} are captured, but cannot be decoded"
        yield warn("decoders", text, "pip install 'logging-proxy[compression]'")
    else:
        yield ok("decoders", "gzip, deflate, br, zstd")


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _size(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / MIB:.0f} MiB"
