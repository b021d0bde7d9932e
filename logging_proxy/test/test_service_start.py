"""`twistd logging-proxy` until the reactor runs: what is opened, and one line where something is wrong."""

from __future__ import annotations

import atexit
import os
import socket
import sys
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.application.service import Application
from twisted.logger import ILogObserver
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy import tap
from logging_proxy.demo.processes import free_port
from logging_proxy.outbound.ourselves import LeadsToOurselves, addresses_of
from logging_proxy.recording.recorder import Recording
from logging_proxy.recording.rings import lock_spool, open_ring
from logging_proxy.service.child import NICENESS
from logging_proxy.service.engine import Serving
from logging_proxy.service.handover import take_over
from logging_proxy.service.output import Output
from logging_proxy.service.proxy_service import ProxyService
from logging_proxy.tap import Options, makeService
from logging_proxy.test.capture_stage import stream
from logging_proxy.workers.fleet import Fleet
from logging_proxy.workers.worker import WorkerService


class StartCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.addCleanup(os.umask, os.umask(0o077))
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(mode=0o700)
        self.rings = self.folder / "rings"
        self.rings.mkdir()
        self.logs = self.folder / "logs"
        self.at_exit: list[Any] = []
        self.patch(atexit, "register", self.at_exit.append)
        self.log = self.folder / "proxy.log"

    def configuration(
        self, server: str = "port: 0", logging: str = "", logging_server: str = "port: 0"
    ) -> Path:
        path = self.folder / "config.yaml"
        path.write_text(
            f"server: {{host: 127.0.0.1, {server}}}\n"
            f"logging: {{ring_dir: {self.rings}, {logging}}}\n"
            f"logging_server: {{host: 127.0.0.1, log_dir: {self.logs}, {logging_server}}}\n"
            'routes: {api: {pattern: /api/, destination: "http://127.0.0.1:9/"}}\n'
        )
        return path

    def options(self, path: Path, **parent: Any) -> Options:
        options = Options()
        options.parseOptions(["--config", str(path)])
        options.parent = {"nodaemon": True, "logfile": str(self.log), **parent}  # type: ignore[assignment]
        return options

    def make(self, path: Path, **parent: Any) -> ProxyService:
        service = makeService(self.options(path, **parent))
        assert isinstance(service, ProxyService)
        self.addCleanup(self.let_go, service)
        return service

    def let_go(self, service: ProxyService) -> None:
        for listener in service._listeners:
            listener.close()
        if service._child is not None:
            for listener in service._child._listeners:
                listener.close()
        recording = self.recording(service)
        if recording is not None:
            recording._spool.close()

    def recording(self, service: ProxyService) -> Recording | None:
        """What a proxy with one process records with."""
        return service._engine._recording if isinstance(service._engine, Serving) else None

    def mistake(self, path: Path, **parent: Any) -> str:
        """The one line of a start that fails."""
        error = StringIO()
        self.patch(sys, "stderr", error)
        exit = self.assertRaises(SystemExit, makeService, self.options(path, **parent))
        self.assertEqual(exit.code, 1)
        (line,) = error.getvalue().splitlines()
        return line


