"""What the engine relies on in the resources that answer requests."""

from __future__ import annotations

from zope.interface import Interface

from logging_proxy.http.connection import ServerConnection
from logging_proxy.http.faults import RequestFault
from logging_proxy.http.heads import RequestHead
from logging_proxy.http.protocols import Responder


class IExchangeResource(Interface):
    """A resource that answers a request from its head on, while the body is still arriving."""

    def respond(
        connection: ServerConnection,
        head: RequestHead,
        payload: bytes,
        wire: bytes,
        done: bool,
        trailers: bytes,
    ) -> Responder | None:
        """
        Start to answer.

        The body's first bytes come along (perhaps none, perhaps all of it, then
        `done` is true), so that head and body can be passed on together.  None
        when the answer is complete already.  May raise `RequestFault`, if nothing
        has been sent yet; with any other exception the connection is reset.
        """


class IExchangeRoot(IExchangeResource):
    """The root of a tree of resources, which answers what is no request as well."""

    def refuse(connection: ServerConnection, fault: RequestFault, kept: bytes) -> None:
        """
        Answer a request whose head is malformed, too long or late, and `finish`.

        `kept` is what came of it, or the beginning of that.
        """
