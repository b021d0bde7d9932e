"""Disks that fail and processes that are killed, in small; `make stress` does the same at full size."""

from __future__ import annotations

from logging_proxy.test.e2e.faults import FaultCase
from logging_proxy.test.stress import bad_disk, damaged_segment, full_disk, killed, power_loss, stalled_disk


class DiskTests(FaultCase):
    def test_killed(self) -> None:
        """After `kill -9`, every byte that a client got is in the capture."""
        self.hold(killed)

    def test_power_loss(self) -> None:
        """After a power loss, at most a second is missing, and nothing is called complete that is not."""
        self.hold(power_loss)

    def test_full_disk(self) -> None:
        """A full disk costs captures, which are counted, or requests, which are refused; never both."""
        self.hold(full_disk)

    def test_bad_disk(self) -> None:
        """So does a disk that refuses; a directory that is removed is made again."""
        self.hold(bad_disk)

    def test_stalled_disk(self) -> None:
        """A disk that does not answer holds up what is recorded, nothing else, and loses nothing."""
        self.hold(stalled_disk)

    def test_damaged_segment(self) -> None:
        """Flipped bits in the spool cost the blocks that they are in, and no capture lies."""
        self.hold(damaged_segment)