class OpenTests(StartCase):
    def test_spool(self) -> None:
        """The spool is named after the port, below the logging server's directory; all is for us alone."""
        service = self.make(self.configuration())
        port = service._listeners[0].getsockname()[1]
        self.assertEqual([path.name for path in (self.logs / ".spool").iterdir()], [str(port)])
        for path in (self.logs, self.logs / ".spool", self.logs / ".spool" / str(port), self.log):
            self.assertEqual(path.stat().st_mode & 0o077, 0, path)

    def test_spool_elsewhere(self) -> None:
        """`logging.spool_dir` is the directory of the spools."""
        self.make(self.configuration(logging=f"spool_dir: {self.folder}/spools"))
        self.assertEqual(len(list((self.folder / "spools").iterdir())), 1)

    def test_nothing_recorded(self) -> None:
        """Where nothing is recorded there is no spool, and a logging server all the same."""
        service = self.make(self.configuration(logging="default: false"))
        self.assertIsInstance(service._engine, Serving)
        self.assertIsNone(self.recording(service))
        self.assertIsNotNone(service._child)
        self.assertFalse(self.logs.exists())

    def test_no_thread(self) -> None:
        """Nothing that a fork would lose is started: twistd makes its daemon after this."""
        import threading

        before = threading.active_count()
        self.make(self.configuration())
        self.assertEqual(threading.active_count(), before)

    def test_log_observer(self) -> None:
        """twistd finds our output in its application, and logs through it."""
        application = Application("test")
        self.make(self.configuration()).setServiceParent(application)
        self.assertIsInstance(application.getComponent(ILogObserver), Output)

    def test_last_words(self) -> None:
        """What was said by a start that fails later is written at the process's end."""
        self.make(self.configuration())._output.line("last words")
        for call in self.at_exit:
            call()
        self.assertEqual(self.log.read_text(), "last words\n")


class OurselvesTests(StartCase):
    def test_the_logging_server(self) -> None:
        """Where it listens no request is forwarded to, by one process or by several."""
        for workers in (1, 2):
            service = self.make(self.configuration(f"port: 0, workers: {workers}"))
            engine, child = service._engine, service._child
            assert child is not None
            server = addresses_of(child._listeners)
            if isinstance(engine, Serving):
                self.assertRaises(LeadsToOurselves, engine._ourselves.check, *server[0])
            else:
                assert isinstance(engine, Fleet)
                self.assertEqual(engine._server, tuple(server))


class ChildTests(StartCase):
    def arguments(self, **sections: str) -> list[str]:
        child = self.make(self.configuration(**sections))._child
        assert child is not None
        return list(child._arguments)

    def test_embedded(self) -> None:
        """The embedded logging server gets our configuration, the pipe, and its sockets."""
        arguments = self.arguments()
        self.assertEqual(arguments[:4], ["-n", "--pidfile=", "--logfile=-", "logging-server"])
        self.assertEqual(arguments[4:], ["--handed-over", "--parent-pipe=3", "--listen-fd=4"])

    def test_configuration(self) -> None:
        """It runs on what we run on, whatever becomes of the file; no key of TLS goes along."""
        service = self.make(self.configuration())
        child = service._child
        assert child is not None
        (self.folder / "config.yaml").write_text("logging_server: {log_dir: ")
        given = take_over(child._document)
        self.assertEqual(given.logging_server, service._configuration.logging_server)
        self.assertEqual(given.logging, service._configuration.logging)
        self.assertEqual([(route.name, route.tls) for route in given.routes], [("api", None)])
        self.assertIsNone(given.server.tls)

    def test_gives_way(self) -> None:
        """The logging server gives way to the proxy, whether it is ours or elsewhere."""
        for logging in ("default: true", 'server_url: "http://192.0.2.1:8080"'):
            child = self.make(self.configuration(logging=logging))._child
            assert child is not None
            self.assertEqual(child._niceness, NICENESS)

    def test_elsewhere(self) -> None:
        """With a logging server elsewhere the child ships our spool to it."""
        arguments = self.arguments(logging='server_url: "http://192.0.2.1:8080"')
        self.assertIn("--ship-to=http://192.0.2.1:8080", arguments)
        (spool,) = (self.logs / ".spool").iterdir()
        self.assertEqual(arguments[-1], f"--spool={spool}")

    def test_none(self) -> None:
        """With nothing to ship there is no child."""
        path = self.configuration(logging='default: false, server_url: "http://192.0.2.1:8080"')
        self.assertIsNone(self.make(path)._child)


