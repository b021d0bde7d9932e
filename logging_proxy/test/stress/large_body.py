"""Relays a body of any size, hashed at both ends, to show that memory does not grow with it."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from logging_proxy.demo.captures import Capture, Half
from logging_proxy.test.stress.figures import Figure, at_most, exactly, told
from logging_proxy.test.stress.peers import HOST, fields, head, request, response
from logging_proxy.test.stress.stage import MIB, Process, Stage, captures

PIECE = MIB
PATIENCE = 600.0
RSS_DELTA = 32


@dataclass(slots=True)
class Passage:
    """The digests of a body at its source and at its destination."""

    sent: str = ""
    received: str = ""


class Peak:
    """The growth of the processes' peak resident memory while the context is entered."""

    def __init__(self, *pids: int) -> None:
        self._processes = [Process(pid) for pid in pids]
        self._base = [process.rss() for process in self._processes]
        self.growth = [0.0] * len(pids)
        self._over = threading.Event()
        self._watching = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self._watching.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watching.join()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            for number, process in enumerate(self._processes):
                try:
                    grown = process.rss() - self._base[number]
                except OSError:
                    continue
                self.growth[number] = max(self.growth[number], grown)


def figures(stage: Stage, size: int) -> Iterator[Figure]:
    """`size` bytes in each direction: equal at both ends and in the capture, in constant memory."""
    with socket.create_server((HOST, 0)) as listener:
        setup = stage.configure({"up": f"http://{HOST}:{listener.getsockname()[1]}/"})
        program = stage.start(setup)
        down, up = Passage(), Passage()
        _through(listener, setup.port, min(size // 4, 100 * MIB), down, up)
        server = Process(program.process.pid).children()
        with Peak(program.process.pid, *server) as peak:
            _through(listener, setup.port, size, down, up)
    found = captures(setup.log_dir, 4, PATIENCE)
    yield told("through, each way", f"{size / MIB:.0f} MiB")
    yield at_most("RSS of the proxy, growth", peak.growth[0], RSS_DELTA, "MiB")
    for growth in peak.growth[1:]:
        # The index reads up to 16 MiB of a body, decodes it and extracts its text, which takes a multiple.
        yield at_most("RSS of the logging server, growth", growth, 3 * RSS_DELTA, "MiB")
    yield exactly("digest of the download at the client", down.received[:12], down.sent[:12])
    yield exactly("digest of the upload at the upstream", up.received[:12], up.sent[:12])
    kept_down, kept_up = _kept(found, "GET"), _kept(found, "POST")
    yield exactly("digest of the download in the capture", kept_down, f"{down.sent[:12]} {size}")
    yield exactly("digest of the upload in the capture", kept_up, f"{up.sent[:12]} {size}")


def _through(listener: socket.socket, port: int, size: int, down: Passage, up: Passage) -> None:
    for method, passage in (("GET", down), ("POST", up)):
        serving = threading.Thread(target=_serve, args=(listener, size, passage), daemon=True)
        serving.start()
        _call(port, method, size, passage)
        serving.join(PATIENCE)


def _serve(listener: socket.socket, size: int, passage: Passage) -> None:
    """The upstream; serves one request."""
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(PATIENCE)
        begin, rest = _head(connection)
        if begin.startswith(b"GET"):
            connection.sendall(head(f"Content-Length: {size}"))
            passage.sent = send(connection, size)
        else:
            passage.received = receive(connection, size, rest)
            connection.sendall(response(b"thanks"))


def _call(port: int, method: str, size: int, passage: Passage) -> None:
    """The client; makes one request."""
    with socket.create_connection((HOST, port), PATIENCE) as connection:
        if method == "GET":
            connection.sendall(request(method, "/up/large", "Connection: close"))
            begin, rest = _head(connection)
            passage.received = receive(connection, int(fields(begin)["content-length"]), rest)
        else:
            bare = request(method, "/up/large", "Connection: close", f"Content-Length: {size}")
            connection.sendall(bare.replace(b"Content-Length: 0\r\n", b""))
            passage.sent = send(connection, size)
            _head(connection)


def _head(connection: socket.socket) -> tuple[bytes, bytes]:
    """A head, and the bytes of the body received with it."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError("no head")
        data += piece
    begin, _, rest = data.partition(b"\r\n\r\n")
    return begin, rest


def send(connection: socket.socket, size: int) -> str:
    """Send `size` bytes in distinct pieces; returns their digest."""
    digest, noise = hashlib.sha256(), random.Random(8).randbytes(PIECE)
    for start in range(0, size, PIECE):
        piece = (start.to_bytes(8, "big") + noise[8:])[: size - start]
        digest.update(piece)
        connection.sendall(piece)
    return digest.hexdigest()


def receive(connection: socket.socket, size: int, first: bytes) -> str:
    """The digest of `size` bytes, the first of which have been received already."""
    digest, missing = hashlib.sha256(first), size - len(first)
    buffer = memoryview(bytearray(PIECE))
    while missing:
        count = connection.recv_into(buffer[: min(PIECE, missing)])
        if not count:
            raise ConnectionError(f"{missing} bytes are missing")
        digest.update(buffer[:count])
        missing -= count
    return digest.hexdigest()


def _kept(found: list[Capture], method: str) -> str:
    """Digest and size of an exchange's last body, which file and metadata must agree on."""
    halves = [
        c.request if method == "POST" else c.response for c in found if method in c.request.metadata["method"]
    ]
    half = halves[-1] if halves else None
    if half is None:
        return "nothing"
    digest, size = _digest_of(half)
    if (digest, size) != (half.metadata["sha256"], half.metadata["bytes"]):
        return "the metadata says otherwise"
    return f"{digest[:12]} {size}"


def _digest_of(half: Half) -> tuple[str, int]:
    """The digest of the body in a file, which may be larger than memory."""
    digest, size = hashlib.sha256(), 0
    with half.path.open("rb") as file:
        while file.readline() not in (b"\r\n", b""):
            pass
        while piece := file.read(PIECE):
            digest.update(piece)
            size += len(piece)
    return digest.hexdigest(), size
