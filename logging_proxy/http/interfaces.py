"""The interfaces of resources that answer requests."""

from __future__ import annotations

from zope.interface import Interface

from logging_proxy.http.bodies import Piece
from logging_proxy.http.connection import ServerConnection
from logging_proxy.http.faults import RequestFault
from logging_proxy.http.heads import RequestHead
from logging_proxy.http.protocols import Responder


class IExchangeResource(Interface):
    """A resource that answers a request from its head on, while the body is still arriving."""

    def respond(connection: ServerConnection, head: RequestHead, piece: Piece) -> Responder | None:
        """
        Start to answer.

        `piece` is the part of the body that was received with the head, perhaps an empty one, so that both
        can be passed on together.  Returns None when the answer is complete already.  May
        raise `RequestFault` if nothing has been sent yet; with any other exception the connection is
        reset.
        """


class IExchangeRoot(IExchangeResource):
    """The root of a tree of resources, which also answers malformed requests."""

    def refuse(connection: ServerConnection, fault: RequestFault, kept: bytes) -> None:
        """
        Answer a request whose head is malformed, too long or late, and `finish`.

        `kept` is the part of it that was received, or the beginning of that part.
        """
