"""
Direct reads and writes on Twisted's transports, and other questions that a transport cannot answer.

`transport.write` only queues: the bytes leave one reactor iteration and two
`epoll_ctl` calls later.  When nothing is queued they can be sent at once, which
is much cheaper for small events.  That requires private
names of Twisted's transport.  They are used only here and in the C extension
(`shortcut`); if one is missing, the first connection fails with an
AttributeError.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import select
import socket
import struct
import termios
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL
from twisted.internet import abstract, tcp
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, INegotiated, ITransport
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import alsoProvides

from logging_proxy.net import shortcut
from logging_proxy.net.keepalive import keep_alive
from logging_proxy.net.pacing import is_local

if TYPE_CHECKING:
    from logging_proxy.net.shortcut._compiled import Reader

LARGEST_READ = 262144
"""Bytes of a large read, used while much data arrives; small reads stay at Twisted's 64 KiB."""

LOCAL_QUEUE = 1 << 20
"""
Receive buffer in bytes for peers on this machine; Linux doubles it for its own bookkeeping.

As large as the largest read: if it is smaller, reads are often not filled; if it is much
larger, the data has left the processor's cache when it is read.
"""

MOST_READS = 8
"""Reads after which an idle connection that still receives data is not used again."""

Send = Callable[[bytes], bool]
"""Sends or queues bytes; True when all of them have been sent."""


_LEFT_FOR_A_READ = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR, errno.ENOBUFS, errno.EPIPE})
"""
Errors of a send after which a read still reports how the connection ended.

Any other error, for example a reset, was pending on the socket, and the send has consumed it:
the following read reports an orderly end.  EPIPE is different: the peer had ended
its direction before it reset the connection, and a read reports exactly that.
"""


def sender(transport: ITransport, failed: Callable[[], object] = lambda: None) -> Send:
    """
    A function that sends on `transport`.

    It is chosen once per connection: direct sends are for plain TCP only.  On a
    TLS transport they would bypass the encryption.

    `failed` is called when a send has found the connection lost, and has consumed the
    error that the next read would have reported.  (`transport.write` needs no such call:
    the transport reports the loss itself when its own send fails.)
    """
    if isinstance(transport, tcp.Connection) and not transport.TLS:
        _require(
            transport, "connected", "disconnecting", "dataBuffer", "_tempDataBuffer", "_writeDisconnecting"
        )
        return shortcut.sender(transport, failed) or _direct(transport, failed)

    def queue(data: bytes) -> bool:
        transport.write(bytes(data))
        return False

    return queue


def _direct(transport: tcp.Connection, failed: Callable[[], object]) -> Send:
    send_some = transport.socket.send

    def send(data: bytes) -> bool:
        if not data:
            return True
        if (
            transport.dataBuffer
            or transport._tempDataBuffer
            or not transport.connected
            or transport.disconnecting
            or transport._writeDisconnecting
        ):
            transport.write(bytes(data))
            return False
        try:
            sent = send_some(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            # The reactor's own send will fail as well and report the loss, unless a read comes first.
            sent = 0
            if error.errno not in _LEFT_FOR_A_READ:
                failed()
        if sent == len(data):
            return True
        transport.write(memoryview(data)[sent:].tobytes())
        return False

    return send


def lost(reason: Failure) -> Failure:
    """The reason of a connection's end after a send has `failed`: never an orderly end."""
    return Failure(CONNECTION_LOST) if reason.check(ConnectionDone) else reason


def read_directly(
    transport: Any, received: Callable[[bytes], object], read_buffer: Callable[[], memoryview | None]
) -> Reader | None:
    """
    Pass bytes that `transport` reads to `received`, until `read_no_more`.

    This saves Twisted's own calls, and those of the wrappers that
    endpoints put around a protocol.  A connection that fills a read gets larger ones,
    as long as they are filled well enough, and these go into the memory that
    `read_buffer` returns: `received` then gets a view, which is valid during the call.
    As with sending, this is for plain TCP only; other transports stay as they are.

    The returned reader, if any, can be given a `FastPath`.
    """
    if not isinstance(transport, tcp.Connection) or transport.TLS:
        return None
    _require(transport, "bufferSize", "doRead")
    reader = shortcut.reader(transport, received, read_buffer, _keep_queue_short, LARGEST_READ)
    transport.doRead = reader or _reading(transport, received, read_buffer)  # type: ignore[method-assign,assignment]
    return reader


def _reading(
    transport: tcp.Connection,
    received: Callable[[bytes], object],
    read_buffer: Callable[[], memoryview | None],
) -> Callable[[], Exception | None]:
    receive_some, receive_into = transport.socket.recv, transport.socket.recv_into
    size = smallest = transport.bufferSize

    def read() -> Exception | None:
        nonlocal size
        data: Any  # bytes, or a view that is used like them
        try:
            buffer = read_buffer() if size > smallest else None
            data = receive_some(size) if buffer is None else buffer[: receive_into(buffer)]
        except BlockingIOError:
            return None
        except OSError:
            lost: Exception = CONNECTION_LOST
            return lost
        if not data:
            done: Exception = CONNECTION_DONE
            return done
        if len(data) == size:
            if size == smallest:
                _keep_queue_short(transport.socket)
            size = LARGEST_READ
        elif len(data) < smallest:
            size = smallest
        received(data)
        return None

    return read


def _keep_queue_short(of: socket.socket) -> None:
    """
    Limit the receive buffer if the peer is on this machine and sends much data.

    Linux lets the buffer grow to 32 MiB, and data from the end of a long queue has left
    the processor's cache when it is read.  A remote peer needs the buffer, for data in
    transit.
    """
    with contextlib.suppress(OSError):
        if of.family == socket.AF_UNIX or is_local(of.getpeername()[0]):
            of.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LOCAL_QUEUE)