class WorkersTests(StartCase):
    """With two workers."""

    def two(self, logging: str = "", server: str = "port: 0") -> Path:
        return self.configuration(f"{server}, workers: 2", logging)

    def fleet(self, path: Path, **parent: Any) -> Fleet:
        engine = self.make(path, **parent)._engine
        assert isinstance(engine, Fleet)
        self.addCleanup(engine._board_file.close)
        return engine

    def test_fleet(self) -> None:
        """Others forward: each is a twistd in the foreground, with the reactor that was asked for."""
        fleet = self.fleet(self.two(), reactor="poll", nodaemon=False)
        self.assertEqual(
            [list(child._arguments) for child in fleet._children],
            [
                ["--reactor=poll", "-n", "--pidfile=", "--logfile=-", "logging-proxy", f"--worker={number}"]
                for number in (1, 2)
            ],
        )

    def test_spools(self) -> None:
        """Each has a spool of its own, which is free for it; a logging server elsewhere gets both."""
        service = self.make(self.two('server_url: "http://192.0.2.1:8080"'))
        spools = sorted((self.logs / ".spool").iterdir())
        port = service._listeners[0].getsockname()[1]
        self.assertEqual([path.name for path in spools], [str(port), f"{port}-2"])
        for spool in spools:
            os.close(lock_spool(spool))
        self.assertEqual(list(self.rings.iterdir()), [])
        assert service._child is not None
        self.assertEqual(list(service._child._arguments)[-2:], [f"--spool={spool}" for spool in spools])

    def test_busy_spool(self) -> None:
        """A spool of the second that another process writes is one line that names it, and nothing starts."""
        port = free_port()
        spool = self.logs / ".spool" / f"{port}-2"
        spool.mkdir(parents=True)
        lock = lock_spool(spool)
        self.addCleanup(os.close, lock)
        self.patch(tap, "PREDECESSOR", 0.0)
        line = self.mistake(self.two(server=f"port: {port}"))
        self.assertEqual(line, f"{spool}: another process writes this spool")

    def test_nothing_recorded(self) -> None:
        """Where nothing is recorded there are workers all the same."""
        fleet = self.fleet(self.two("default: false"))
        self.assertEqual(len(fleet._children), 2)
        self.assertFalse(self.logs.exists())

    def test_former(self) -> None:
        """With fewer workers than before, what the former ones left is sent as well."""
        port = free_port()
        self.configuration()
        spool = self.logs / ".spool" / f"{port}-2"
        spool.mkdir(parents=True)
        ring, _ = open_ring(spool, self.rings, 4096)
        ring.store(b"left")
        ring.close()
        path = self.configuration(f"port: {port}", 'server_url: "http://192.0.2.1:8080"')
        child = self.make(path)._child
        assert child is not None
        self.assertEqual(child._arguments[-1], f"--spool={spool}")
        self.assertTrue(stream(spool).startswith(b"left"))

    def test_worker(self) -> None:
        """Told to be a worker it is one, and opens nothing of its own: it is told what to do."""
        reading, writing = os.pipe()
        self.patch(tap, "LINK_FD", reading)
        for descriptor in (reading, writing):
            self.addCleanup(os.close, descriptor)
        options = Options()
        options.parseOptions(["--worker=2"])
        options.parent = {"nodaemon": True, "logfile": str(self.log)}  # type: ignore[assignment]
        self.assertIsInstance(makeService(options), WorkerService)
        self.assertFalse(self.logs.exists())


