"""What the engine relies on in the resources that answer requests."""

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

        `piece` is what has come of the body together with the head, perhaps nothing, perhaps all of it,
        so that both can be passed on at once.  Returns None when the answer is complete already.  May
        raise `RequestFault` if nothing has been sent yet; with any other exception the connection is
        reset.
        """


class IExchangeRoot(IExchangeResource):
    """The root of a tree of resources, which answers what is no request as well."""

    def refuse(connection: ServerConnection, fault: RequestFault, kept: bytes) -> None:
        """
        Answer a request whose head is malformed, too long or late, and `finish`.

        `kept` is what came of it, or the beginning of that.
        """
