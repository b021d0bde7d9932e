"""A wait that another event can end early."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Pause:
    """The waits of one loop, of which at most one is going on."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._timer: IDelayedCall | None = None
        self._waiting: Deferred[None] | None = None

    def sleep(self, seconds: float) -> Deferred[None]:
        """Fires after `seconds`, or when `end` is called."""
        waiting: Deferred[None] = Deferred()
        self._waiting = waiting
        self._timer = self._clock.callLater(seconds, self.end)
        return waiting

    def end(self) -> None:
        """Ends the wait that is going on, if there is one."""
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)
