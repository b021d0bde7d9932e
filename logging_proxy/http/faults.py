"""What can be wrong with a message, named by whose fault it is."""

from __future__ import annotations


class RequestFault(Exception):
    """The client sent no acceptable request; it is answered `status` and the connection closed."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.answer = b""
        """What to answer, where whoever was told of the fault has recorded it; else that is made up."""


class ClientGivenUp(Exception):
    """The client did not go on in time, and its connection is reset; the text says with what."""


class ResponseFault(Exception):
    """The upstream sent what is not an acceptable response; the connection to it is not used again."""
