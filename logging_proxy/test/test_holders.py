"""Which process listens on a port."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from logging_proxy.net.holders import holder_of
from logging_proxy.net.listening import CannotListen, bind

HEADING = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


class HolderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.proc = Path(self.mktemp())
        (self.proc / "net").mkdir(parents=True)

    def sockets(self, table: str, *lines: tuple[str, int, str, int, int]) -> None:
        """A table with address, port, state, user and inode of each socket."""
        text = "".join(
            f"   0: {address}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 "
            f"{user:5}        0 {inode} 1 0000000000000000 100 0 0 10 0\n"
            for address, port, state, user, inode in lines
        )
        (self.proc / "net" / table).write_text(HEADING + text)

    def process(self, pid: int, command: str, *links: str) -> None:
        folder = self.proc / str(pid) / "fd"
        folder.mkdir(parents=True)
        (folder.parent / "comm").write_text(f"{command}\n")
        for number, link in enumerate(links):
            os.symlink(link, folder / str(number))

    def test_found(self) -> None:
        """A process is told by its name and number, whether it listens by IPv4 or by IPv6."""
        self.sockets("tcp", ("0100007F", 5601, "01", 0, 7), ("0100007F", 5601, "0A", 0, 8))
        self.sockets("tcp6", ("0" * 32, 8080, "0A", 0, 9))
        self.process(12, "client", "socket:[7]", "/dev/null")
        self.process(123, "twistd", "/dev/null", "socket:[8]")
        self.process(1234, "java", "socket:[9]")
        self.assertEqual(holder_of(5601, self.proc), "twistd (pid 123)")
        self.assertEqual(holder_of(8080, self.proc), "java (pid 1234)")

    def test_another_user(self) -> None:
        """Of a process that may not be looked into the user is told."""
        self.sockets("tcp", ("0100007F", 80, "0A", 0, 8), ("0100007F", 81, "0A", 4_000_000_000, 9))
        self.process(123, "bash", "/dev/null")
        self.assertEqual(holder_of(80, self.proc), "a process of user root")
        self.assertEqual(holder_of(81, self.proc), "a process of user 4000000000")

    def test_nothing_known(self) -> None:
        """Where nothing is known nothing is told."""
        self.assertEqual(holder_of(80, self.proc), "")
        self.assertEqual(holder_of(80, self.proc / "none"), "")

    def test_bind(self) -> None:
        """A busy port is told with the process that has it."""
        if sys.platform != "linux":
            raise SkipTest("there is no /proc")
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        port = listener.getsockname()[1]
        error = self.assertRaises(CannotListen, bind, "127.0.0.1", port)
        told = f"cannot listen on 127.0.0.1:{port}: port {port} is in use by "
        self.assertTrue(str(error).startswith(told), str(error))
        self.assertTrue(str(error).endswith(f" (pid {os.getpid()})"), str(error))
