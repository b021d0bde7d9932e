"""Errors of the proxy itself, as the SDKs of OpenAI and Anthropic and curl print them."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from logging_proxy.demo.processes import free_port
from logging_proxy.test.certificates import self_signed
from logging_proxy.test.e2e.case import EndToEndCase, write_configuration

PLAIN_TEXT = b"SSH-2.0-something\r\n"


class Listener:
    """Accepts connections and gives each to `serve`, in a thread."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._serve = serve
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                try:
                    self._serve(connection)
                except OSError:
                    pass

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *of: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


def vouching_for_itself(folder: Path) -> Callable[[socket.socket], None]:
    """A TLS server whose certificate is self-signed."""
    who = self_signed("localhost")
    path = folder / "server.pem"
    path.write_bytes(who.certificate + who.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)

    def serve(connection: socket.socket) -> None:
        context.wrap_socket(connection, server_side=True).close()

    return serve


def not_tls(connection: socket.socket) -> None:
    connection.sendall(PLAIN_TEXT)
    connection.recv(1000)


def closing(connection: socket.socket) -> None:
    connection.recv(1000)


class OwnErrorsCase(EndToEndCase):
    def setUp(self) -> None:
        super().setUp()
        self.closed = free_port()
        insecure = self.stack.enter_context(Listener(vouching_for_itself(self.folder)))
        other = self.stack.enter_context(Listener(not_tls))
        silent = self.stack.enter_context(Listener(closing))
        self.destinations = {
            "refused": f"http://127.0.0.1:{self.closed}",
            "insecure": f"https://localhost:{insecure.port}",
            "other": f"https://localhost:{other.port}",
            "silent": f"http://127.0.0.1:{silent.port}",
        }
        to = self.destinations.items()
        routes = {name: {"pattern": f"/{name}/", "destination": f"{url}/"} for name, url in to}
        self.config = write_configuration(self.folder, routes)
        self.start_proxy(self.config)
        self.here = f"http://127.0.0.1:{self.config.port}"

    def expected(self) -> list[tuple[str, str, int, str]]:
        """Paths of base URLs, and the code, the status and the words that are told."""
        to = self.destinations
        return [
            ("refused", "connection_refused", 502, f"cannot connect to {to['refused']}: connection refused"),
            ("insecure", "certificate_self_signed", 502, f"{to['insecure']}: the certificate is self-signed"),
            ("other", "not_tls", 502, f"{to['other']}: TLS: what listens there does not speak TLS"),
            ("silent", "upstream_closed", 502, f"{to['silent']} closed the connection without an answer"),
            ("refusde", "no_route", 404, f"Did you mean {self.here}/refused"),
        ]

    def assert_printed(
        self, kind: type[Exception], ask: Callable[[str], object], code_of: Callable[[Any], object]
    ) -> None:
        """The exception's text has status, destination, reason and the exchange."""
        for base, code, status, words in self.expected():
            error: Any = self.assertRaises(kind, ask, f"{self.here}/{base}")
            self.assertEqual((error.status_code, code_of(error)), (status, code))
            for printed in (str(status), words, "(exchange "):
                self.assertIn(printed, str(error))


class OpenAITests(OwnErrorsCase):
    def setUp(self) -> None:
        if find_spec("openai") is None:
            raise SkipTest("the package openai is not installed")
        super().setUp()

    def ask(self, base: str, stream: bool) -> object:
        import openai

        with openai.OpenAI(base_url=f"{base}/v1", api_key="sk-x", max_retries=0) as client:
            messages: Any = [{"role": "user", "content": "Hello."}]
            return client.chat.completions.create(model="m", messages=messages, stream=stream)

    def test_printed(self) -> None:
        """Whole answers and streams alike."""
        import openai

        for stream in (False, True):
            self.assert_printed(openai.APIStatusError, partial(self.ask, stream=stream), attrgetter("code"))

    def test_as_forward_proxy(self) -> None:
        """Used as HTTPS_PROXY: what is printed is the reason phrase, and it says what to set instead."""
        import httpx2
        import openai

        with openai.OpenAI(
            base_url="https://api.openai.com/v1",
            api_key="sk-x",
            max_retries=0,
            http_client=httpx2.Client(proxy=self.here),
        ) as client:
            error = self.assertRaises(openai.APIConnectionError, client.models.list)
        self.assertIn("this is a reverse proxy", str(error.__cause__))


def code_in_body(error: Any) -> object:
    return error.body["error"]["code"]


class AnthropicTests(OwnErrorsCase):
    def setUp(self) -> None:
        if find_spec("anthropic") is None:
            raise SkipTest("the package anthropic is not installed")
        super().setUp()

    def ask(self, base: str, stream: bool) -> object:
        import anthropic

        with anthropic.Anthropic(base_url=base, api_key="sk-x", max_retries=0) as client:
            messages: Any = [{"role": "user", "content": "Hello."}]
            return client.messages.create(model="m", max_tokens=1, messages=messages, stream=stream)

    def test_printed(self) -> None:
        """Whole answers and streams alike."""
        import anthropic

        for stream in (False, True):
            self.assert_printed(anthropic.APIStatusError, partial(self.ask, stream=stream), code_in_body)


class CurlTests(OwnErrorsCase):
    def setUp(self) -> None:
        if shutil.which("curl") is None:
            raise SkipTest("curl is not installed")
        super().setUp()

    def curl(self, *arguments: str) -> str:
        done = subprocess.run(["curl", "-sS", *arguments], capture_output=True, text=True, timeout=60)
        return done.stdout + done.stderr

    def test_printed(self) -> None:
        """A person gets a line, and after a wrong path the routes."""
        to = self.destinations["refused"]
        said = self.curl(f"{self.here}/refused/v1/models", "-d", "a=1")
        self.assertTrue(said.startswith(f"cannot connect to {to}: connection refused (exchange "), said)
        self.assertEqual(said.count("\n"), 1)
        said = self.curl(f"{self.here}/v1/models")
        self.assertTrue(said.startswith("no route matches GET /v1/models (exchange "), said)
        self.assertIn(f"\n  /refused/ at {self.here}/refused", said)

    def test_tls_to_the_plain_port(self) -> None:
        """`https://` in the URL of a port that speaks plain HTTP is told in the proxy's log."""
        self.curl("-k", f"https://127.0.0.1:{self.config.port}/refused/")
        capture = self.capture_of(self.config, "")
        self.assertEqual(capture.outcome, "protocol_error")
        self.assertIn("TLS on a port that speaks plain HTTP", (self.folder / "proxy.log").read_text())
