"""What the demonstration reads: the configuration before it, the captures after it."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.captures.names import METADATA
from logging_proxy.demo import model_server
from logging_proxy.demo import scene as scenes
from logging_proxy.demo.captures import describe, read_captures, wait_for_captures
from logging_proxy.demo.processes import free_port
from logging_proxy.demo.scene import Obstacle, Scene, check, read_scene

ID = "092d0424-0000-4000-8000-000000000000"


def write_half(folder: Path, kind: str, body: bytes, **metadata: Any) -> None:
    """One half of a capture, as the logging server leaves it."""
    path = folder / f"2025-09-13_02-11-09.123_092d0424_{kind}.bin"
    path.write_bytes(b"first line\r\nName: value\r\n\r\n" + body)
    document = {
        "id": ID,
        "stream_type": kind,
        "method": "POST",
        "source_url": "http://localhost:5601/a/b",
        "destination_url": "http://127.0.0.1:1234/b",
        "outcome": "complete",
        "processing_time_ms": 1.5,
        **metadata,
    }
    path.with_name(f"{path.stem}_metadata.json").write_text(json.dumps(document))


class SceneTests(SynchronousTestCase):
    def scene(self, text: str) -> Scene:
        """The scene of a configuration."""
        path = Path(self.mktemp())
        path.write_text(text)
        return read_scene(path)

    def test_addresses(self) -> None:
        """The addresses are the configuration's, and its defaults where it is silent."""
        scene = self.scene(
            'routes: {lmstudio: {pattern: "/m/", destination: "http://127.0.0.1:4321/"}}\n'
            'logging_server: {log_dir: "kept"}\n'
        )
        self.assertEqual(scene.model, ("127.0.0.1", 4321))
        self.assertEqual(scene.proxy, ("localhost", 5601))
        self.assertEqual(scene.logging_server, ("localhost", 8080))
        self.assertEqual(scene.route, "http://localhost:5601/m/")
        self.assertEqual(scene.log_dir, scene.config.parent.absolute() / "kept")

    def test_no_route(self) -> None:
        """Without the model's route there is nothing to show."""
        text = 'routes: {other: {pattern: "/m/", destination: "http://127.0.0.1:4321/"}}'
        error = self.assertRaises(Obstacle, self.scene, text)
        self.assertIn("lmstudio", str(error))

    def test_port_in_use(self) -> None:
        """A port that somebody has is named, with what it is for."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            taken = listener.getsockname()[1]
            free = ("127.0.0.1", free_port())
            scene = Scene(Path("c"), ("127.0.0.1", taken), free, free, "http://127.0.0.1/", Path("logs"))
            self.patch(scenes, "find_spec", lambda name: object())
            self.patch(model_server, "missing", lambda: None)
            error = self.assertRaises(Obstacle, check, scene)
        self.assertEqual(str(error), f"the proxy needs 127.0.0.1:{taken}, which another program uses")


class CapturesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def test_halves(self) -> None:
        """The two halves of an exchange are joined by its id."""
        write_half(self.folder, "request", b"question")
        write_half(self.folder, "response", b"\r\n\r\nanswer", status=200)
        (capture,) = read_captures(self.folder)
        assert capture.response is not None
        self.assertEqual(capture.request.head, b"first line\r\nName: value")
        self.assertEqual((capture.request.body, capture.response.body), (b"question", b"\r\n\r\nanswer"))
        self.assertEqual((capture.outcome, capture.source_url), ("complete", "http://localhost:5601/a/b"))

    def test_no_response(self) -> None:
        """A request alone is a capture, which waiting for answered ones does not take for one."""
        write_half(self.folder, "request", b"question", outcome="connect_failed")
        (capture,) = wait_for_captures(self.folder, 1, timeout=0)
        self.assertIsNone(capture.response)
        self.assertEqual(capture.outcome, "connect_failed")

    def test_unfinished(self) -> None:
        """Metadata that are being written are passed over; whole ones that are no JSON are a fault."""
        write_half(self.folder, "request", b"question")
        path = self.folder / f"other{METADATA}"
        for unfinished in (b"", b'{"id":"1', bytes(100)):
            path.write_bytes(unfinished)
            self.assertEqual(len(read_captures(self.folder)), 1, unfinished)
        path.write_bytes(b'{"id":"1",}\n')
        self.assertRaises(ValueError, read_captures, self.folder)

    def test_no_folder(self) -> None:
        """Before the first exchange there may be no folder."""
        self.assertEqual(read_captures(self.folder / "nowhere"), [])

    def test_description(self) -> None:
        """A person sees where the exchange went, how it ended, and each file with its size."""
        write_half(self.folder, "request", b"question")
        write_half(self.folder, "response", b"answer", status=200)
        (capture,) = read_captures(self.folder)
        self.assertEqual(
            describe(capture).splitlines(),
            [
                "POST http://localhost:5601/a/b",
                "  to http://127.0.0.1:1234/b",
                "  complete, status 200, 2 ms",
                "  2025-09-13_02-11-09.123_092d0424_request.bin  35 bytes",
                "  2025-09-13_02-11-09.123_092d0424_request_metadata.json",
                "  2025-09-13_02-11-09.123_092d0424_response.bin  33 bytes",
                "  2025-09-13_02-11-09.123_092d0424_response_metadata.json",
            ],
        )
