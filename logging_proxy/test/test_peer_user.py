"""Whose the other end of a connection is: messages to the kernel and from it, and what is made of them."""

from __future__ import annotations

import os
import socket
import struct
import sys
from ipaddress import IPv4Address, IPv6Address, ip_address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from logging_proxy.net import peer_user
from logging_proxy.net.peer_user import (
    Connection,
    End,
    Socket,
    ask_kernel,
    kernel_tells,
    question,
    read_answer,
    user_of,
    user_of_listener,
    user_of_peer,
)

ALICE, MALLORY = 1000, 1001
OUR_INODE, THEIR_INODE = 7, 8
ESTABLISHED, FIN_WAIT1, TIME_WAIT, LISTEN = 1, 4, 6, 10


def between(near: str, far: str, near_port: int = 8080, far_port: int = 50001) -> Connection:
    return Connection(End(ip_address(near), near_port), End(ip_address(far), far_port))


OURS = between("127.0.0.1", "127.0.0.1")


def answer(found: Socket, mapped: bool = False) -> bytes:
    """What Linux says of a socket; `mapped` for one of IPv6 that speaks IPv4."""
    near, far = found.connection.near, found.connection.far
    data = [near.address.packed, far.address.packed]
    if mapped:
        data = [b"\0" * 10 + b"\xff\xff" + each for each in data]
    family = socket.AF_INET if len(data[0]) == 4 else socket.AF_INET6
    body = struct.pack("=BBBB", family, found.state, 0, 0) + struct.pack("!HH", near.port, far.port)
    body += b"".join(each.ljust(16, b"\0") for each in data) + struct.pack("=I", 1) + b"\x01" * 8
    body += struct.pack("=IIIII", 0, 0, 0, found.user, found.inode) + b"attributes"
    return struct.pack("=IHHII", 16 + len(body), 20, 0, 0, 0) + body


def refusal(code: int) -> bytes:
    return struct.pack("=IHHIIi", 36, 2, 0, 0, 0, -code) + b"\0" * 16


class Kernel:
    """Knows some sockets."""

    def __init__(self, *known: Socket, mapped: bool = False) -> None:
        self.questions: list[bytes] = []
        self._known = {question(each.connection): answer(each, mapped) for each in known}

    def __call__(self, message: bytes) -> bytes:
        self.questions.append(message)
        return self._known.get(message, refusal(2))


def kernel(user: int, connection: Connection = OURS, mapped: bool = False) -> Kernel:
    """One that knows both ends of a connection, whose far end is `user`'s."""
    return Kernel(
        Socket(connection, ESTABLISHED, ALICE, OUR_INODE),
        Socket(connection.reversed, ESTABLISHED, user, THEIR_INODE),
        mapped=mapped,
    )


class MessageTests(SynchronousTestCase):
    def test_question(self) -> None:
        """The question names one socket of TCP by ports and addresses, as `linux/inet_diag.h` has it."""
        message = question(between("127.0.0.1", "127.0.0.2", 0x1F90, 0x1234))
        self.assertEqual(message[:16], struct.pack("=IHHII", 72, 20, 1, 0, 0))
        self.assertEqual(message[16:24], struct.pack("=BBBBI", socket.AF_INET, 6, 0, 0, 0xFFFFFFFF))
        self.assertEqual(message[24:28], b"\x1f\x90\x12\x34")
        self.assertEqual(message[28:60], b"\x7f\0\0\x01" + b"\0" * 12 + b"\x7f\0\0\x02" + b"\0" * 12)
        self.assertEqual(message[60:], b"\0" * 4 + b"\xff" * 8)

    def test_question_of_ipv6(self) -> None:
        """An address of IPv6 fills its 16 bytes."""
        message = question(between("::1", "::1"))
        self.assertEqual(message[16], socket.AF_INET6)
        self.assertEqual(message[28:60], (b"\0" * 15 + b"\x01") * 2)

    def test_answer(self) -> None:
        """An answer has the socket's ends, state, user and inode; attributes behind it do not matter."""
        for connection in (OURS, between("::1", "::1")):
            found = Socket(connection, ESTABLISHED, MALLORY, THEIR_INODE)
            self.assertEqual(read_answer(answer(found)), found)

    def test_mapped(self) -> None:
        """IPv4 within IPv6 is the IPv4 that it is."""
        found = Socket(OURS, ESTABLISHED, MALLORY, THEIR_INODE)
        self.assertEqual(read_answer(answer(found, mapped=True)), found)

    def test_errors(self) -> None:
        """An error, another kind of message, another family or a message that is cut tells nothing."""
        whole = answer(Socket(OURS, ESTABLISHED, ALICE, OUR_INODE))
        for message in (
            b"",
            refusal(2),
            refusal(1) + b"\0" * 100,
            whole[:80],
            whole[:16] + b"\x01" + whole[17:],
        ):
            self.assertIsNone(read_answer(message))

    @given(st.binary(max_size=200))
    def test_anything(self, message: bytes) -> None:
        """Whatever bytes come, there is no error."""
        found = read_answer(message)
        self.assertTrue(found is None or isinstance(found.connection.near.address, IPv4Address | IPv6Address))


class UserTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(peer_user, "_has_every_user", lambda: True)

    def test_told(self) -> None:
        """The user of the peer's socket is told, with IPv4, IPv6, and IPv4 within IPv6."""
        for user in (0, ALICE, MALLORY):
            self.assertEqual(user_of(OURS, OUR_INODE, kernel(user)), user)
        six = between("::1", "::1")
        self.assertEqual(user_of(six, OUR_INODE, kernel(MALLORY, six)), MALLORY)
        self.assertEqual(user_of(OURS, OUR_INODE, kernel(MALLORY, mapped=True)), MALLORY)

    def test_two_looks(self) -> None:
        """Both sockets are asked for, the peer's first, and nothing else."""
        asked = kernel(ALICE)
        user_of(OURS, OUR_INODE, asked)
        self.assertEqual(asked.questions, [question(OURS.reversed), question(OURS)])

    def test_beyond_loopback(self) -> None:
        """Where an end is no loopback address nothing is told, nor asked."""
        for near, far in (("127.0.0.1", "10.0.0.1"), ("10.0.0.1", "127.0.0.1"), ("10.0.0.1", "10.0.0.1")):
            connection = between(near, far)
            asked = kernel(ALICE, connection)
            self.assertIsNone(user_of(connection, OUR_INODE, asked))
            self.assertEqual(asked.questions, [])

    def test_peer_closed(self) -> None:
        """A peer that has closed has no user, whatever number the kernel gives: it is root's, or nobody's."""
        ours = Socket(OURS, ESTABLISHED, ALICE, OUR_INODE)
        for state, inode in ((FIN_WAIT1, 0), (FIN_WAIT1, THEIR_INODE), (TIME_WAIT, 0), (ESTABLISHED, 0)):
            theirs = Socket(OURS.reversed, state, 0, inode)
            self.assertIsNone(user_of(OURS, OUR_INODE, Kernel(ours, theirs)), (state, inode))
        self.assertIsNone(user_of(OURS, OUR_INODE, Kernel(ours)))

    def test_other_socket(self) -> None:
        """A listener at the peer's port, which is told of where there is no connection, is not the peer."""
        ours = Socket(OURS, ESTABLISHED, ALICE, OUR_INODE)
        nowhere = End(ip_address("0.0.0.0"), 0)
        listener = Socket(Connection(OURS.far, nowhere), LISTEN, 0, THEIR_INODE)
        told = {question(OURS): answer(ours), question(OURS.reversed): answer(listener)}
        self.assertIsNone(user_of(OURS, OUR_INODE, told.__getitem__))

    def test_our_end(self) -> None:
        """Our own end has to be established, and ours: the peer's addresses may be another's by now."""
        theirs = Socket(OURS.reversed, ESTABLISHED, ALICE, THEIR_INODE)
        for ours in (
            Socket(OURS, FIN_WAIT1, ALICE, OUR_INODE),
            Socket(OURS, ESTABLISHED, ALICE, OUR_INODE + 10),
            Socket(OURS, ESTABLISHED, ALICE, 0),
        ):
            self.assertIsNone(user_of(OURS, OUR_INODE, Kernel(theirs, ours)))
        self.assertIsNone(user_of(OURS, OUR_INODE, Kernel(theirs)))

    def test_user_namespace(self) -> None:
        """In a user namespace numbers are not what they are outside: nothing is told, nor asked."""
        self.patch(peer_user, "_has_every_user", lambda: False)
        asked = kernel(ALICE)
        self.assertIsNone(user_of(OURS, OUR_INODE, asked))
        self.assertIsNone(user_of_listener(OURS.near.address, 8080, asked))
        self.assertEqual(asked.questions, [])

    def test_refused(self) -> None:
        """Where the kernel cannot be asked nothing is told."""

        def ask(message: bytes) -> bytes:
            raise PermissionError

        self.assertIsNone(user_of(OURS, OUR_INODE, ask))