def read_no_more(transport: Any) -> None:
    """Remove our `doRead`, which holds the protocol; otherwise a lost connection is a reference cycle."""
    vars(transport).pop("doRead", None)


def discard_data(data: bytes) -> bool:
    """The sender or receiver of a connection that is lost; the real one would keep the transport alive."""
    return True


def queue_length(transport: ITransport) -> Callable[[], int]:
    """
    A function that returns how many bytes are queued in this process, unsent.

    Under TLS these are encrypted bytes.  Always 0 on a transport that does not tell.
    """
    below = _plain_transport(transport)
    if not isinstance(below, abstract.FileDescriptor):
        return lambda: 0
    _require(below, "dataBuffer", "offset", "_tempDataLen")
    return partial(_queued, below)


def _queued(below: Any) -> int:
    waiting: int = len(below.dataBuffer) - below.offset + below._tempDataLen
    return waiting


def unreceived(transport: Any) -> int:
    """How many bytes written to `transport` its peer has not acknowledged, as far as can be determined."""
    below = _plain_transport(transport)
    if not isinstance(below, tcp.Connection) or not below.connected:
        return 0
    queued = _queued(below)
    try:
        (kernel,) = struct.unpack("i", fcntl.ioctl(below.socket, termios.TIOCOUTQ, bytes(4)))
    except OSError:  # not every system supports this for sockets
        return queued
    return queued + int(kernel)


def _plain_transport(transport: Any) -> Any:
    """The transport below all layers of TLS."""
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport


def half_closer(transport: ITransport) -> Callable[[], None] | None:
    """
    A function that ends our direction of `transport` once its queue is sent; None if it cannot half-close.

    TLS cannot, and its transports would pass the call to the connection
    below, ahead of data that is not encrypted yet.
    """
    if INegotiated.providedBy(transport) or getattr(transport, "TLS", False):
        return None
    half_close: Callable[[], None] | None = getattr(transport, "loseWriteConnection", None)
    return half_close


def end_sending(transport: Any, hurry: Callable[[], None]) -> None:
    """Half-close `transport`; under TLS, which cannot, call `hurry` and close it."""
    half_close = half_closer(transport)
    if half_close is not None:
        half_close()
    else:
        hurry()
        transport.loseConnection()


def enable_half_close(transport: Any, protocol: Any) -> None:
    """
    Report the end of the peer's direction as `protocol.readConnectionLost`, and keep the connection.

    Needed for protocols that endpoints have wrapped: the wrappers declare that they
    do not support half-close.  Under TLS nothing changes.
    """
    if half_closer(transport) is not None:
        alsoProvides(protocol, IHalfCloseableProtocol)
        transport.protocol = protocol


def readable_check(transport: ITransport) -> Callable[[], bool]:
    """
    A function that tells whether an idle connection is readable: at its end, or with unexpected data.

    Made once per connection, valid until it is lost.  The check is a single system
    call, and saves a request from being sent on a connection that the peer has closed
    and the reactor has not noticed yet.
    Under TLS the readable data may also belong to TLS itself (see `outlives_a_read`).
    """
    below = _plain_transport(transport)
    if not isinstance(below, tcp.Connection):
        return lambda: False
    poller = select.poll()
    poller.register(below.fileno(), select.POLLIN)
    return lambda: bool(poller.poll(0))


def looks_closed(transport: ITransport) -> bool:
    """A single check with `readable_check`."""
    return readable_check(transport)()


def outlives_a_read(transport: Any, look: Callable[[], bool]) -> bool:
    """
    Whether an idle connection that `look` has found readable is still open after reading.

    Under TLS it is read now, before the reactor would do so.  Session tickets and key updates
    leave the connection usable; a close_notify, an alert, an end or unexpected data
    do not, and the encrypted bytes do not tell which it is.  Over plain TCP
    anything readable makes it unusable.
    """
    below = _plain_transport(transport)
    if below is transport:
        return False
    for _ in range(MOST_READS):
        if below.doRead() is not None or _is_closing(transport):
            return False
        if not look():
            return True
    return False


def _is_closing(transport: Any) -> bool:
    """Whether any layer of `transport` is closing."""
    while isinstance(transport, ProtocolWrapper):
        if transport.disconnecting:
            return True
        transport = transport.transport
    return bool(transport.disconnecting)


def closed_by_peer(transport: Any) -> bool:
    """Whether a TLS peer has sent close_notify: the data is complete, however the TCP connection ended."""
    if not isinstance(transport, TLSMemoryBIOProtocol):
        return False
    connection = transport.getHandle()
    return connection is not None and bool(connection.get_shutdown() & SSL.RECEIVED_SHUTDOWN)


def keep_probing(transport: ITransport) -> None:
    """Enable keepalive probes on a connection made from here (see `keepalive`)."""
    below = _plain_transport(transport)
    if isinstance(below, tcp.Connection):
        keep_alive(below.socket)


def _require(transport: abstract.FileDescriptor, *names: str) -> None:
    """Check for private names, which Twisted may drop without notice: fail now rather than during traffic."""
    for name in names:
        getattr(transport, name)
