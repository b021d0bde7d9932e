"""What `ps` shows of a process."""

from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SkipTest, SynchronousTestCase

PROGRAM = """
import sys
from logging_proxy.service.title import set_title
set_title(sys.argv[1])
print(open("/proc/self/cmdline").read().rstrip(chr(0)), open("/proc/self/comm").read(), sys.argv[1], sep="|")
"""


class TitleTests(SynchronousTestCase):
    def shown(self, title: str) -> list[str]:
        if sys.platform != "linux":
            raise SkipTest("there is no /proc")
        command = [sys.executable, "-c", PROGRAM, title]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.replace("\n", "").split("|")

    def test_shown(self) -> None:
        """The title takes the place of the command line, and the program's arguments stay."""
        title = "logging-proxy: worker 2 of 4"
        self.assertEqual(self.shown(title), [title, "worker-2-of-4", title])

    def test_long(self) -> None:
        """A title that does not fit is cut."""
        title = "p: " + "x" * 5000
        command, name, argument = self.shown(title)
        self.assertEqual((name, argument), ("x" * 15, title))
        self.assertTrue(title.startswith(command))
