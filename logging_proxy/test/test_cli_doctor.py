"""The command `doctor`: what is ok, what is warned of, and what prevents the proxy's work."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase, TestCase

from logging_proxy.cli.doctor import machine, network
from logging_proxy.cli.doctor.check import Check, State, fail, lines, ok, warn
from logging_proxy.cli.paint import Paint
from logging_proxy.configuration import Configuration
from logging_proxy.net import shortcut
from logging_proxy.recording.tail import SpoolLock
from logging_proxy.service.chosen import choose
from logging_proxy.test.certificates import self_signed
from logging_proxy.tls.contexts import server_options

GIB = 1 << 30


def loaded(**options: str) -> Configuration:
    return choose(**options).load({})


def space(free: int, files: int = 10**6) -> Any:
    """What a file system says that has this room."""
    found = SimpleNamespace(f_bavail=free // 4096, f_frsize=4096, f_files=10**7, f_favail=files)
    return lambda path: cast(os.statvfs_result, found)


class LineTests(SynchronousTestCase):
    CHECKS = [
        ok("a", "fine"),
        warn("longer", "odd", "do this"),
        fail("b", "bad\x1b[2J http://h/?key=sk-secret", "do that"),
    ]

    def test_lines(self) -> None:
        """One line for each check, aligned, with what to do; neither controls nor secrets get out."""
        shown = list(lines(self.CHECKS, Paint(False)))
        self.assertEqual(shown[:2], ["ok    a       fine", "warn  longer  odd: do this"])
        self.assertTrue(shown[2].startswith("fail  b       bad\\x1b[2J "))
        self.assertNotIn("secret", shown[2])

    def test_json(self) -> None:
        """The same as JSON."""
        self.assertEqual(
            self.CHECKS[1].document(), {"name": "longer", "state": "warn", "text": "odd", "advice": "do this"}
        )


class MachineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.log_dir = Path(self.mktemp()).absolute()
        self.configuration = loaded(log_dir=str(self.log_dir))

    def disk(self, free: int = 10 * GIB, files: int = 10**6) -> list[Check]:
        return list(machine.check_disk(self.configuration, space(free, files)))

    def test_disk(self) -> None:
        """Free space decides, wherever the directory is, and whether or not it was made yet."""
        self.assertIn("not made yet", self.disk()[0].text)
        self.log_dir.mkdir(0o700)
        for free, files, state in (
            (10 * GIB, 10**6, State.OK),
            (10 * GIB, 100, State.WARN),
            (GIB // 2, 10**6, State.WARN),
            (1 << 20, 10**6, State.FAIL),
        ):
            (check,) = self.disk(free, files)
            self.assertEqual(check.state, state, check)
            self.assertEqual(bool(check.advice), state is not State.OK)

    def test_no_directory(self) -> None:
        """A file in its place, or a directory in which others may write, prevents the work."""
        self.log_dir.write_text("")
        self.assertEqual(self.disk()[0].state, State.FAIL)
        self.log_dir.unlink()
        self.log_dir.mkdir()
        self.log_dir.chmod(0o777)
        self.assertIn("others may write", self.disk()[0].text)

    def test_waiting(self) -> None:
        """Much that waits in the spools is warned of while nothing reads them."""
        spool = self.log_dir / ".spool" / "5601"
        spool.mkdir(parents=True)
        self.log_dir.chmod(0o700)
        with open(spool / f"{0:016x}.seg", "wb") as file:
            file.truncate(machine.MUCH_WAITING + 1)
        self.assertEqual([check.state for check in self.disk()], [State.OK, State.WARN])
        lock = SpoolLock(str(spool))
        self.assertTrue(lock.acquire())
        self.addCleanup(lock.release)
        self.assertEqual([check.state for check in self.disk()], [State.OK])

    def test_ring(self) -> None:
        """A quarter of the free memory should hold the ring; less is warned of."""
        for free, state in ((GIB, State.OK), (64 << 20, State.WARN), (1 << 20, State.WARN)):
            self.assertEqual(machine.check_ring(self.configuration, space(free)).state, state, free)

    def test_clock(self) -> None:
        """A clock that was never set, or is behind the newest capture, is told of."""
        now = datetime(2026, 12, 1, 12).timestamp()
        self.log_dir.mkdir()
        stamps = {"2026-12-01_11-59-59.000": State.OK, "2027-01-01_00-00-00.000": State.WARN}
        for stamp, state in stamps.items():
            (self.log_dir / f"{stamp}_00000000_request.bin").write_text("")
            self.assertEqual(machine.check_clock(self.configuration, lambda: now).state, state)
        self.assertEqual(machine.check_clock(self.configuration, lambda: 1.0).state, State.FAIL)
        times = iter([2.0, 1.0])
        check = machine.check_clock(self.configuration, lambda: now, lambda: next(times))
        self.assertIn("backwards", check.text)

    def test_parts(self) -> None:
        """A part in C that was not built, and codings without a decoder, are warned of."""
        self.patch(shortcut, "trouble", "it was not built")
        self.patch(machine, "_is_installed", lambda name: name == "backports.zstd")
        parts, decoders = machine.check_parts()
        self.assertIn("no part in C (it was not built)", parts.text)
        self.assertEqual(decoders.text, "bodies in br are captured, but cannot be decoded")


class PortTests(SynchronousTestCase):
    def test_ports(self) -> None:
        """A port must be free, or our own proxy must have it; the check leaves it free."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            path = Path(self.mktemp())
            path.write_text(
                f"server: {{host: 127.0.0.1, port: {port}}}\n"
                "logging_server: {port: 0}\n"
                "routes: {a: {pattern: /, destination: 'http://127.0.0.1:9/'}}\n"
            )
            configuration = loaded(config=str(path))
            for runs, state in ((True, State.OK), (False, State.FAIL)):
                first, second = network.check_ports(configuration, lambda runs=runs: runs)  # type: ignore[misc]
                self.assertEqual((first.state, second.state), (state, State.OK))
        for _ in range(2):
            first, _ = network.check_ports(configuration, lambda: False)
            self.assertEqual(first.state, State.OK)


