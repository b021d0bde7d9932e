"""
Determines which user owns the other end of a loopback connection, on Linux.

The kernel is asked over netlink (`man 7 sock_diag`) about two sockets by their exact addresses: the
peer's, whose user is wanted, and our own.  The answer counts only while both are established:
a socket that its process has closed has no user any more, and older kernels then report 0, which is
root.  Our own socket must have our inode: in another network namespace the same addresses
belong to an unrelated connection.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address

Address = IPv4Address | IPv6Address

ROOT = 0

_SOCK_DIAG = 4
"""NETLINK_SOCK_DIAG, which the module `socket` does not name."""

_BY_FAMILY = 20
"""SOCK_DIAG_BY_FAMILY: the type of the question, and of an answer that is not an error."""

_REQUEST = 1
"""NLM_F_REQUEST; without NLM_F_DUMP the question is about one socket."""

_EVERY_STATE = 0xFFFFFFFF
_NO_COOKIE = b"\xff" * 8
_ESTABLISHED, _LISTENING = 1, 10
"""States of a TCP socket (`net/tcp_states.h`)."""

_HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence, port."""

_QUESTION = struct.Struct("=BBBxI")
"""struct inet_diag_req_v2 up to its socket: family, protocol, extensions, states."""

_ANSWER = struct.Struct("=BBBB")
"""struct inet_diag_msg up to its socket: family, state, timer, retransmissions."""

_PORTS = struct.Struct("!HH")
_ADDRESS = 16
_SOCKET = _PORTS.size + 2 * _ADDRESS + 4 + len(_NO_COOKIE)
"""struct inet_diag_sockid: two ports, two addresses, an interface, a cookie."""

_REST = struct.Struct("=IIIII")
"""The fields after the socket in struct inet_diag_msg: expires, two queues, user, inode."""

_LONGEST_ANSWER = 8192


@dataclass(frozen=True, slots=True)
class End:
    """One end of a connection."""

    address: Address
    port: int


@dataclass(frozen=True, slots=True)
class Connection:
    """A TCP connection as seen from its `near` end."""

    near: End
    far: End

    @property
    def reversed(self) -> Connection:
        """The same connection, seen from its other end."""
        return Connection(self.far, self.near)

    @property
    def loops(self) -> bool:
        """Whether both ends have loopback addresses."""
        return self.near.address.is_loopback and self.far.address.is_loopback


@dataclass(frozen=True, slots=True)
class Socket:
    """The kernel's information about one socket."""

    connection: Connection
    state: int
    user: int
    inode: int
    """0 if it belongs to no process any more."""

    def is_established(self, connection: Connection) -> bool:
        """Whether it is the socket of `connection`, which is established, and belongs to a process."""
        return self.state == _ESTABLISHED and self.inode != 0 and self.connection == connection


# --- messages -------------------------------------------------------------------------


def question(connection: Connection) -> bytes:
    """The message that asks about the socket at the near end of `connection`."""
    near, far = connection.near, connection.far
    body = (
        _QUESTION.pack(_family(near.address), socket.IPPROTO_TCP, 0, _EVERY_STATE)
        + _PORTS.pack(near.port, far.port)
        + near.address.packed.ljust(_ADDRESS, b"\0")
        + far.address.packed.ljust(_ADDRESS, b"\0")
        + b"\0\0\0\0"
        + _NO_COOKIE
    )
    return _HEADER.pack(_HEADER.size + len(body), _BY_FAMILY, _REQUEST, 0, 0) + body


def read_answer(message: bytes) -> Socket | None:
    """The socket in the kernel's answer; None if it is an error, or malformed."""
    if len(message) < _HEADER.size + _ANSWER.size + _SOCKET + _REST.size:
        return None
    if _HEADER.unpack_from(message)[1] != _BY_FAMILY:
        return None
    family, state, _, _ = _ANSWER.unpack_from(message, _HEADER.size)
    at = _HEADER.size + _ANSWER.size
    near_port, far_port = _PORTS.unpack_from(message, at)
    addresses = at + _PORTS.size
    near = _address(family, message[addresses : addresses + _ADDRESS])
    far = _address(family, message[addresses + _ADDRESS : addresses + 2 * _ADDRESS])
    if near is None or far is None:
        return None
    _, _, _, user, inode = _REST.unpack_from(message, at + _SOCKET)
    return Socket(Connection(End(near, near_port), End(far, far_port)), state, user, inode)


