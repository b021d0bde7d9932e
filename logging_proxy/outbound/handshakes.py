"""What is said to an outbound proxy before the bytes are the destination's own."""

from __future__ import annotations

from typing import Protocol


class Handshake(Protocol):
    """
    One conversation with a proxy, without I/O.

    The proxy's bytes are fed however they are cut; what `start` and `feed` return
    is sent.  Once `done`, nothing more is fed, and `rest` is what already came
    from the destination.
    """

    done: bool
    rest: bytes

    def start(self) -> bytes:
        """The first bytes for the proxy.  May raise `ProxyConnectFailed`."""

    def feed(self, data: bytes) -> bytes:
        """The answer to more bytes of the proxy's.  Raises `ProxyConnectFailed`."""


class NoHandshake:
    """For proxies that are not asked to connect, but for each request (absolute-form, RFC 9112 §3.2.2)."""

    def __init__(self) -> None:
        self.done = True
        self.rest = b""

    def start(self) -> bytes:
        return b""

    def feed(self, data: bytes) -> bytes:
        raise AssertionError("nothing is fed to a handshake that is done")
