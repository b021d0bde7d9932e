"""
Sending at once, reading by the shortest way, and what else a transport is asked.

`transport.write` only queues: the bytes leave one reactor turn and two
`epoll_ctl` calls later.  When nothing is queued they can leave at once, which
saves a third of what passing on one small event costs.  That needs private
names of Twisted's transport; they are used here and in the part in C that does
the same (`shortcut`), and one that is missing is an AttributeError as soon as a
connection is made.
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
"""Bytes of one read where much comes at once; small reads stay at Twisted's 64 KiB."""

LOCAL_QUEUE = 1 << 20
"""
Bytes that wait to be read from a peer on this machine; Linux takes it twice, for its own part.

As many as one read takes at most: with half of them the next read often finds less than it could
have, with four times as many what it finds has left the processor's cache.
"""

MOST_READS = 8
"""Reads after which an idle connection to which something still comes is no good."""

Send = Callable[[bytes], bool]
"""Sends or queues bytes; True when all of them have left."""


_STILL_TO_BE_READ = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR, errno.ENOBUFS, errno.EPIPE})
"""
Errors of a send after which a read still tells how the connection ended.

Any other error was pending on the socket, a reset for example, and a send takes it away:
the read that follows finds an end in good order.  EPIPE is not such an error.  It says that
the peer had ended its sending before it reset the connection, and a read finds exactly that.
"""


def sender(transport: ITransport, failed: Callable[[], object] = lambda: None) -> Send:
    """
    How to send on `transport` from now on.

    Decided once for a connection: the direct way is for plain TCP alone.  A
    TLS transport would pass it through to the socket below, in clear.

    `failed` is called when a send has met the loss of the connection, and has taken the
    error that the next read would have reported.  (`transport.write` needs no such call:
    the transport itself reports the loss when its own attempt fails.)
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
            # The reactor's own attempt fails as well and reports the loss, unless a read comes first.
            sent = 0
            if error.errno not in _STILL_TO_BE_READ:
                failed()
        if sent == len(data):
            return True
        transport.write(memoryview(data)[sent:].tobytes())
        return False

    return send


def lost(reason: Failure) -> Failure:
    """Why a connection has ended of which a send has `failed`: not in good order, whatever `reason` says."""
    return Failure(CONNECTION_LOST) if reason.check(ConnectionDone) else reason


def read_directly(
    transport: Any, received: Callable[[bytes], object], landing: Callable[[], memoryview | None]
) -> Reader | None:
    """
    From now on what `transport` reads goes to `received`, until `read_no_more`.

    Without the calls in between, which are Twisted's own and those of what
    endpoints wrap around a protocol: 1 µs less for each read.  A connection that
    fills a read has larger ones from then on, as long as they are worth it, and those go
    where `landing` says: `received` then has a view of that memory, for as long as it
    runs.  As with sending, this is for plain TCP alone, and anything else stays as it is.

    What is returned, if anything, can be given a shorter way still.
    """
    if not isinstance(transport, tcp.Connection) or transport.TLS:
        return None
    _require(transport, "bufferSize", "doRead")
    reader = shortcut.reader(transport, received, landing, _keep_queue_short, LARGEST_READ)
    transport.doRead = reader or _reading(transport, received, landing)  # type: ignore[method-assign,assignment]
    return reader


def _reading(
    transport: tcp.Connection, received: Callable[[bytes], object], landing: Callable[[], memoryview | None]
) -> Callable[[], Exception | None]:
    receive_some, receive_into = transport.socket.recv, transport.socket.recv_into
    size = smallest = transport.bufferSize

    def read() -> Exception | None:
        nonlocal size
        data: Any  # bytes, or a view that is used like them
        try:
            land = landing() if size > smallest else None
            data = receive_some(size) if land is None else land[: receive_into(land)]
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
    Much comes from this peer: when it is on this machine, let it wait rather than its bytes.

    Linux lets a queue grow to 32 MiB, and what comes out of a long one is not in the
    processor's cache any more: passing a MiB on cost 840 µs instead of 650.  A peer that
    is farther away needs the room, for what is on the way.
    """
    with contextlib.suppress(OSError):
        if of.family == socket.AF_UNIX or is_local(of.getpeername()[0]):
            of.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LOCAL_QUEUE)


def read_no_more(transport: Any) -> None:
    """Let go of who has received, so that a connection that is lost is not a cycle."""
    vars(transport).pop("doRead", None)


def discard_data(data: bytes) -> bool:
    """The sender or receiver of a connection that is lost; the real one would keep the transport alive."""
    return True


