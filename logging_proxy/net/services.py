"""Twisted's `Service` with type annotations."""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred


class TypedService(Service):
    """A `Service` whose methods strict type checking accepts."""

    def setServiceParent(self, parent: Any) -> None:
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]

    def stopService(self) -> Deferred[None] | None:
        """The Deferred fires when all is stopped; None when it is already."""
        super().stopService()  # type: ignore[no-untyped-call]
        return None