class ListenerTests(SynchronousTestCase):
    """Who listens at an address of this machine."""

    def setUp(self) -> None:
        self.patch(peer_user, "_has_every_user", lambda: True)

    def user(self, state: int = LISTEN, inode: int = THEIR_INODE, port: int = 8080) -> int | None:
        near, nowhere = OURS.near, End(ip_address("0.0.0.0"), 0)
        found = Socket(Connection(End(near.address, port), nowhere), state, MALLORY, inode)
        told = {question(Connection(near, nowhere)): answer(found)}
        return user_of_listener(near.address, near.port, told.__getitem__)

    def test_told(self) -> None:
        """The user of the socket that listens there."""
        self.assertEqual(self.user(), MALLORY)

    def test_not_told(self) -> None:
        """Nothing of a socket that does not listen, that nobody has, or at another port."""
        self.assertIsNone(self.user(state=ESTABLISHED))
        self.assertIsNone(self.user(inode=0))
        self.assertIsNone(self.user(port=8081))
        self.assertIsNone(user_of_listener(OURS.near.address, 8080, Kernel()))


class RealTests(SynchronousTestCase):
    """The kernel itself."""

    def setUp(self) -> None:
        if sys.platform != "linux":
            raise SkipTest("only Linux tells")
        if not kernel_tells():
            raise SkipTest("the kernel does not tell here")

    def pair(self, listen: str, connect: str) -> tuple[socket.socket, socket.socket]:
        """The client's and the server's end of a connection."""
        family = socket.AF_INET6 if ":" in listen else socket.AF_INET
        try:
            listener = socket.create_server((listen, 0), family=family, dualstack_ipv6=listen == "::")
        except OSError as error:
            raise SkipTest(f"no IPv6: {error}") from None
        with listener:
            client = socket.create_connection((connect, listener.getsockname()[1]), 5)
            self.addCleanup(client.close)
            server, _ = listener.accept()
        self.addCleanup(server.close)
        return client, server

    def test_own_user(self) -> None:
        """A connection of our own is ours, with IPv4, IPv6, and IPv4 within IPv6."""
        for listen, connect in (("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "127.0.0.1")):
            client, server = self.pair(listen, connect)
            for end in (client, server):
                self.assertEqual(user_of_peer(end), os.geteuid(), (listen, connect))

    def test_listener(self) -> None:
        """A listener of our own is ours, at every address that it takes."""
        for host in ("127.0.0.1", "0.0.0.0"):
            with socket.create_server((host, 0)) as listener:
                port = listener.getsockname()[1]
                self.assertEqual(user_of_listener(ip_address("127.0.0.1"), port), os.geteuid())

    def test_closed(self) -> None:
        """Nothing is told once either end is closed."""
        client, server = self.pair("127.0.0.1", "127.0.0.1")
        client.close()
        self.assertIsNone(user_of_peer(server))
        server.close()
        self.assertIsNone(user_of_peer(server))

    def test_no_connection(self) -> None:
        """Nothing is told of sockets that are not connected, or not TCP's."""
        with socket.socket() as alone:
            self.assertIsNone(user_of_peer(alone))
        one, other = socket.socketpair()
        with one, other:
            self.assertIsNone(user_of_peer(one))

    def test_unknown(self) -> None:
        """Of a connection that there is not the kernel says an error."""
        self.assertIsNone(read_answer(ask_kernel(question(between("127.0.0.1", "127.0.0.1", 1, 2)))))
