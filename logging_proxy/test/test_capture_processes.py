"""Real processes: killed while they record, or stopped by a real limit; and nothing is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from logging_proxy.recording.records import Kind, Record
from logging_proxy.recording.rings import salvage_all
from logging_proxy.test.capture_stage import records, segments, stream

ROUNDS = 6

WRITER = """
import resource
import sys
from pathlib import Path
from twisted.internet.defer import Deferred
from logging_proxy.recording.recorder import Recording
from logging_proxy.configuration.options import LoggingOptions
from logging_proxy.test.capture_stage import ThreadedClock

directory, ring_directory, size, count, largest = sys.argv[1:]
clock = ThreadedClock()
recording = Recording(Path(directory), LoggingOptions(ring_dir=ring_directory), clock)
if int(largest):  # the ring is larger, and there already
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(largest), int(largest)))
recording.start()
capture = recording.recorder.capture()
for number in range(int(count)):
    capture.passed((2, 0, number.to_bytes(4, "big") + bytes(int(size))))
    clock.run_until(lambda: not recording.writer.full)
    # What is said here has been passed on: it must be found later, whatever happens now.
    print(number, flush=True)
Deferred.fromCoroutine(recording.stop())
"""


class Writer:
    """A process that records numbered pieces, and says each number after it."""

    def __init__(
        self, spool: Path, rings: Path, size: int = 1000, count: int = 10**9, largest: int = 0
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(spool), str(rings), str(size), str(count), str(largest)],
            stdout=subprocess.PIPE,
            text=True,
            env=dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path))),
        )

    def read(self, lines: int) -> int:
        """The last number of so many."""
        assert self.process.stdout is not None
        last = -1
        for _ in range(lines):
            last = int(self.process.stdout.readline())
        return last

    def kill(self) -> int:
        """Kill it; the last number that it has said."""
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGKILL)
        rest = self.process.stdout.read().rpartition("\n")[0].splitlines()
        self.process.stdout.close()
        self.process.wait(60)
        return int(rest[-1]) if rest else -1


class ProcessCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(self.mktemp()).absolute()
        self.rings = Path(self.mktemp()).absolute()
        self.rings.mkdir(parents=True)
        self.spool = self.root / "5601"

    def numbers(self, found: list[Record]) -> list[int]:
        return [int.from_bytes(each.payload[:4], "big") for each in found if each.kind is Kind.REQUEST_PIECE]


class KillTests(ProcessCase):
    def test_every_piece(self) -> None:
        """Whenever a process is killed, everything that it passed on is in its ring or its segments."""
        for number in range(ROUNDS):
            spool = self.root / str(number)
            writer = Writer(spool, self.rings)
            before = writer.read(1 + 400 * number)
            said = max(before, writer.kill())
            salvage_all(self.root)
            numbers = self.numbers(records(spool))
            self.assertEqual(numbers, list(range(len(numbers))))
            self.assertGreaterEqual(len(numbers), said + 1)
        self.assertEqual(list(self.rings.iterdir()), [])

    def test_next_session(self) -> None:
        """A new process goes on behind what the killed one left, in a session of its own."""
        said = []
        for _ in range(3):
            writer = Writer(self.spool, self.rings)
            before = writer.read(300)
            said.append(max(before, writer.kill()))
        salvage_all(self.root)
        sessions: list[list[Record]] = []
        for record in records(self.spool):
            if record.kind is Kind.SESSION:
                sessions.append([])
            sessions[-1].append(record)
        self.assertEqual(len(sessions), 3)
        for last, found in zip(said, sessions, strict=True):
            numbers = self.numbers(found)
            self.assertEqual(numbers, list(range(len(numbers))))
            self.assertGreaterEqual(len(numbers), last + 1)


class LimitTests(ProcessCase):
    def test_largest_file(self) -> None:
        """Where files may not grow (RLIMIT_FSIZE), segments are cut short, and nothing is lost."""
        writer = Writer(self.spool, self.rings, size=3000, count=1500, largest=1 << 20)
        writer.read(1500)
        writer.process.wait(30)
        assert writer.process.stdout is not None
        writer.process.stdout.close()
        salvage_all(self.root)
        self.assertEqual(self.numbers(records(self.spool)), list(range(1500)))
        self.assertGreater(len(segments(self.spool)), 3)
        largest = max(path.stat().st_size for path in self.spool.glob("*.seg"))
        self.assertLessEqual(largest, 1 << 20)

    def test_full_file_system(self) -> None:
        """On a file system that is really full nothing is lost either, once there is room again."""
        mounted = self.mount()
        filler = mounted / "filler"
        filler.write_bytes(bytes(3 << 20))
        writer = Writer(mounted / "5601", self.rings, size=3000, count=1000)
        writer.read(900)  # 2.7 MB: more than there is room for, less than the ring holds
        filler.unlink()
        writer.read(100)
        writer.process.wait(30)
        assert writer.process.stdout is not None
        writer.process.stdout.close()
        salvage_all(mounted)
        self.assertEqual(self.numbers(records(mounted / "5601")), list(range(1000)))
        self.assertGreater(len(stream(mounted / "5601")), 3_000_000)

    def mount(self) -> Path:
        """A tmpfs of 4 MiB, or the test is skipped."""
        folder = Path(tempfile.mkdtemp(prefix="logging-proxy-test-"))
        self.addCleanup(os.rmdir, folder)
        command = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            raise SkipTest(f"mount: {error}") from None
        if done.returncode:
            raise SkipTest(f"a file system cannot be mounted here: {done.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", str(folder)], check=True)
        return folder
