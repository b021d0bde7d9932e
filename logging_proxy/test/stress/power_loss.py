"""Fault test 2: a power loss between any two calls that change files."""

from __future__ import annotations

import hashlib
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from twisted.internet.defer import Deferred

from logging_proxy.configuration.options import LoggingOptions
from logging_proxy.demo.captures import Capture, read_captures
from logging_proxy.logserver.ingest.spools import Spools
from logging_proxy.logserver.store.directory import LogDirectory
from logging_proxy.logserver.store.file_store import FileStore
from logging_proxy.logserver.store.system import System
from logging_proxy.recording.disk import Disk
from logging_proxy.recording.events import Capture as Recorder
from logging_proxy.recording.recorder import Recording
from logging_proxy.recording.records import OUTCOMES, Flag, Kind, RequestHead, encode_request_head
from logging_proxy.test.capture_stage import ThreadedClock
from logging_proxy.test.logserver_spools import Unobserved
from logging_proxy.test.stress.figures import Figure, at_least, exactly, told
from logging_proxy.test.stress.filesystem_trace import Names, Note, Remains, Trace
from logging_proxy.test.stress.stage import Stage

FOREVER = 10_000
"""Pieces of a stream that lasts until the power loss."""

PROMISE = 1.0
"""Seconds of records that may be lost."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Seconds of recording, concurrent streams, and crash points for each kind of file system."""

    seconds: float
    streams: int
    points: int
    names: tuple[Names, ...]


FULL = Scale(seconds=5, streams=10, points=350, names=tuple(Names))
SMALL = Scale(seconds=2, streams=6, points=25, names=(Names.JOURNAL, Names.ALL))


@dataclass(slots=True)
class Stream:
    """The recorded pieces of one exchange's response, with the times at which they were recorded."""

    number: int
    recorder: Recorder
    length: int
    pieces: list[tuple[int, bytes]]

    @property
    def url(self) -> str:
        return f"http://proxy.test/up/{self.number}"

    def until(self, when: int) -> bytes:
        """The bytes recorded up to `when`."""
        return b"".join(data for at, data in self.pieces if at <= when)

    def whole(self) -> bytes:
        return b"".join(data for _, data in self.pieces)


def figures(stage: Stage, scale: Scale) -> Iterator[Figure]:
    """Every `complete` capture has its bytes, at most a second is lost, and every store is readable."""
    root = stage.folder / "true"
    root.mkdir()
    notes, streams = _record(stage.folder, root, scale)
    points = sorted(random.Random(2).sample(range(1, len(notes)), min(scale.points, len(notes) - 1)))
    tally = {"unreadable": 0, "false": 0, "lost": 0, "strange": 0, "complete": 0}
    for names in scale.names:
        remains, played = Remains(names), 0
        for point in points:
            for note in notes[played:point]:
                remains.play(note)
            played, target = point, stage.folder / "left"
            remains.lay_out(root, target)
            _judge(target, notes[point - 1].when, streams, tally)
            shutil.rmtree(target, ignore_errors=True)
    yield told("calls that changed files", len(notes))
    crashes = len(points) * len(scale.names)
    yield at_least("crashes, in sum", crashes, scale.points * len(scale.names))
    yield at_least("`complete` captures found, in sum", tally["complete"], len(points))
    yield exactly("stores that could not be read", tally["unreadable"], 0)
    yield exactly("`complete` without all bytes", tally["false"], 0)
    yield exactly("captures with bytes that were not recorded", tally["strange"], 0)
    yield exactly("captures that lost more than the last second", tally["lost"], 0)


# --- recording under a trace ---------------------------------------------------------------


