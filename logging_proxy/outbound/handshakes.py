"""The handshake with an outbound proxy, before the connection carries the destination's bytes."""

from __future__ import annotations

from typing import Protocol


class Handshake(Protocol):
    """
    A handshake with a proxy, without I/O.

    The proxy's bytes may be fed in pieces of any size; what `start` and `feed` return
    is to be sent.  After `done` nothing more may be fed, and `rest` holds the bytes
    already received from the destination.
    """

    done: bool
    rest: bytes

    def start(self) -> bytes:
        """The first bytes to send to the proxy.  May raise `ProxyConnectFailed`."""

    def feed(self, data: bytes) -> bytes:
        """Consume bytes from the proxy and return the bytes to send.  May raise `ProxyConnectFailed`."""


class NoHandshake:
    """No handshake: each request names its target instead (absolute-form, RFC 9112 §3.2.2)."""

    def __init__(self) -> None:
        self.done = True
        self.rest = b""

    def start(self) -> bytes:
        return b""

    def feed(self, data: bytes) -> bytes:
        raise AssertionError("nothing is fed to a handshake that is done")