class MistakeTests(StartCase):
    def test_busy_port(self) -> None:
        """A busy port is one line that names it; so is the logging server's."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            line = f"cannot listen on 127.0.0.1:{port}: "
            for mistaken in ({"server": f"port: {port}"}, {"logging_server": f"port: {port}"}):
                said = self.mistake(self.configuration(**mistaken))
                self.assertTrue(said.startswith(line) and "in use" in said, said)

    def test_busy_spool(self) -> None:
        """A spool that another process writes is one line that names it."""
        port = free_port()
        spool = self.logs / ".spool" / str(port)
        spool.mkdir(parents=True)
        lock = lock_spool(spool)
        self.addCleanup(os.close, lock)
        self.patch(tap, "PREDECESSOR", 0.0)
        line = self.mistake(self.configuration(server=f"port: {port}"))
        self.assertEqual(line, f"{spool}: another process writes this spool")

    def test_unwritable(self) -> None:
        """A directory that cannot be made or used is one line with its name and the reason."""
        self.logs.write_bytes(b"a file")
        self.assertRegex(
            self.mistake(self.configuration()), rf"^{self.logs}\S*: (Not a directory|File exists)$"
        )
        self.logs.unlink()
        self.logs.mkdir()
        (self.logs / ".spool").mkdir()
        (self.logs / ".spool").chmod(0o777)
        self.assertEqual(
            self.mistake(self.configuration()), f"{self.logs}/.spool: not ours alone to write to"
        )

    def test_no_room_for_the_ring(self) -> None:
        """A ring that has no room anywhere is one line that says where it was to be, and leaves nothing."""

        def refuse(fd: int, start: int, size: int) -> None:
            raise OSError(28, "No space left on device")

        self.patch(os, "posix_fallocate", refuse)
        ring = rf"^{self.logs}/\.spool/\d+/ring: No space left on device$"
        self.assertRegex(self.mistake(self.configuration()), ring)
        self.assertEqual(list(self.rings.iterdir()), [])

    def test_log_file(self) -> None:
        """A log file that cannot be opened is one line, and so is a daemon's terminal."""
        line = self.mistake(self.configuration(), logfile="/nowhere/proxy.log")
        self.assertEqual(line, "/nowhere/proxy.log: No such file or directory")
        self.assertIn("daemon", self.mistake(self.configuration(), logfile="-", nodaemon=False))

    def test_nothing_is_left(self) -> None:
        """After a start that failed, the same start works."""
        path = self.configuration(server=f"port: {free_port()}")
        self.patch(tap, "sink_for", self.no_sink)
        self.mistake(path)
        self.flushWarnings()
        self.assertFalse(self.logs.exists())

    def no_sink(self, options: Any) -> None:
        raise OSError(13, "Permission denied", "x.log")


class SalvageTests(StartCase):
    def leave(self, name: str) -> Path:
        spool = self.logs / ".spool" / name
        spool.mkdir(parents=True)
        ring, _ = open_ring(spool, self.rings, 4096)
        ring.store(b"left")
        ring.close()
        return spool

    def test_other_port(self) -> None:
        """What a proxy on another port left in its ring is in its spool when any proxy has started."""
        spool = self.leave("1")
        self.make(self.configuration())
        self.assertEqual(stream(spool), b"left")

    def test_own_port(self) -> None:
        """What the last proxy on this port left is in the spool before anything new."""
        port = free_port()
        spool = self.leave(str(port))
        self.make(self.configuration(server=f"port: {port}"))
        self.assertEqual(stream(spool), b"left")

    def test_nothing_recorded(self) -> None:
        """A proxy that records nothing saves what others have left as well."""
        spool = self.leave("1")
        self.make(self.configuration(logging="default: false"))
        self.assertEqual(stream(spool), b"left")


class GreetingTests(StartCase):
    def test_first_lines(self) -> None:
        """The service says what was started, with the addresses that the system chose."""
        service = self.make(self.configuration())
        child = service._child
        assert child is not None
        service._port = service._listeners[0].getsockname()[1]
        page = child._listeners[0].getsockname()[1]
        service._greet(service._configuration, service._port)
        service._output.close()
        first, route, captures, look, last = self.log.read_text().splitlines()
        self.assertRegex(first, rf"^\S+ \S+ Logging Proxy \S+ on http://127\.0\.0\.1:{service._port}$")
        base = f"http://127.0.0.1:{service._port}/api/v1"
        self.assertEqual(route, f"    api       OPENAI_BASE_URL={base} -> http://127.0.0.1:9/")
        self.assertEqual(captures, f"    captures  {self.logs}")
        self.assertRegex(look, rf"^    look      .* --config {self.folder}/config\.yaml tail$")
        self.assertTrue(last.startswith(f"    page      http://127.0.0.1:{page}/"), last)
