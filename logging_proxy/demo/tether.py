"""
Ends a program when its parent ends.

The parent holds the other end of the program's standard input and never writes to it.  When the
parent ends in any way, SIGKILL included, the program reads EOF; this works on every POSIX system.

    python -m logging_proxy.demo.tether [twistd's arguments]

runs twistd in this way.
"""

from __future__ import annotations

import os
import signal
import threading


def follow_parent() -> None:
    """Send SIGTERM to this process on EOF on standard input."""
    threading.Thread(target=_wait_and_end, name="tether", daemon=True).start()


def wait_for_parent() -> None:
    """Return on EOF on standard input."""
    # os.read and not sys.stdin: a daemon thread that holds its lock is fatal when the interpreter exits.
    while os.read(0, 4096):
        pass


def _wait_and_end() -> None:
    wait_for_parent()
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Run twistd until it ends or its parent does."""
    follow_parent()
    from twisted.scripts.twistd import run

    run()


if __name__ == "__main__":
    main()
