"""Exports: a command of curl that a shell takes as it is meant, and bytes without secrets."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from logging_proxy.cli.curl import Curl, curl_command, key_variable, quoted
from logging_proxy.cli.messages import Message, open_message
from logging_proxy.cli.redacting import redacted_half
from logging_proxy.cli.secrets import Redactor
from logging_proxy.redaction.values import is_reference
from logging_proxy.understanding.media_types import Form

KEY = "sk-proj-abcdefghijklmnopqrstuvwxyz"
URL = "http://localhost:5601/openai/v1/chat"


def request(head: bytes, body: bytes = b"") -> Message:
    content = head.replace(b"\n", b"\r\n") + b"\r\n\r\n" + body
    return open_message(lambda: iter([content]))


def curl(message: Message, url: str = URL, reveal: bool = False) -> Curl:
    return curl_command(
        message, url, "https://api.openai.com/v1/chat", "openai", "body.bin", Redactor(reveal)
    )


ODD = [
    *(
        "",
        "'",
        "\\",
        "\\\\",
        "\\'",
        "'\\",
        "a\\nb",
        "a\\\\nb",
        "\\\\\\",
        "it's",
        "''",
        '"',
        '\\"',
        "$HOME",
        "`x`",
    ),
    *("!", "!!", "a!b", "~", "=x", "=", "%self", "*", "?", "[a]", "{a,b}", "#x", "-n", "a\nb", "\n", "x\n"),
    *("\t", "\r", "\x01", "\x7f", "\x1b[2J", "\udcff", "\udce9\udc80", "\u202e", "é\u00a0ü", "日本", "\\\n"),
    *("&", "|", ";", "<>", "()", "^", "a b", " ", "\x01\x31", "%d", "\\x41", "\\u0041", "\\101", "@x"),
]


def words(command: str, shell: str = "bash", **variables: str) -> list[bytes]:
    """What a shell makes of the command: the arguments that curl would get."""
    program = shutil.which(shell)
    if program is None:
        raise SkipTest(f"there is no {shell}")
    folder = tempfile.mkdtemp()
    try:
        curl = os.path.join(folder, "curl")
        with open(curl, "w") as file:
            file.write('#!/bin/sh\nprintf "%s\\0" "$@"\n')
        os.chmod(curl, 0o700)
        script = os.path.join(folder, "script")
        with open(script, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(command + "\n")
        path = f"{folder}:{os.environ['PATH']}"
        environment = {**variables, "PATH": path, "HOME": folder, "LC_ALL": "C.UTF-8"}
        done = subprocess.run([program, script], env=environment, capture_output=True, check=True)
    finally:
        shutil.rmtree(folder)
    return done.stdout.split(b"\0")[:-1]


class CurlTests(SynchronousTestCase):
    HEAD = (
        b"POST /v1/chat HTTP/1.1\nHost: api.openai.com\nAuthorization: Bearer " + KEY.encode() + b"\n"
        b"Content-Type: application/json\nContent-Length: 5\nX-Proxy-Path: x\n"
        b"User-Agent: u\nAccept: */*\nX-Empty:"
    )

    def test_command(self) -> None:
        """The client's headers, with the key as a variable; nothing that curl or the proxy made."""
        made = curl(request(self.HEAD, b'{"a":"it\'s"}'))
        self.assertEqual(made.variables, ["OPENAI_API_KEY"])
        self.assertNotIn(KEY, made.text)
        self.assertEqual(
            words(made.text, OPENAI_API_KEY='k$e"y'),
            [
                *(URL.encode(), b"--header", b'Authorization: Bearer k$e"y'),
                *(b"--header", b"Content-Type: application/json", b"--header", b"User-Agent: u"),
                *(b"--header", b"Accept: */*", b"--header", b"X-Empty;"),
                *(b"--data-raw", b'{"a":"it\'s"}'),
            ],
        )

    def test_methods(self) -> None:
        """The method is said where curl would take another."""
        for head, body, wanted in (
            (b"GET / HTTP/1.1", b"", []),
            (b"POST / HTTP/1.1", b"x", []),
            (b"POST / HTTP/1.1", b"", [b"--request", b"POST"]),
            (b"GET / HTTP/1.1", b"x", [b"--request", b"GET"]),
            (b"HEAD / HTTP/1.1", b"", [b"--head"]),
            (b"$(touch) / HTTP/1.1", b"", [b"--request", b"$(touch)"]),
        ):
            found = words(curl(request(head, body)).text)
            self.assertEqual([word for word in found if word in (b"--request", b"--head")], wanted[:1])
            for word in wanted:
                self.assertIn(word, found)

    def test_empty_bodies(self) -> None:
        """A request that says its body is empty says so again, by what curl does with such a body."""
        for head, wanted in (
            (b"POST / HTTP/1.1\nContent-Length: 0", b"--data-raw"),
            (b"DELETE / HTTP/1.1\nContent-Length: 00", b"--data-raw"),
            (b"POST / HTTP/1.1\nTransfer-Encoding: Chunked", b"--data-raw"),
            (b"GET / HTTP/1.1\nContent-Length: 0", b"GET"),
            (b"HEAD / HTTP/1.1\nContent-Length: 0", b"Content-Length: 0"),
            (b"HEAD / HTTP/1.1\nTransfer-Encoding: chunked", b"--ignore-content-length"),
        ):
            found = words(curl(request(head)).text)
            self.assertIn(wanted, found, head)
            self.assertEqual(found.count(b""), 1 if b"--data-raw" in found else 0)
        for head in (b"POST / HTTP/1.1", b"POST / HTTP/1.1\nContent-Length: 7", b"HEAD / HTTP/1.1"):
            found = words(curl(request(head)).text)
            self.assertFalse({b"--data-raw", b"Content-Length: 0"} & set(found), head)

    def test_head_with_a_body(self) -> None:
        """curl's --head sends no body, so it is told the method."""
        found = words(curl(request(b"HEAD / HTTP/1.1", b"x")).text)
        self.assertNotIn(b"--head", found)
        self.assertEqual(found[1:3], [b"--request", b"HEAD"])

    def test_expect(self) -> None:
        """curl waits for 100 (Continue) only where the client did."""
        for head, body, wanted in (
            (b"PUT / HTTP/1.1\nExpect: 100-continue", b"x", b"Expect: 100-continue"),
            (b"PUT / HTTP/1.1", b"x" * 2000, b"Expect:"),
            (b"PUT / HTTP/1.1", b"x", None),
        ):
            found = [word for word in words(curl(request(head, body)).text) if word.startswith(b"Expect")]
            self.assertEqual(found, [] if wanted is None else [wanted])

    def test_old_clients(self) -> None:
        """A request of HTTP/1.0 is one again."""
        self.assertIn(b"--http1.0", words(curl(request(b"GET / HTTP/1.0")).text))

    def test_names_of_files(self) -> None:
        """What is no name of a field is left out: curl would read a file that `@` names."""
        found = words(curl(request(b"GET / HTTP/1.1\n@/etc/passwd: x\n@/etc/passwd\nX: 1")).text)
        self.assertFalse([word for word in found if word.startswith(b"@")])
        self.assertIn(b"X: 1", found)

    def test_subprotocols(self) -> None:
        """Of a header that holds more than a secret, the rest stays."""
        head = b"GET / HTTP/1.1\nSec-WebSocket-Protocol: realtime, openai-insecure-api-key." + KEY.encode()
        self.assertIn(
            b"Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.REDACTED",
            words(curl(request(head)).text),
        )

    def test_fields_of_curl(self) -> None:
        """What the client did not send, curl is told not to send."""
        found = words(curl(request(b"POST / HTTP/1.1", b"x")).text)
        for field in (b"User-Agent:", b"Accept:", b"Content-Type:"):
            self.assertIn(field, found)

    def test_secrets(self) -> None:
        """Secrets in query, cookies, headers and body are gone; --reveal leaves them."""
        head = (
            b"POST / HTTP/1.1\nCookie: sid=topsecret\nX-Session-Token: t0ken\nContent-Type: application/json"
        )
        message = request(head, b'{"api_key": "hidden", "n": 1.10}')
        made = curl(message, f"{URL}?key=AIzaX&x=1")
        for secret in ("topsecret", "t0ken", "hidden", "AIzaX"):
            self.assertNotIn(secret, made.text)
        self.assertEqual(made.variables, ["OPENAI_API_KEY", "COOKIE", "X_SESSION_TOKEN"])
        self.assertIn('{"api_key": "REDACTED", "n": 1.10}', made.text)
        self.assertIn(f"{URL}?key=k&x=1".encode(), words(made.text, OPENAI_API_KEY="k"))
        revealed = curl(message, f"{URL}?key=AIzaX&x=1", reveal=True)
        for secret in ("topsecret", "t0ken", "hidden", "AIzaX"):
            self.assertIn(secret, revealed.text)

    def test_binary(self) -> None:
        """A body that is no text goes to the file, byte for byte; so does one too long for an argument."""
        for body in (b"\x00\x01", b"\xff", b"x" * 200_000, b"a\x1b"):
            made = curl(request(b"POST / HTTP/1.1", body))
            self.assertEqual(b"".join(made.body or []), body)
            self.assertIn(b"@body.bin", words(made.text))

    def test_at(self) -> None:
        """A body that begins with @ is no file's name."""
        found = words(curl(request(b"POST / HTTP/1.1", b"@/etc/passwd")).text)
        self.assertEqual(found[-2:], [b"--data-raw", b"@/etc/passwd"])

    def test_bytes_of_headers(self) -> None:
        """The bytes of a header that is not ASCII arrive as they were."""
        head = "GET / HTTP/1.1\nX-A: é".encode() + b"\nX-B: \xe9\x1b!"
        found = words(curl(request(head)).text)
        self.assertIn("X-A: é".encode(), found)
        self.assertIn(b"X-B: \xe9\x1b!", found)

    def check_quoting(self, texts: list[str], shell: str) -> None:
        command = " ".join(["curl", *map(quoted, texts)])
        expected = [text.encode("utf-8", "surrogateescape") for text in texts]
        self.assertEqual(words(command, shell), expected)
        self.assertTrue(command.replace("\n", "").isprintable())

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.text(st.characters(exclude_characters="\x00"), max_size=12), min_size=1, max_size=5))
    def test_quoting(self, texts: list[str]) -> None:
        """A shell takes every text back as it was, and a terminal sees nothing but text."""
        self.check_quoting(texts, "bash")

    def check_shell(self, shell: str) -> None:
        """The same command means the same in each shell."""
        self.check_quoting(ODD, shell)
        head = "POST / HTTP/1.1\nX-A: é !x".encode() + b"\nX-B: \xe9\x1b!\nAuthorization: Bearer sk-1"
        made = curl(
            request(head, b'{"a":"it\'s \\\\ \\n \\"b\\" $x `y` !z \xc3\xa9"}\n\n'), f"{URL}?a=b'c&key=AIzaX"
        )
        found = words(made.text, shell, OPENAI_API_KEY='k$e"y\\')
        self.assertEqual(found, words(made.text, "bash", OPENAI_API_KEY='k$e"y\\'))
        self.assertIn(b'{"a":"it\'s \\\\ \\n \\"b\\" $x `y` !z \xc3\xa9"}\n\n', found)
        self.assertIn(b"X-B: \xe9\x1b!", found)

    def test_sh(self) -> None:
        """In the system's sh."""
        self.check_shell("sh")

    def test_dash(self) -> None:
        """In dash."""
        self.check_shell("dash")

    def test_zsh(self) -> None:
        """In zsh."""
        self.check_shell("zsh")

    def test_ksh(self) -> None:
        """In ksh."""
        self.check_shell("ksh")

    def test_fish(self) -> None:
        """In fish, which has escapes in single quotes."""
        self.check_shell("fish")

    def test_unprintable(self) -> None:
        """A body with characters that a terminal acts upon goes to a file, which every shell passes on."""
        body = '{"a": "\u202e\ttab \x1b"}'.encode()
        made = curl(request(b"POST / HTTP/1.1", body))
        self.assertIn(b"@body.bin", words(made.text))
        self.assertEqual(b"".join(made.body or ()), body)

    def test_keys(self) -> None:
        """The variable is the one that people know, or one made of the route's name."""
        for destination, route, variable in (
            ("https://api.anthropic.com/v1", "a", "ANTHROPIC_API_KEY"),
            ("https://eu.api.openai.com/v1", "a", "OPENAI_API_KEY"),
            ("https://notapi.openai.com.evil/", "my route", "MY_ROUTE_API_KEY"),
            ("", "", "API_KEY"),
            ("http://[", "1", "_1_API_KEY"),
        ):
            self.assertEqual(key_variable(destination, route), variable)


