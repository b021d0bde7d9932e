"""
What a child process of the proxy runs: twistd, behind the proxy where processor time is short.

    python -m logging_proxy.service.child_main NICENESS FOLDER TWISTD_ARGUMENT...
"""

from __future__ import annotations

import os
import sys


def give_way(niceness: int) -> None:
    """
    Let the proxy go first.

    SCHED_BATCH does not interrupt others when it wakes up, but once it runs they wait for it, up to 4 ms.
    On the one processor of a proxy that is the slowest request of a hundred, so there it is
    SCHED_IDLE: 2 ms.  Not where there are more: a machine whose processors are all
    busy, with a model say, would not see its captures.
    """
    os.nice(niceness)
    if sys.platform == "linux":
        apart = len(os.sched_getaffinity(0)) > 1
        os.sched_setscheduler(0, os.SCHED_BATCH if apart else os.SCHED_IDLE, os.sched_param(0))


def main(niceness: str, folder: str, *arguments: str) -> None:
    """
    Run twistd with these arguments, in `folder` and in a process group of its own.

    The keyboard's Ctrl-C is for the proxy, which ends the child when it has nothing more for it.
    Not a session of its own: Linux gives each session the same share (`sched_autogroup`), nice or not.
    """
    os.setpgrp()
    if int(niceness):
        give_way(int(niceness))
    os.chdir(folder)
    sys.argv[1:] = arguments
    from twisted.scripts.twistd import run

    run()


if __name__ == "__main__":
    main(*sys.argv[1:])