def queue_length(transport: ITransport) -> Callable[[], int]:
    """
    How many bytes wait in the process for the peer to read what was sent before them.

    Under TLS those are the encrypted bytes.  Always 0 on a transport that does not tell.
    """
    below = _below(transport)
    if not isinstance(below, abstract.FileDescriptor):
        return lambda: 0
    _require(below, "dataBuffer", "offset", "_tempDataLen")
    return partial(_queued, below)


def _queued(below: Any) -> int:
    waiting: int = len(below.dataBuffer) - below.offset + below._tempDataLen
    return waiting


def unreceived(transport: Any) -> int:
    """How many bytes written to `transport` its peer has not acknowledged, as far as can be told."""
    below = _below(transport)
    if not isinstance(below, tcp.Connection) or not below.connected:
        return 0
    queued = _queued(below)
    try:
        (kernel,) = struct.unpack("i", fcntl.ioctl(below.socket, termios.TIOCOUTQ, bytes(4)))
    except OSError:  # not everywhere is this known of sockets
        return queued
    return queued + int(kernel)


def _below(transport: Any) -> Any:
    """What TLS, if there is any, sends through."""
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport


def half_closer(transport: ITransport) -> Callable[[], None] | None:
    """
    What ends our direction of `transport` once its queue is sent; None where that cannot be done.

    TLS cannot, and its transports would pass the call through to the connection
    below, ahead of what they have not encrypted yet.
    """
    if INegotiated.providedBy(transport) or getattr(transport, "TLS", False):
        return None
    half_close: Callable[[], None] | None = getattr(transport, "loseWriteConnection", None)
    return half_close


def end_sending(transport: Any, hurry: Callable[[], None]) -> None:
    """End our direction of `transport`; under TLS all of it after a `hurry`, for it has no half to close."""
    half_close = half_closer(transport)
    if half_close is not None:
        half_close()
    else:
        hurry()
        transport.loseConnection()


def hear_half_close(transport: Any, protocol: Any) -> None:
    """
    From now on the end of the peer's direction is `protocol.readConnectionLost`, and not the connection's.

    For protocols that endpoints have wrapped: the wrappers have already said that
    half-closing is not for them.  Under TLS nothing changes.
    """
    if half_closer(transport) is not None:
        alsoProvides(protocol, IHalfCloseableProtocol)
        transport.protocol = protocol


def looker(transport: ITransport) -> Callable[[], bool]:
    """
    Tells of an idle connection whether it has something to read: its end, or what nobody asked for.

    Made once for a connection and good until it is lost.  A look costs one
    system call (0.3 µs; a peek, which raises, 0.8) and spares a request from a
    connection that the peer has closed but the reactor has not looked at yet.
    Under TLS what can be read may also be TLS's own (see `outlives_a_read`).
    """
    below = _below(transport)
    if not isinstance(below, tcp.Connection):
        return lambda: False
    poller = select.poll()
    poller.register(below.fileno(), select.POLLIN)
    return lambda: bool(poller.poll(0))


def looks_closed(transport: ITransport) -> bool:
    """A single look, as `looker` has it."""
    return looker(transport)()


def outlives_a_read(transport: Any, look: Callable[[], bool]) -> bool:
    """
    Whether an idle connection, on which `look` has seen something, is still open when that has been read.

    Under TLS it is read now, as the reactor would in a moment.  A peer's session tickets and new keys are
    TLS's own and leave the connection as it is; a close_notify, an alert, an end or bytes that nobody
    asked for do not, and nothing tells them apart while they are encrypted.  Over plain TCP
    there is nothing that may come.
    """
    below = _below(transport)
    if below is transport:
        return False
    for _ in range(MOST_READS):
        if below.doRead() is not None or _is_closing(transport):
            return False
        if not look():
            return True
    return False


def _is_closing(transport: Any) -> bool:
    """Whether any layer of `transport` is about to end."""
    while isinstance(transport, ProtocolWrapper):
        if transport.disconnecting:
            return True
        transport = transport.transport
    return bool(transport.disconnecting)


def closed_by_peer(transport: Any) -> bool:
    """Whether a TLS peer has said that nothing more comes: what came is whole, whatever became of TCP."""
    if not isinstance(transport, TLSMemoryBIOProtocol):
        return False
    connection = transport.getHandle()
    return connection is not None and bool(connection.get_shutdown() & SSL.RECEIVED_SHUTDOWN)


def keep_probing(transport: ITransport) -> None:
    """Have the system probe a connection that was made from here (see `keepalive`)."""
    below = _below(transport)
    if isinstance(below, tcp.Connection):
        keep_alive(below.socket)


def _require(transport: abstract.FileDescriptor, *names: str) -> None:
    """Private names vanish without notice (Twisted's NEWS): better at once than at some later byte."""
    for name in names:
        getattr(transport, name)