def _record(folder: Path, root: Path, scale: Scale) -> tuple[list[Note], list[Stream]]:
    clock, streams, source = ThreadedClock(), list[Stream](), random.Random(1)
    rings = folder / "rings"
    rings.mkdir()
    with Trace(root) as trace:
        disk = Disk(trace.open, trace.pwritev, trace.fdatasync)
        recording = Recording(root / "logs/.spool/1", LoggingOptions(ring_dir=str(rings)), clock, disk)
        directory = LogDirectory(str(root / "logs"), System())  # its calls one by one, to be noted
        spools = Spools(FileStore(directory), str(root / "logs/.spool"), time.monotonic, Unobserved())
        recording.start()
        going: list[Stream] = []
        began = time.monotonic()
        while (passed := time.monotonic() - began) < scale.seconds:
            # At first streams begin and end; later they only begin, so that nothing else is stored.
            late = max(0, int((passed - scale.seconds / 3) * scale.streams))
            while len(going) < scale.streams + late:
                length = FOREVER if late else source.choice((1, 5, 50, FOREVER))
                going.append(_begin(recording, len(streams), length, source))
                streams.append(going[-1])
            going = [stream for stream in going if _go_on(stream, source)]
            clock.run_until(lambda: not recording.writer.full)
            spools.turn()
            time.sleep(0.005)
        notes = list(trace.notes)
        stopped = Deferred.fromCoroutine(recording.stop())
        clock.run_until(lambda: stopped.called)
        spools.close()
    return notes, streams


def _begin(recording: Recording, number: int, length: int, source: random.Random) -> Stream:
    capture = recording.recorder.capture()
    url = f"http://proxy.test/up/{number}".encode()
    id, now = source.randbytes(16), time.time_ns()
    opening = RequestHead(id, now, b"127.0.0.1 1", b"up", b"/up/", url, url, b"GET / HTTP/1.1\r\n")
    response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    capture.passed(
        (int(Kind.REQUEST_HEAD), 0, encode_request_head(opening)),
        (int(Kind.REQUEST_PIECE), int(Flag.LAST), b""),
        (int(Kind.RESPONSE_HEAD), 0, response),
    )
    return Stream(number, capture, length, [])


def _go_on(stream: Stream, source: random.Random) -> bool:
    """Record another piece; False if it was the last."""
    data = source.randbytes(source.choice((10, 100, 3000)))
    last = len(stream.pieces) + 1 >= stream.length
    piece = (int(Kind.RESPONSE_PIECE), int(Flag.LAST) if last else 0, data)
    end = ((int(Kind.END), 0, bytes([OUTCOMES.index("complete")])),) if last else ()
    stream.recorder.passed(piece, *end)
    stream.pieces.append((time.monotonic_ns(), data))
    return not last


# --- after the power loss -------------------------------------------------------------------


def _judge(target: Path, when: int, streams: list[Stream], tally: dict[str, int]) -> None:
    """Have a logging server read the surviving files, and compare the result."""
    log_dir = target / "logs"
    _add_session(target)
    if not _take_up(log_dir):
        tally["unreadable"] += 1
        return
    found = {capture.source_url: capture for capture in read_captures(log_dir)}
    for stream in streams:
        capture = found.get(stream.url)
        body = _body(capture)
        safe = stream.until(when - int(PROMISE * 1e9))
        tally["lost"] += len(body) < len(safe)
        tally["strange"] += not stream.whole().startswith(body)
        if capture is not None and capture.outcome == "complete":
            tally["complete"] += 1
            tally["false"] += body != stream.whole() or not _digest_is_true(capture)


def _take_up(log_dir: Path) -> bool:
    """Whether a logging server reads all files without an error."""
    now = time.monotonic()

    def seconds() -> float:
        return now

    spools = Spools(FileStore(LogDirectory(str(log_dir))), str(log_dir / ".spool"), seconds, Unobserved())
    for _ in range(100):
        now += 1
        if not spools.turn():
            break
    settled = spools.settle()
    status = spools.status
    spools.close()
    return settled and not status.trouble


def _add_session(target: Path) -> None:
    """Start the proxy on the surviving files: open exchanges become interrupted."""
    clock, rings = ThreadedClock(), target / "rings"
    rings.mkdir(parents=True)
    recording = Recording(target / "logs/.spool/1", LoggingOptions(ring_dir=str(rings)), clock)
    recording.start()
    stopped = Deferred.fromCoroutine(recording.stop())
    clock.run_until(lambda: stopped.called)


def _body(capture: Capture | None) -> bytes:
    return capture.response.body if capture is not None and capture.response is not None else b""


def _digest_is_true(capture: Capture) -> bool:
    digests = [(half.metadata["sha256"], hashlib.sha256(half.body).hexdigest()) for half in capture.halves]
    return all(said == true for said, true in digests)
