"""
Entry point of a child process: sets its title, lowers its priority, then runs twistd.

    python -m logging_proxy.service.child_main TITLE NICENESS FOLDER TWISTD_ARGUMENT...
"""

from __future__ import annotations

import os
import sys

from logging_proxy.service.title import set_title


def give_way(niceness: int) -> None:
    """
    Lower the priority of this process below the proxy's.

    With SCHED_BATCH a process does not preempt others when it wakes up, but they may wait for
    it once it runs.  On a single processor that delays the proxy's slowest requests, so there the
    policy is SCHED_IDLE.  It is not used on several processors: while other programs keep all of
    them busy, for instance a local model, captures would not be processed.
    """
    os.nice(niceness)
    if sys.platform == "linux":
        apart = len(os.sched_getaffinity(0)) > 1
        os.sched_setscheduler(0, os.SCHED_BATCH if apart else os.SCHED_IDLE, os.sched_param(0))


def main(title: str, niceness: str, folder: str, *arguments: str) -> None:
    """
    Run twistd with these arguments, in `folder` and in a process group of its own.

    The group keeps the terminal's Ctrl-C from the child, which the proxy ends after its own work.
    It is not a session of its own, because Linux gives every session the same share of the
    processor (`sched_autogroup`), whatever its niceness.
    """
    set_title(title)
    os.setpgrp()
    if int(niceness):
        give_way(int(niceness))
    os.chdir(folder)
    sys.argv[1:] = arguments
    from twisted.scripts.twistd import run

    run()


if __name__ == "__main__":
    main(*sys.argv[1:])