class RawTests(SynchronousTestCase):
    def test_redacted(self) -> None:
        """Secrets go from head and body, and not a byte else changes."""
        body = b'{ "api_key" :"hidden",\t"text": "' + KEY.encode() + b' \xc3\xa9" }\n'
        content = b"POST /?key=topsecret HTTP/1.1\r\nx-API-key:  abc \r\nX-B: \xe9  \r\n\r\n" + body
        redactor = Redactor()
        self.assertEqual(
            b"".join(redacted_half(lambda: iter([content]), redactor)),
            b"POST /?key=REDACTED HTTP/1.1\r\nx-API-key: REDACTED\r\nX-B: \xe9  \r\n\r\n"
            b'{ "api_key" :"REDACTED",\t"text": "REDACTED \xc3\xa9" }\n',
        )
        self.assertEqual(redactor.count, 4)

    @given(st.binary(max_size=200).map(lambda content: re.sub(rb"[A-Za-z@]", b"x", content)))
    def test_without_secrets(self, content: bytes) -> None:
        """What holds no secret is left as it is, whatever it is."""
        self.assertEqual(b"".join(redacted_half(lambda: iter([content]), Redactor())), content)

    @given(st.text(max_size=20), st.text(max_size=20))
    def test_members(self, before: str, secret: str) -> None:
        """A secret member of any JSON loses its value, and the rest stays the same JSON."""
        value = {
            "text": before,
            "password": secret,
            "inner": json.dumps({"client_secret": secret, "a": before}),
        }
        for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
            redacted = json.loads(Redactor().body(text, Form.JSON))
            self.assertEqual(redacted["text"], before)
            self.assertEqual(
                redacted["password"], secret if not secret or is_reference(secret) else "REDACTED"
            )

    def test_cut(self) -> None:
        """A secret of which only the beginning is there goes, too."""
        for end in ("", "\\", "x\\n"):
            shown = Redactor().body('{"a":"b","password":"hunt' + end, Form.JSON)
            self.assertTrue(shown.startswith('{"a":"b","password":"REDACTED'))
            self.assertNotIn("hunt", shown)

    def test_form(self) -> None:
        """A form's secret fields lose their values."""
        shown = Redactor().body("a=1&client_secret=x&b=2", Form.FIELDS)
        self.assertEqual(shown, "a=1&client_secret=REDACTED&b=2")
