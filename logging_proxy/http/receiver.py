"""What a `ProxyClient` tells whoever its response is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from twisted.python.failure import Failure

if TYPE_CHECKING:
    from logging_proxy.http.bodies import ChunkedReader, LengthReader
    from logging_proxy.http.client import ProxyClient
    from logging_proxy.http.heads import ResponseHead
    from logging_proxy.net.shortcut._compiled import Passage


class ResponseReceiver(Protocol):
    """Who a response is for."""

    def informationalReceived(self, head: ResponseHead) -> None:
        """A 1xx response; the final one is still to come."""

    def switchReceived(self, head: ResponseHead, data: bytes) -> None:
        """
        A 101, and what came behind it.  Calls `switch`.

        Raises `ResponseFault` if nobody has asked for it.
        """

    def headReceived(
        self, head: ResponseHead, payload: bytes, wire: bytes, done: bool, trailers: bytes
    ) -> None:
        """The final response's head, and what of the body came with it."""

    def bodyReceived(self, payload: bytes, wire: bytes, done: bool, trailers: bytes) -> None:
        """More of the body, or its end."""

    def landing(self, most: int) -> memoryview | None:
        """Memory to read the next piece of the body into, at most `most` bytes; None for any."""

    def shortcut(
        self,
        source: ProxyClient,
        body: ChunkedReader | LengthReader,
        now: Callable[[], float],
        patience: float,
    ) -> Passage | None:
        """
        A shorter way for what is usual of `body`, if there is one.

        Each piece gives `source` time until `patience` seconds from `now`.
        """

    def upstreamLost(self, reason: Failure, kept: bytes) -> None:
        """
        The connection failed, or the response was refused, before it was complete.

        `kept` is what came and was not passed on.  The client is of no use any more.
        """
