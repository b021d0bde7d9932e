"""An HTTP connection to the logging server, and the WebSocket of its live feed."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from logging_proxy.cli.sources import NoServer, Refusal, Trouble
from logging_proxy.index.filters import BadFilter
from logging_proxy.redaction.redact import redact_url
from logging_proxy.service.console import safe

TIMEOUT = 30.0
CONNECT_TIMEOUT = 5.0
TICK = 0.5
"""Seconds without a live event after which control returns to the caller."""

CHUNK = 256 << 10
ANSWER_LIMIT = 256 << 20
MESSAGE_LIMIT = 16 << 20

_VISIBLE = re.compile(r"[!-~]+")


Connect = Callable[[str, int, bool], socket.socket]
"""Connects a socket, given host, port and whether to use TLS."""


def open_socket(host: str, port: int, secure: bool) -> socket.socket:
    """Connect to a logging server, verifying its certificate with TLS.  Raises OSError."""
    plain = socket.create_connection((host, port), CONNECT_TIMEOUT)
    plain.settimeout(TIMEOUT)
    if not secure:
        return plain
    context = ssl.create_default_context()
    # Python 3.13 adds checks of form, which certificates of private authorities often fail.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.hostname_checks_common_name = False
    return context.wrap_socket(plain, server_hostname=host.removesuffix("."))  # RFC 6066 §3


class Server:
    """The logging server at a URL; `token` is sent with every request."""

    def __init__(self, url: str, token: str | None = None, connect: Connect | None = None) -> None:
        shown = safe(redact_url(url))
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise Trouble(f"{shown}: not a URL") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Trouble(f"{shown}: not an http:// or https:// URL")
        if not _is_host(parts.hostname) or not url.isprintable() or " " in url:
            raise Trouble(f"{shown}: not a URL")
        if token and not _VISIBLE.fullmatch(token):
            raise Trouble("invalid token: expected visible ASCII characters, without spaces")
        self.url = shown.rstrip("/")
        self._secure = parts.scheme == "https"
        self._host = parts.hostname
        self._port = port or (443 if self._secure else 80)
        self._base = parts.path.rstrip("/")
        self._token = token
        self._connect_to = connect or open_socket
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, path: str, parameters: Mapping[str, str] | None = None) -> Any:
        """GET an address and return its JSON value.  Raises `Trouble` for any other response."""
        response = self._answer(path, parameters or {})
        try:
            value = json.loads(response.read(ANSWER_LIMIT))
        except (ValueError, RecursionError):
            raise NoServer(f"{self.url}: not a logging server (its answer is not JSON)") from None
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(error) from None
        if response.status != 200:
            raise self._refusal(response.status, value)
        return value

    def download(self, path: str) -> Iterator[bytes]:
        """GET the bytes at an address; yields nothing if there are none (404, 410)."""
        response = self._answer(path, {})
        if response.status in (404, 410):
            response.read()
            return
        try:
            if response.status != 200:
                raise self._refusal(response.status, _json(response.read(CHUNK)))
            while data := response.read(CHUNK):
                yield data
            if response.length:
                raise Trouble(f"{self.url}: the response was cut off")
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(error) from None
        finally:
            if not response.isclosed():
                self._close()

    def watch(self, path: str, parameters: Mapping[str, str]) -> Iterator[Any | None]:
        """The messages of a WebSocket until it is closed, and None after each `TICK` without a message."""
        plain = self._connect()
        try:
            yield from _messages(plain, self._host_header(), self._target(path, parameters), self._headers())
        except OSError as error:
            raise self._broken(error) from None
        finally:
            plain.close()

    # --- plain HTTP

    def _answer(self, path: str, parameters: Mapping[str, str]) -> http.client.HTTPResponse:
        """Send a request and return the response, body unread.  Retries if a reused connection was closed."""
        for again in (self._connection is not None, False):
            try:
                if self._connection is None:
                    self._connection = self._open()
                self._connection.request("GET", self._target(path, parameters), headers=self._headers())
                return self._connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                self._close()
                if not again:
                    raise self._broken(error) from None
        raise AssertionError("not reached")

    def _open(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT)
        connection.sock = self._connect()
        return connection

    def _connect(self) -> socket.socket:
        try:
            return self._connect_to(self._host, self._port, self._secure)
        except OSError as error:
            raise self._broken(error) from None

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _target(self, path: str, parameters: Mapping[str, str]) -> str:
        query = f"?{urlencode(parameters)}" if parameters else ""
        return f"{quote(self._base, safe='/%')}{path}{query}"

    def _host_header(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self._port}"

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def _broken(self, error: Exception) -> Trouble:
        if isinstance(error, ConnectionRefusedError):
            return NoServer(f"{self.url}: no logging server listens there")
        if isinstance(error, socket.gaierror):
            return NoServer(f"{self.url}: there is no such host")
        if isinstance(error, http.client.HTTPException):
            return NoServer(f"{self.url}: not a logging server (its answer is no HTTP)")
        if isinstance(error, TimeoutError):
            return Trouble(f"{self.url}: the server did not answer in time")
        return Trouble(f"{self.url}: {safe(str(getattr(error, 'strerror', None) or error), 200)}")

    def _refusal(self, status: int, value: Any) -> Exception:
        """The error for a problem document (RFC 9457), or for the trouble that `/health` reports."""
        if status == 400 and (parameter := _words(value, "parameter")):
            return BadFilter(parameter, _words(value, "detail").removeprefix(f"{parameter}: "))
        if status == 401:
            hint = "the token is wrong" if self._token else "a token is required"
            why = _words(value, "detail")
            where = "give it in LOGGING_PROXY_TOKEN, or as logging_server.token of --config"
            return Refusal(f"{self.url}: {hint}; {where}{why and f' ({why})'}", status)
        text = _words(value, "title", "detail", "reason")
        return Refusal(f"{self.url}: {text or f'the answer has the status {status}'}", status)


def _words(value: Any, *names: str) -> str:
    """The texts of these members of a problem document."""
    words = [value.get(name) for name in names] if isinstance(value, dict) else []
    return " ".join(safe(str(word), 300) for word in words if word)


def _is_host(name: str) -> bool:
    """Whether the host name is one that can be resolved."""
    try:
        return bool(name.encode("idna"))
    except UnicodeError:
        return False


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


# --- the WebSocket -------------------------------------------------------------------


def _messages(
    plain: socket.socket, host: str, target: str, headers: Mapping[str, str]
) -> Iterator[Any | None]:
    # Imported here to keep the other commands fast.
    from wsproto import ConnectionType, WSConnection
    from wsproto.events import CloseConnection, Ping, RejectConnection, Request, TextMessage
    from wsproto.utilities import RemoteProtocolError

    connection = WSConnection(ConnectionType.CLIENT)
    extra = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    plain.sendall(connection.send(Request(host=host, target=target, extra_headers=extra)))
    plain.settimeout(TICK)
    text: list[str] = []
    length = 0
    try:
        while True:
            try:
                data = plain.recv(CHUNK)
            except TimeoutError:
                yield None
                continue
            connection.receive_data(data or None)
            for event in connection.events():
                if isinstance(event, TextMessage):
                    text.append(event.data)
                    length += len(event.data)
                    if length > MESSAGE_LIMIT:
                        raise Trouble("the live feed sent a message that is too long")
                    if event.message_finished:
                        yield _json("".join(text).encode("utf-8", "replace"))
                        text, length = [], 0
                elif isinstance(event, Ping):
                    plain.sendall(connection.send(event.response()))
                elif isinstance(event, RejectConnection):
                    raise Refusal("the live feed is not available now", event.status_code)
                elif isinstance(event, CloseConnection):
                    return
            if not data:
                return
    except RemoteProtocolError:
        raise NoServer("the live feed is not a WebSocket") from None
