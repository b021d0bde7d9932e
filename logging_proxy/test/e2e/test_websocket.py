"""WebSockets and other upgrades through a real proxy: as without it, and every byte in the files."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from logging_proxy.demo.captures import Capture, wait_for_captures
from logging_proxy.test.e2e.case import EndToEndCase, Setup, write_configuration

TIMEOUT = 60.0
LARGE = random.Random(3).randbytes(12 << 20)
ASK = b"GET /up/socket HTTP/1.1\r\nHost: proxy.test\r\nConnection: Upgrade\r\nUpgrade: bytes\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: bytes\r\n\r\n"

QUICK = ("1.*", "2.*", "5.*", "7.*")
"""Groups of Autobahn's cases: framing, pings, fragments, closing.  84 cases in 2 s."""

Talk = Callable[[socket.socket, bytes], None]
"""What an upstream does after its 101; called with what came behind the request's head."""


class Switcher:
    """An upstream on a real socket that switches protocols, sends `first` behind its 101, and talks."""

    def __init__(self, talk: Talk, first: bytes = b"") -> None:
        self._talk = talk
        self._first = first
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.head = b""
        self.failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Switcher:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        # A thread inside accept keeps a closed socket's port open on Linux; shutdown wakes it.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(TIMEOUT)
        self._listener.close()

    def _serve(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        try:
            with connection:
                connection.settimeout(TIMEOUT)
                self.head, rest = read_head(connection)
                connection.sendall(SWITCH + self._first)
                self._talk(connection, rest)
        except BaseException as failure:
            self.failures.append(failure)


def read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    """A head with its blank line, and what came in the same reads."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError(f"no head in {data[:200]!r}")
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


def read_all(connection: socket.socket, rest: bytes = b"") -> bytes:
    """Everything until the peer ends its direction."""
    pieces = [rest]
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def read_just(connection: socket.socket, size: int, rest: bytes = b"") -> bytes:
    """So many bytes, or fewer if the peer ends before."""
    while len(rest) < size and (piece := connection.recv(size - len(rest))):
        rest += piece
    return rest


def reset(connection: socket.socket) -> None:
    """Close with an RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class TunnelTests(EndToEndCase):
    def tunnel(self, talk: Talk, first: bytes = b"", **sections: Any) -> None:
        """A proxy before an upstream that switches and then talks."""
        self.upstream = self.stack.enter_context(Switcher(talk, first))
        self.config = self.configure(self.upstream.port, **sections)
        self.program = self.start_proxy(self.config)

    def connect(self, behind: bytes = b"") -> tuple[socket.socket, bytes]:
        """A client that has got its 101, and what came behind that."""
        client = socket.create_connection(("127.0.0.1", self.config.port), TIMEOUT)
        self.stack.callback(client.close)
        client.sendall(ASK + behind)
        head, rest = read_head(client)
        self.assertEqual(head, SWITCH)
        return client, rest

    def assertCaptured(self, outcome: str, sent: bytes, received: bytes) -> Capture:
        """The files hold the heads and exactly these bytes, with their lengths, digests and times."""
        capture = self.capture_of(self.config, "/up/socket")
        response = capture.response
        assert response is not None
        self.assertEqual(capture.outcome, outcome)
        self.assertEqual(response.head + b"\r\n\r\n", SWITCH)
        for half, data in ((capture.request, sent), (response, received)):
            metadata = half.metadata
            self.assertEqual(half.body, data)
            self.assertEqual(metadata["bytes"], len(data))
            self.assertEqual(metadata["sha256"], hashlib.sha256(data).hexdigest())
            self.assertEqual((metadata["framing"], metadata["outcome"]), ("tunnel", outcome))
            offsets = [offset for offset, _ in metadata["pieces"]]
            times = [time for _, time in metadata["pieces"]]
            self.assertEqual((offsets, times), (sorted(set(offsets)), sorted(times)))
            self.assertEqual(offsets[:1], [0] if data else [])
        self.assertEqual(self.upstream.failures, [])
        return capture

    def test_conversation(self) -> None:
        """Piece by piece: both ways, as sent, kept with the direction and the time of each."""

        def talk(connection: socket.socket, rest: bytes) -> None:
            self.assertEqual(read_just(connection, 7, rest), b"earlygo")
            for word in (b"one", b"two", b"three"):
                connection.sendall(word)
                self.assertEqual(read_just(connection, len(word)), word.upper())
            self.assertEqual(connection.recv(100), b"")

        self.tunnel(talk, first=b"prompt")
        client, rest = self.connect(behind=b"early")
        self.assertEqual(read_just(client, 6, rest), b"prompt")
        client.sendall(b"go")
        for word in (b"one", b"two", b"three"):
            self.assertEqual(read_just(client, len(word)), word)
            client.sendall(word.upper())
        client.shutdown(socket.SHUT_WR)
        self.assertEqual(client.recv(100), b"")
        capture = self.assertCaptured("complete", b"earlygoONETWOTHREE", b"promptonetwothree")
        self.assertIn(b"\r\nConnection: Upgrade\r\nUpgrade: bytes\r\nX-Proxy-Path: ", capture.request.head)
        assert capture.response is not None
        said = [(time, "client") for _, time in capture.request.metadata["pieces"]]
        said += [(time, "upstream") for _, time in capture.response.metadata["pieces"]]
        turns = [who for _, who in sorted(said)]
        self.assertEqual(turns[-7:], ["client", *["upstream", "client"] * 3])

    def test_half_closes(self) -> None:
        """Who has said everything may end its direction, and still gets the answer."""

        def talk(connection: socket.socket, rest: bytes) -> None:
            asked = read_all(connection, rest)
            connection.sendall(hashlib.sha256(asked).digest())

        self.tunnel(talk)
        client, _ = self.connect()
        client.sendall(LARGE)
        client.shutdown(socket.SHUT_WR)
        digest = hashlib.sha256(LARGE).digest()
        self.assertEqual(read_all(client), digest)
        self.assertCaptured("complete", LARGE, digest)

    def test_upstream_half_closes(self) -> None:
        """The same the other way round."""
        digest = hashlib.sha256(LARGE).digest()

        def talk(connection: socket.socket, rest: bytes) -> None:
            connection.sendall(LARGE)
            connection.shutdown(socket.SHUT_WR)
            self.assertEqual(read_all(connection, rest), digest)

        self.tunnel(talk)
        client, rest = self.connect()
        client.sendall(hashlib.sha256(read_all(client, rest)).digest())
        client.shutdown(socket.SHUT_WR)
        self.assertCaptured("complete", digest, LARGE)

    def test_both_at_once(self) -> None:
        """Much in both directions at the same time, each at its reader's pace."""
        back = LARGE[::-1]

        def talk(connection: socket.socket, rest: bytes) -> None:
            sender = threading.Thread(target=connection.sendall, args=(back,))
            sender.start()
            self.assertEqual(read_all(connection, rest), LARGE)
            sender.join(TIMEOUT)
            connection.shutdown(socket.SHUT_WR)

        self.tunnel(talk)
        client, rest = self.connect()
        sender = threading.Thread(target=self._send_all, args=(client, LARGE))
        sender.start()
        self.assertEqual(read_all(client, rest), back)
        sender.join(TIMEOUT)
        self.assertCaptured("complete", LARGE, back)

    def _send_all(self, connection: socket.socket, data: bytes) -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)

    def test_client_resets(self) -> None:
        """A client that vanishes: the upstream is told by a reset, what had passed is kept."""
        ended = threading.Event()

        def talk(connection: socket.socket, rest: bytes) -> None:
            with self.assertRaises(ConnectionResetError):
                read_all(connection, rest)
            ended.set()

        self.tunnel(talk, first=b"hello")
        client, rest = self.connect()
        self.assertEqual(read_just(client, 5, rest), b"hello")
        reset(client)
        self.assertTrue(ended.wait(TIMEOUT))
        self.assertCaptured("client_closed", b"", b"hello")

    def test_upstream_resets(self) -> None:
        """An upstream that vanishes: the client gets what came, then a reset."""
        said = threading.Event()

        def talk(connection: socket.socket, rest: bytes) -> None:
            said.wait(TIMEOUT)
            reset(connection)

        self.tunnel(talk, first=b"hello")
        client, rest = self.connect()
        self.assertEqual(read_just(client, 5, rest), b"hello")
        said.set()
        with self.assertRaises(ConnectionResetError):
            client.recv(100)
        self.assertCaptured("upstream_reset", b"", b"hello")

    def test_shutdown(self) -> None:
        """A tunnel does not keep the proxy from stopping: it is interrupted, and kept as that."""

        def talk(connection: socket.socket, rest: bytes) -> None:
            with self.assertRaises(ConnectionResetError):
                read_all(connection, rest)

        self.tunnel(talk, first=b"hello", server={"shutdown_timeout": 0.5})
        client, rest = self.connect()
        self.assertEqual(read_just(client, 5, rest), b"hello")
        self.program.process.send_signal(signal.SIGTERM)
        with self.assertRaises(ConnectionResetError):
            client.recv(100)
        self.assertEqual(self.program.process.wait(TIMEOUT), 0)
        self.assertCaptured("interrupted", b"", b"hello")