def _family(address: Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _address(family: int, data: bytes) -> Address | None:
    if family == socket.AF_INET:
        return IPv4Address(data[:4])
    return _plain(IPv6Address(data)) if family == socket.AF_INET6 else None


def _plain(address: Address) -> Address:
    """An IPv4-mapped IPv6 address as IPv4; any other as it is."""
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


# --- asking ---------------------------------------------------------------------------

Ask = Callable[[bytes], bytes]
"""A function from a question to the kernel's answer.  Raises OSError where the kernel cannot be asked."""


def ask_kernel(message: bytes) -> bytes:
    """Ask over netlink; the kernel answers within the call, so it does not block.  Raises OSError."""
    if sys.platform != "linux":
        raise OSError("only Linux can be asked")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG) as link:
        link.setblocking(False)
        link.sendto(message, (0, 0))
        answer, (sender, _) = link.recvfrom(_LONGEST_ANSWER)
    return answer if sender == 0 else b""


def user_of(connection: Connection, inode: int, ask: Ask = ask_kernel) -> int | None:
    """
    The user that owns the far end of `connection`; `inode` is that of the socket at its near end.

    None if it cannot be determined: the connection leaves this machine, an end is closed, this process is
    in a user namespace, or the kernel cannot be asked.
    """
    if not connection.loops or not _has_every_user():
        return None
    try:
        theirs = read_answer(ask(question(connection.reversed)))
        # Our own comes second: while it is established, no other socket can have the peer's addresses.
        ours = read_answer(ask(question(connection)))
    except OSError:
        return None
    if theirs is None or not theirs.is_established(connection.reversed):
        return None
    if ours is None or not ours.is_established(connection) or ours.inode != inode:
        return None
    return theirs.user


def user_of_peer(ours: socket.socket) -> int | None:
    """The user at the other end of a connected TCP socket; None if it cannot be determined."""
    try:
        near, far = ours.getsockname(), ours.getpeername()
        connection = Connection(*(End(_plain(ip_address(_bare(end[0]))), int(end[1])) for end in (near, far)))
        return user_of(connection, os.fstat(ours.fileno()).st_ino)
    except (OSError, ValueError, TypeError, IndexError):
        # The socket is closed, or not a TCP socket.
        return None


def user_of_listener(address: Address, port: int, ask: Ask = ask_kernel) -> int | None:
    """The user that listens at an address of this machine; None if none does, or it cannot be determined."""
    if not _has_every_user():
        return None
    nowhere = End(type(address)(0), 0)
    try:
        found = read_answer(ask(question(Connection(End(address, port), nowhere))))
    except OSError:
        return None
    if found is None or found.state != _LISTENING or found.inode == 0 or found.connection.near.port != port:
        return None
    return found.user


def kernel_tells() -> bool:
    """Whether the kernel reports users of loopback connections: tested with a connection to ourselves."""
    with suppress(OSError):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(1)
            with socket.create_connection(listener.getsockname(), 1) as near:
                far, _ = listener.accept()
                with far:
                    return user_of_peer(near) == os.geteuid()
    return False


def _bare(host: str) -> str:
    """An address without its interface (`fe80::1%eth0`)."""
    return host.partition("%")[0]


@cache
def _has_every_user() -> bool:
    """
    Whether this process is in the machine's initial user namespace, and not in that of a container.

    In another namespace user numbers are mapped: users outside of it may share one, and connections that
    are forwarded into it from outside, for any user there, seem to belong to its root.
    """
    try:
        with open("/proc/self/uid_map", "rb") as file:
            return file.read(256).split() == [b"0", b"0", b"4294967295"]
    except OSError:
        return False
