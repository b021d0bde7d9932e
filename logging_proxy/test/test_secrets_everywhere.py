"""Secrets under every name, and look-alikes, through every outlet: none of the ones, all of the others."""

from __future__ import annotations

import json
from collections.abc import Iterator

from logging_proxy.recording.records import Kind, RequestHead, encode, encode_request_head
from logging_proxy.service.console import Progress, asked_for, end_line, exchange_line
from logging_proxy.test.cli_stage import command
from logging_proxy.test.logserver_spools import Script
from logging_proxy.test.test_secret_names import HARMLESS, SECRET
from logging_proxy.test.web_stage import ServerTestCase

CANARY = "c4n4ry"
LEFT_OUT = {
    "Host",
    "Connection",
    "Keep-Alive",
    "Content-Length",
    "Transfer-Encoding",
    "Sec-WebSocket-Protocol",
}
"""Fields that mean something on the way, and so cannot hold any text."""


def is_token(name: str) -> bool:
    return not set(name) & set("[]")


SECRET_FIELDS = [
    *(f"{name}: {CANARY}" for name in SECRET.split() if is_token(name)),
    f"Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.{CANARY}",
    f"Sec-WebSocket-Protocol: auth-token, {CANARY}",
    f"Link: <https://x/?access_token={CANARY}>; rel=next",
    f"Referer: https://u:{CANARY}@h/#token={CANARY}",
    f"X-Upstream: Bearer {CANARY}",
    f"X-Folded-Token: a\r\n {CANARY}",
]
VISIBLE = [name for name in HARMLESS.split() if name not in LEFT_OUT]
HARMLESS_FIELDS = [f"{name}: visible-{number}." for number, name in enumerate(VISIBLE)]
SECRET_QUERY = "&".join(f"{name}={CANARY}" for name in SECRET.split())
HARMLESS_QUERY = "&".join(
    f"{name}=shown-{number}." for number, name in enumerate(VISIBLE) if name not in ("code", "Code")
)
TARGET = f"/v1/chat;jsessionid={CANARY}?{SECRET_QUERY}&code={CANARY}&{HARMLESS_QUERY}"
URL = f"http://user:{CANARY}@localhost:5601{TARGET}"
NESTED = f"http://127.0.0.1:1234/v1/chat?next=https%3A%2F%2Fh%2F%3Fkey%3D{CANARY}"


class EverywhereTests(ServerTestCase):
    def begin(self, script: Script) -> None:
        fields = "\r\n".join([*SECRET_FIELDS, *HARMLESS_FIELDS, ""])
        opening = RequestHead(
            script.id,
            script.wall_ns,
            b"127.0.0.1 50001",
            b"lmstudio",
            b"/lmstudio/",
            URL.encode(),
            NESTED.encode(),
            f"GET {TARGET} HTTP/1.1\r\nHost: here\r\n{fields}".encode(),
        )
        self.record(encode(Kind.REQUEST_HEAD, 0, script.number, script.clock, encode_request_head(opening)))

    def end(self, script: Script) -> None:
        fields = "\r\n".join([*SECRET_FIELDS, *HARMLESS_FIELDS, "", ""])
        self.record(
            script.request(b"", last=True),
            script.response_head(f"HTTP/1.1 200 /?key={CANARY}\r\n{fields}".encode()),
            script.response(b"{}", last=True),
            script.end("upstream_reset", f"it said GET /?token={CANARY}"),
        )
        self.publish()

    def told(self) -> Iterator[tuple[str, str]]:
        """What each outlet says of an exchange, from its beginning to its files."""
        feed = self.parts.observers.feed
        _, sequence = feed.enter()
        script = self.script(7)
        id = self.id_of(7)
        self.begin(script)
        yield "under way", json.dumps(self.get(f"/api/exchanges/{id}"))
        self.end(script)
        yield "live feed", "".join(event.text() for event in feed.read(sequence, 100) or [])
        yield "details", json.dumps(self.get(f"/api/exchanges/{id}"))
        yield "list", json.dumps(self.get("/api/exchanges"))
        yield "metrics", self.ask("GET", "/metrics").body.decode()
        yield "line", exchange_line("", bytes(16), b"GET", TARGET.encode(), NESTED, True)
        progress = Progress(0.0, (b"GET", b"/"))
        said, asked = f"it said GET /?token={CANARY}", asked_for(b"GET", TARGET.encode())
        yield "end", end_line("", bytes(16), progress, "upstream_reset", (0, 0), asked, said)
        for words in (
            ("show", id),
            ("show", id, "--headers"),
            ("show", id, "--json"),
            ("show", id, "--raw"),
            ("ls",),
            ("ls", "--json"),
            ("export", id, "--curl"),
            ("export", id, "--raw", "--half", "request"),
            ("export", id, "--raw", "--half", "response"),
        ):
            status, out, err = command("--log-dir", self.log_dir, *words)
            self.assertEqual(status, 0, (words, err.text))
            yield " ".join(words), out.text + err.text

    def test_no_secret(self) -> None:
        """No outlet tells a secret, whatever it is called and wherever it stands."""
        for outlet, text in self.told():
            at = text.find(CANARY)
            self.assertEqual(at, -1, (outlet, text[max(0, at - 80) : at + 20]))

    def test_all_else(self) -> None:
        """Where heads are shown, whatever is no secret is shown."""
        complete = ("details", "show", "export")
        for outlet, text in self.told():
            if outlet.startswith(complete):
                fields = [name for n, name in enumerate(VISIBLE) if f"visible-{n}." not in text]
                self.assertEqual(fields, [], outlet)
            if outlet.startswith((*complete[:1], "export")) and "response" not in outlet:
                names = [name for n, name in enumerate(VISIBLE) if f"{name}=shown-{n}." not in text]
                self.assertEqual(names, ["code"], outlet)

    def test_revealed(self) -> None:
        """The captures have it all, and who asks for it gets it."""
        script = self.script(7)
        self.begin(script)
        self.end(script)
        text = json.dumps(self.get(f"/api/exchanges/{self.id_of(7)}?reveal=true"))
        self.assertGreater(text.count(CANARY), 4 * len(SECRET_FIELDS))