class WebSocketTests(EndToEndCase):
    """With an implementation of WebSocket at each end."""

    def setUp(self) -> None:
        super().setUp()
        if find_spec("websockets") is None:
            raise SkipTest("websockets is not installed")

    def start_echo(self, *subprotocols: str) -> int:
        """A WebSocket server that sends every message back; its port.  It insists on its subprotocols."""
        from websockets.exceptions import ConnectionClosed
        from websockets.sync.server import ServerConnection, serve
        from websockets.typing import Subprotocol

        def echo(connection: ServerConnection) -> None:
            try:
                for message in connection:
                    connection.send(message)
            except ConnectionClosed:
                pass  # what many of Autobahn's cases end with

        wanted = [Subprotocol(name) for name in subprotocols] or None
        server = serve(echo, "127.0.0.1", 0, max_size=1 << 25, subprotocols=wanted)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.stack.callback(thread.join, TIMEOUT)
        self.stack.callback(server.shutdown)
        port: int = server.socket.getsockname()[1]
        return port

    def test_messages(self) -> None:
        """Subprotocol, compression, texts, binaries, pings and the closing handshake: as if directly."""
        from websockets.sync.client import connect
        from websockets.typing import Subprotocol

        setup = self.configure(self.start_echo("realtime"))
        self.start_proxy(setup)
        create = json.dumps({"type": "response.create"})
        messages: list[str | bytes] = ["", "hello", "ä€😀" * 20_000, create, LARGE[: 1 << 20]]
        with connect(
            f"ws://127.0.0.1:{setup.port}/up/", subprotocols=[Subprotocol("realtime")], max_size=1 << 25
        ) as client:
            self.assertEqual(client.subprotocol, "realtime")
            assert client.response is not None
            self.assertIn("permessage-deflate", client.response.headers["Sec-WebSocket-Extensions"])
            for message in messages:
                client.send(message)
                self.assertEqual(client.recv(TIMEOUT), message)
            self.assertTrue(client.ping().wait(TIMEOUT))
        capture = self.capture_of(setup, "/up/")
        self.assertEqual(capture.outcome, "complete")
        assert capture.response is not None
        self.assertEqual(capture.response.metadata["status"], 101)
        self.assertGreater(capture.request.metadata["bytes"], 1 << 20)

    def test_autobahn(self) -> None:
        """Autobahn's cases end through the proxy as they do without it, one by one."""
        program = shutil.which("kosoku", path=Path(sys.executable).parent)
        if program is None:
            raise SkipTest("kosoku is not installed")
        port = self.start_echo()
        route = {"pattern": "/", "destination": f"http://127.0.0.1:{port}/"}
        setup = write_configuration(self.folder, {"up": route})
        self.start_proxy(setup)
        direct = self.autobahn(program, "direct", port)
        self.assertGreater(len(direct), 80)
        self.assertGreater(sum(case["behavior"] == "OK" for case in direct.values()), 70)
        through = self.autobahn(program, "through", setup.port)
        self.assertEqual(through, direct)
        self.assertEqual(self.outcomes(setup, len(direct)), {"complete"})

    def autobahn(self, program: str, name: str, port: int) -> Mapping[str, Mapping[str, Any]]:
        """How each case ended with the server at `port`."""
        folder = self.folder / name
        include = [word for group in QUICK for word in ("-i", group)]
        command = [program, "-m", "fuzzingclient", *include, "-p", "4"]
        subprocess.run(
            [*command, "-o", str(folder), f"127.0.0.1:{port}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            timeout=60,
        )
        (results,) = json.loads((folder / "index.json").read_bytes()).values()
        told = ("behavior", "behaviorClose", "remoteCloseCode")
        # Whether a case is passed strictly depends on how much the server had read when it failed the
        # connection: on a busy machine that differs from run to run, without a proxy too.
        same = {"NON-STRICT": "OK"}
        return {
            case: {key: same.get(result[key], result[key]) for key in told}
            for case, result in results.items()
        }

    def outcomes(self, setup: Setup, count: int) -> set[str]:
        """The outcomes of all captures, once there are `count`."""
        found = wait_for_captures(setup.log_dir, count, timeout=60)
        self.assertEqual(len(found), count)
        return {capture.outcome for capture in found}
