"""
Ends a program with the one that started it.

The parent holds the other end of the program's standard input and never writes to it.  When the parent
ends, however that comes about (SIGKILL included), the input ends too, on every POSIX system.

    python -m logging_proxy.demo.tether [twistd's arguments]

is twistd, tethered.
"""

from __future__ import annotations

import os
import signal
import threading


def follow_parent() -> None:
    """From now on, the end of standard input is a SIGTERM to this process."""
    threading.Thread(target=_wait_and_end, name="tether", daemon=True).start()


def wait_for_parent() -> None:
    """Return when standard input has ended."""
    # os.read, for a daemon thread inside sys.stdin's lock would be fatal at the interpreter's end.
    while os.read(0, 4096):
        pass


def _wait_and_end() -> None:
    wait_for_parent()
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Run twistd until it ends or the parent does."""
    follow_parent()
    from twisted.scripts.twistd import run

    run()


if __name__ == "__main__":
    main()