class DestinationTests(TestCase):
    """The checks of destinations, with real connections."""

    def setUp(self) -> None:
        self.received: list[bytes] = []

    def serve(self, tls: Any = None) -> int:
        received = self.received

        class Server(Protocol):
            def dataReceived(self, data: bytes) -> None:
                received.append(data)

        factory: Any = Factory.forProtocol(Server)
        factory.noisy = False
        port: Any = (
            cast(Any, reactor).listenTCP(0, factory, interface="127.0.0.1")
            if tls is None
            else cast(Any, reactor).listenSSL(0, factory, tls, interface="127.0.0.1")
        )
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    def check(self, to: str) -> Deferred[Check]:
        checked: Deferred[Any] = network.check_destinations(reactor, loaded(to=to))
        return checked.addCallback(lambda checks: checks[0])

    async def test_plain(self) -> None:
        """A server that accepts is ok, and is sent nothing."""
        check = await self.check(f"http://127.0.0.1:{self.serve()}/")
        self.assertEqual(check.state, State.OK, check)
        self.assertEqual(self.received, [])

    async def test_refused(self) -> None:
        """A local server that does not run is no reason to fail, a closed port elsewhere would be."""
        with socket.create_server(("127.0.0.1", 0)) as closing:
            port = closing.getsockname()[1]
        check = await self.check(f"http://127.0.0.1:{port}/")
        self.assertEqual(check.state, State.WARN, check)
        self.assertIn("start the server there", check.advice)

    async def test_certificate(self) -> None:
        """A certificate that is not trusted is told of, and nothing is sent."""
        made = self_signed("localhost")
        tls = server_options(made.certificate, made.key, "1.2")
        check = await self.check(f"https://127.0.0.1:{self.serve(tls)}/")
        self.assertEqual(check.state, State.WARN, check)
        self.assertIn("certificate", check.text)
        self.assertEqual(self.received, [])

    def test_expiry(self) -> None:
        """A certificate that ends within two weeks is warned of."""
        now = datetime(2026, 12, 1, tzinfo=UTC)
        configuration = loaded(to="https://h.example/")
        (route,) = configuration.routes
        destination = network._Destination(reactor, configuration, route, lambda: now, 1.0)
        for days, state in ((60, State.OK), (13, State.WARN)):
            check = destination._connected("1 ms", now + timedelta(days=days, hours=1))
            self.assertEqual(check.state, state)
            self.assertIn("certificate valid until", check.text)

    def test_each_once(self) -> None:
        """Routes to one server are one check."""
        path = Path(self.mktemp())
        path.write_text(
            "routes:\n"
            "  a: {pattern: /a/, destination: 'http://h.example/a/'}\n"
            "  b: {pattern: /b/, destination: 'http://h.example/b/'}\n"
            "  c: {pattern: /c/, destination: 'https://h.example/'}\n"
        )
        routes = network._different(loaded(config=str(path)).routes)
        self.assertEqual([route.name for route in routes], ["a", "c"])
