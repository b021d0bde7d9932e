"""The commands as a user types them: output, errors, exit status, and that no secret gets through."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import logging_proxy
from logging_proxy.cli import main
from logging_proxy.cli.arguments import command_names, parser
from logging_proxy.test.cli_stage import Output, command
from logging_proxy.test.index_stage import documents, id_of

CANARIES = (
    *("sk-canary-abcdefghijklmnopqrstuv", "AIzaCanary0123456789abcdefghijklmnopqrs", "cookie-canary"),
    *("query-canary", "password-canary", "user-canary", "trailer-canary"),
)
EVIL = "\x1b]0;x\x07\u202e\x9b2J"
SSE = b'data: {"model":"gpt-5"}\n\ndata: {"password":"password-canary"}\n\ndata: [DONE]\n\n'

REQUEST_HEADERS = [
    ["Host", "api.openai.com"],
    ["Authorization", f"Bearer {CANARIES[0]}"],
    ["X-Goog-Api-Key", CANARIES[1]],
    ["Cookie", "a=cookie-canary"],
    ["Content-Type", "application/json"],
    ["X-Evil", EVIL.encode("utf-8").decode("latin-1")],
]


def write(log_dir: str, number: int, response_type: str, response: bytes, coding: str = "") -> None:
    """A capture full of secrets, as the logging server writes it."""
    body = json.dumps(
        {"model": "gpt-5", "password": "password-canary", "text": f"apples {CANARIES[0]} {EVIL}"}
    ).encode()
    url = "http://user:user-canary@localhost:5601/openai/v1/chat?key=query-canary"
    halves = documents(number, body, response, route="openai", source_url=url, destination_url=url)
    halves[0]["headers"] = REQUEST_HEADERS
    halves[1]["headers"] = [
        ["Content-Type", response_type],
        ["Set-Cookie", "b=cookie-canary"],
        *([["Content-Encoding", coding]] if coding else []),
    ]
    halves[1]["trailers"] = [["X-Token", "trailer-canary"]]
    halves[1]["pieces"] = [[0, 1000], [len(response) // 2, 251_000]]
    starts = ("POST /v1/chat?key=query-canary HTTP/1.1", "HTTP/1.1 200 OK")
    for half, start, data in zip(halves, starts, (body, response), strict=True):
        path = os.path.join(log_dir, half["filename"])
        fields = "".join(f"{name}: {value}\r\n" for name, value in half["headers"])
        with open(path, "wb") as file:
            file.write(f"{start}\r\n{fields}\r\n".encode("latin-1") + data)
        with open(path.removesuffix(".bin") + "_metadata.json", "w") as file:
            json.dump(half, file)


class CommandCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.log_dir = os.path.abspath(self.mktemp())
        os.mkdir(self.log_dir, 0o700)
        write(self.log_dir, 1, "application/json", b'{"answer": "pears"}')
        write(self.log_dir, 2, "text/event-stream", SSE)
        write(self.log_dir, 3, "application/json", gzip.compress(b'{"password":"password-canary"}'), "gzip")

    def run_command(self, *arguments: str, columns: int | None = None) -> tuple[int, Output, Output]:
        return command(*arguments, "--log-dir", self.log_dir, columns=columns)

    def output(self, *arguments: str, columns: int | None = None) -> str:
        """What the command writes; it must succeed."""
        status, out, err = self.run_command(*arguments, columns=columns)
        self.assertEqual(status, 0, err.text)
        return out.text

    def error(self, *arguments: str, columns: int | None = None) -> str:
        """The one line that the command says why it failed."""
        status, out, err = self.run_command(*arguments, columns=columns)
        self.assertEqual((status, out.text), (1, ""))
        self.assertEqual(len(err.text.splitlines()), 1, err.text)
        return err.text


class RewritingCase(CommandCase):
    def rewrite(self, number: int, side: str, start: str, headers: list[list[str]], body: bytes) -> None:
        """Make another half of a stored one."""
        (path,) = Path(self.log_dir).glob(f"*_{id_of(number)[:8]}_{side}_metadata.json")
        document = json.loads(path.read_text())
        pieces = [[0, 1000], [8, 5000]] if side == "response" else [[0, 3000]]
        document |= {"headers": headers, "bytes": len(body), "pieces": pieces}
        if start.startswith("HTTP/1.1 101"):
            document["status"] = 101
        path.write_text(json.dumps(document))
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers)
        path.with_name(document["filename"]).write_bytes(f"{start}\r\n{fields}\r\n".encode() + body)


class BodyTests(RewritingCase):
    """Bodies that are not one text."""

    def test_parts(self) -> None:
        """The fields and text files of an upload are shown, its secret fields and its sounds are not."""
        part = '--B\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n{}\r\n'.format
        json_file, sound = (
            f'; filename="a.{end}"\r\nContent-Type: {kind}'
            for end, kind in (("json", "application/json"), ("mp3", "audio/mpeg"))
        )
        body = part("model", "", "whisper-1") + part("api_key", "", "password-canary")
        body += part("data", json_file, '{"a":1}') + part("file", sound, "\xff\xfb\0\1") + "--B--\r\n"
        kind = [["Content-Type", "multipart/form-data; boundary=B"]]
        self.rewrite(1, "request", "POST / HTTP/1.1", kind, body.encode("latin-1"))
        shown = self.output("show", id_of(1), "--body", "request").splitlines()
        self.assertEqual(
            shown[:9],
            ["[part name=model]", "whisper-1", "[part name=api_key]", "REDACTED"]
            + ["[part name=data file=a.json type=application/json]", "{", '  "a": 1', "}"]
            + ["[part name=file file=a.mp3 type=audio/mpeg]"],
        )
        self.assertEqual(shown[9], "[audio/mpeg, 4 bytes, not text]")
        parts = json.loads(self.output("show", id_of(1), "--json"))["request"]["body"]["parts"]
        self.assertEqual([part["name"] for part in parts], ["model", "api_key", "data", "file"])
        for arguments in (["show"], ["show", "--json"], ["show", "--raw", "--body", "request"]):
            _, out, _ = self.run_command(arguments[0], id_of(1), *arguments[1:])
            self.assertNotIn(b"password-canary", out.raw)

    def test_websocket(self) -> None:
        """The messages of a WebSocket are shown one a line, with direction and time, as they arrived."""
        asked = b"\x81\x9d\0\0\0\0" + b'{"password":"hunter2-canary"}'
        answered = b"\x81\x06answer" + b"\x88\x05\x03\xe8bye"
        upgrade = [["Upgrade", "websocket"], ["Connection", "Upgrade"]]
        self.rewrite(1, "request", "GET / HTTP/1.1", upgrade, asked)
        self.rewrite(1, "response", "HTTP/1.1 101 Switching Protocols", upgrade, answered)
        lines = self.output("show", id_of(1), "--stream").splitlines()
        self.assertEqual([line.split()[0] for line in lines], ["<", ">", "<"])
        self.assertIn('text  {"password":"REDACTED"}', lines[1])
        self.assertTrue(lines[0].endswith("text  answer"))
        self.assertTrue(lines[2].endswith("close  1000 bye"))
        self.assertIn("text  answer", self.output("show", id_of(1)))
        view = json.loads(self.output("show", id_of(1), "--json"))
        (message, close) = view["response"]["body"]["messages"]
        self.assertEqual((message["from"], message["event"], message["data"]), ("server", "text", "answer"))
        self.assertNotIn("hunter2", json.dumps(view))
        self.assertEqual(len(json.loads(self.output("show", id_of(1), "--stream", "--json"))["events"]), 3)


class RefusedTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.body, self.head = b'{"answer": "plums"}', b"HTTP/1.1 2 OK\r\nX-Mine: refused-canary\r\n"
        write(self.log_dir, 4, "application/json", self.body + self.head)
        (path,) = Path(self.log_dir).glob(f"*_{id_of(4)[:8]}_response_metadata.json")
        document = json.loads(path.read_text())
        document["refused"] = {"offset": len(self.body), "bytes": len(self.head)}
        path.write_text(json.dumps(document))

    def test_left_out(self) -> None:
        """What was refused may be anything, secrets too: it is counted, and shown when it is asked for."""
        for arguments in (["show"], ["show", "--json"], ["show", "--stream"], ["show", "--body", "response"]):
            shown = self.output(arguments[0], id_of(4), *arguments[1:])
            self.assertIn("plums", shown, arguments)
            self.assertNotIn("refused-canary", shown, arguments)
        shown = self.output("show", id_of(4))
        self.assertIn(f"[{len(self.head)} bytes of the response were refused: --reveal shows them]", shown)
        self.assertIn(f"{len(self.head)} of them refused", shown)
        self.assertIn("refused-canary", self.output("show", id_of(4), "--reveal"))

    def test_exported(self) -> None:
        """An export without it says so; with --reveal the bytes are all there are."""
        status, out, err = self.run_command("export", id_of(4), "--raw", "--half", "response")
        self.assertEqual(status, 0)
        self.assertTrue(out.raw.endswith(b"\r\n\r\n" + self.body))
        self.assertIn("are omitted; --reveal", err.text)
        _, out, _ = self.run_command("export", id_of(4), "--raw", "--half", "response", "--reveal")
        self.assertTrue(out.raw.endswith(b"\r\n\r\n" + self.body + self.head))


class ConversationTests(RewritingCase):
    """Calls of a model."""

    def setUp(self) -> None:
        super().setUp()
        key = "sk-proj-" + "a1B2" * 10
        asked = {"model": "gpt-5", "messages": [{"role": "user", "content": f"the key is {key}"}]}
        url = [["Host", "api.openai.com"], ["Content-Type", "application/json"]]
        self.rewrite(1, "request", "POST /v1/chat/completions HTTP/1.1", url, json.dumps(asked).encode())
        answered = {"choices": [{"message": {"content": "noted"}, "finish_reason": "stop"}]}
        self.rewrite(1, "response", "HTTP/1.1 200 OK", url[1:], json.dumps(answered).encode())

    def test_shown(self) -> None:
        """`show` tells what was said; the heads and bodies only if they are asked for."""
        status, out, err = self.run_command("show", id_of(1))
        self.assertEqual(status, 0)
        self.assertIn("The model finished its answer (stop)", out.text)
        self.assertIn("  noted", out.text.splitlines())
        self.assertIn("  the key is REDACTED", out.text.splitlines())
        self.assertIn("REDACTED: the URL, the conversation", err.text)
        self.assertNotIn("Host:", out.text)
        self.assertIn("a1B2a1B2", self.output("show", id_of(1), "--reveal"))
        self.assertIn("> Host: api.openai.com", self.output("show", id_of(1), "--http"))

    def test_newest(self) -> None:
        """Without an id the newest is shown, with -2 the one before it."""
        for words, number in (([], 3), (["-1"], 3), (["-2"], 2), (["-3"], 1)):
            self.assertIn(id_of(number), self.output("show", *words, "--headers"))
        self.assertIn("fewer than 9", self.error("show", "-9"))


class OutputTests(CommandCase):
    def test_ls(self) -> None:
        """A heading and a line for each exchange, newest first, as many as were asked for."""
        lines = self.output("ls").splitlines()
        self.assertEqual([line.split()[0] for line in lines[:1]], ["STARTED"])
        self.assertEqual([line.split()[2] for line in lines[1:]], [id_of(n)[:8] for n in (3, 2, 1)])
        self.assertEqual(len(self.output("ls", "-n", "1").splitlines()), 2)
        self.assertEqual(self.output("ls", "--route", "openai", "--status", "1xx"), "")

    def test_json(self) -> None:
        """With --json every line is a JSON object."""
        for arguments in (
            *(["ls"], ["search", "apples"], ["stats"], ["show", id_of(1)], ["show", id_of(2), "--stream"]),
            *(["show", id_of(1), "--body", "request"], ["show", id_of(1), "--raw", "--body", "request"]),
            *(["export", id_of(1), "--curl"], ["export", id_of(1), "--raw"], ["reindex"]),
        ):
            lines = self.output(*arguments, "--json").splitlines()
            self.assertTrue(lines, arguments)
            for line in lines:
                self.assertIsInstance(json.loads(line), dict, arguments)

    def test_show(self) -> None:
        """Summary, heads and decoded bodies of both halves."""
        shown = self.output("show", id_of(1)[:8])
        for part in (
            id_of(1),
            "> POST /v1/chat",
            "< HTTP/1.1 200 OK",
            '  "model": "gpt-5",',
            '"answer": "pears"',
        ):
            self.assertIn(part, shown)
        self.assertNotIn("pears", self.output("show", id_of(1), "--headers"))
        self.assertEqual(
            self.output("show", id_of(3), "--body", "response"), '{\n  "password": "REDACTED"\n}\n'
        )

    def test_stream(self) -> None:
        """The events of a stream with their times."""
        lines = self.output("show", id_of(2), "--stream").splitlines()
        self.assertEqual(len(lines), 3)
        self.assertIn("0.001000 s", lines[0])
        self.assertIn("+250 ms", lines[1])
        self.assertTrue(lines[2].endswith("[DONE]"))

    def test_search(self) -> None:
        """What is found is listed, with the place below."""
        lines = self.output("search", "pears").splitlines()
        self.assertEqual(len(lines), 3)
        self.assertEqual(lines[2], "    response: pears")

    def test_more_text(self) -> None:
        """A search says that it did not read all of a long text, whether it found something or not."""
        write(self.log_dir, 4, "text/plain", b"pears " + b"word " * 300_000)
        status, out, err = self.run_command("search", "pears")
        self.assertEqual((status, len(out.text.splitlines())), (0, 5))
        self.assertIn("one exchange has more text than is searched", err.text)
        self.assertIn("one exchange has more text than is searched", self.error("search", "nosuchword"))
        rows = [json.loads(line) for line in self.output("search", "pears", "--json").splitlines()]
        self.assertEqual([row["text_cut"] for row in rows], [True, False])

    def test_stats(self) -> None:
        """Numbers by route, outcome, status and model."""
        shown = self.output("stats")
        for part in (
            "3 exchanges",
            "ROUTE",
            "openai",
            "OUTCOME",
            "complete",
            "STATUS",
            "200",
            "MODEL",
            "gpt-5",
        ):
            self.assertIn(part, shown)

    def test_raw(self) -> None:
        """With --raw --reveal the bytes are those of the file; a body alone is that body."""
        for side in ("request", "response"):
            (name,) = (each for each in os.listdir(self.log_dir) if f"{id_of(3)[:8]}_{side}.bin" in each)
            with open(os.path.join(self.log_dir, name), "rb") as file:
                content = file.read()
            status, out, _ = self.run_command("export", id_of(3), "--raw", "--reveal", "--half", side)
            self.assertEqual((status, out.raw), (0, content))
            status, out, _ = self.run_command("show", id_of(3), "--raw", "--reveal", "--body", side)
            self.assertEqual((status, out.raw), (0, content.partition(b"\r\n\r\n")[2]))

    def test_raw_to_file(self) -> None:
        """A file is made private, and never one that is there."""
        path = os.path.join(self.log_dir, "out")
        self.output("export", id_of(1), "--raw", "-o", path)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        self.assertIn("is there already", self.error("export", id_of(1), "--raw", "--reveal", "-o", path))

    def test_reindex(self) -> None:
        """The index is made, and then asked."""
        self.assertIn("3 exchanges in the new index", self.output("reindex"))
        self.assertIn("0 exchanges added", self.output("reindex", "--missing"))
        self.assertEqual(len(self.output("ls").splitlines()), 4)


class SafetyTests(CommandCase):
    def everything(self) -> Iterator[tuple[list[str], str]]:
        """All that the commands write about the captures, by command."""
        for number in (1, 2, 3):
            id = id_of(number)
            for arguments in (
                *(["ls"], ["search", "apples"], ["stats"], ["show", id], ["show", id, "--headers"]),
                *(
                    ["show", id, "--stream"],
                    ["show", id, "--body", "request"],
                    ["show", id, "--body", "response"],
                ),
                *(["export", id, "--curl"], ["export", id, "--curl", "--direct"]),
            ):
                for more in ([], ["--json"]):
                    status, out, err = self.run_command(*arguments, *more)
                    self.assertEqual(status, 0, err.text)
                    yield [*arguments, *more], out.text + err.text

    def test_no_secret(self) -> None:
        """No secret of any place is in anything that is written, unless it is to be revealed."""
        for arguments, text in self.everything():
            for canary in CANARIES:
                self.assertNotIn(canary, text, arguments)
        for half in ("request", "response"):
            _, out, err = self.run_command("export", id_of(2), "--raw", "--half", half)
            for canary in CANARIES:
                self.assertNotIn(canary, out.text + err.text)
            self.assertIn("REDACTED", err.text)
        revealed = self.output("show", id_of(1), "--reveal")
        for canary in CANARIES[:6]:
            self.assertIn(canary, revealed)

    def test_nothing_acts_on_a_terminal(self) -> None:
        """Every line can be printed, whatever was captured."""
        for arguments, text in self.everything():
            for line in text.split("\n"):
                self.assertTrue(line.isprintable(), (arguments, line))

    def test_raw_on_a_terminal(self) -> None:
        """Captured bytes are not written to a terminal."""
        for arguments in (["show", id_of(1), "--raw"], ["export", id_of(1), "--raw", "--reveal"]):
            self.assertIn("terminal", self.error(*arguments, columns=80))

    def test_width(self) -> None:
        """On a terminal no line of a list is wider than it."""
        for arguments in (["ls"], ["search", "apples"], ["show", id_of(2), "--stream"], ["stats"]):
            for line in self.output(*arguments, columns=72).splitlines():
                self.assertLessEqual(len(line), 72, arguments)


class AgainTests(CommandCase):
    def test_export(self) -> None:
        """An export to a file works a second time; a file with other contents stays as it is."""
        path = os.path.join(self.log_dir, "exported")
        for _ in range(2):
            self.output("export", id_of(1), "--raw", "-o", path)
        with open(path, "rb") as file:
            content = file.read()
        for other in (content[:-1], content + b"x", b""):
            with open(path, "wb") as file:
                file.write(other)
            self.assertIn("is there already", self.error("export", id_of(1), "--raw", "-o", path))
            with open(path, "rb") as file:
                self.assertEqual(file.read(), other)
        os.unlink(path)
        os.symlink("/dev/null", path)
        self.assertIn("is there already", self.error("export", id_of(1), "--raw", "-o", path))


class MistakeTests(CommandCase):
    def test_errors(self) -> None:
        """What cannot be done is one line and status 1."""
        for arguments, words in (
            (["show", "ffffffff"], "no such exchange"),
            (["search", "nothing-of-this"], "nothing found"),
        ):
            self.assertIn(words, self.error(*arguments))

    def test_usage(self) -> None:
        """A filter or a command line that makes no sense is one line and status 2."""
        for asked in (["ls"], ["search", "apples"], ["stats"], ["tail"]):
            for option, value, words in (
                ("--status", "nine", "neither a status such as 200 nor a class such as 4xx"),
                ("--outcome", "foo", "no outcome; known outcomes: complete, client_closed, "),
                ("--route", "nope", "there is no such route; known routes: openai"),
            ):
                status, out, err = self.run_command(*asked, option, value)
                self.assertEqual((status, out.text, err.text.count("\n")), (2, "", 1), asked)
                self.assertIn(f"logging-proxy: {option}: {words}", err.text)
        for arguments, words in (
            (["show", "12"], "at least 4"),
            (["show", "nonsense!"], "not an id"),
            (["ls", "--since", "nonsense"], "yesterday 14:00"),
            (["ls", "--until", "2h\0"], "NUL"),
            (["ls", "--route", " "], "--route: nothing is given"),
        ):
            status, out, err = self.run_command(*arguments)
            self.assertEqual((status, out.text), (2, ""), arguments)
            self.assertIn(words, err.text)
            self.assertEqual(err.text.count("\n"), 1)
        for arguments in (
            *(
                ["frobnicate"],
                ["show", ""],
                ["show", " "],
                ["show", "abcd\0"],
                ["search", ""],
                ["ls", "--limit", "-1"],
                ["ls", "--limit", ""],
                ["tail", "-n", "-1"],
                ["ls", "--log-dir", "a\0b"],
                ["ls", "--limit", "0"],
                ["ls", "--limit", "x"],
                ["ls", "--nonsense"],
            ),
            *(["export", "abcd"], ["show", "abcd", "--body", "both"], ["ls", "--color", "pink"]),
        ):
            with self.assertRaises(SystemExit) as caught, redirect_stderr(io.StringIO()):
                parser().parse_args(arguments)
            self.assertEqual(caught.exception.code, 2, arguments)

    def test_one_line(self) -> None:
        """A wrong command line is one line, in which a terminal sees nothing but text."""
        for arguments in (["ls", "--limit", "0"], ["\x1b[2J"], ["ls", "\x1b[2J"], ["ls", "--url", ""]):
            err = io.StringIO()
            with self.assertRaises(SystemExit), redirect_stderr(err):
                parser().parse_args(arguments)
            self.assertEqual(err.getvalue().count("\n"), 1)
            self.assertTrue(err.getvalue().removesuffix("\n").isprintable())

    def test_large_numbers(self) -> None:
        """More than there can be is all that there is."""
        for command_name in ("ls", "search"):
            words = ["apples"] if command_name == "search" else []
            status, _, err = self.run_command(command_name, *words, "-n", "9" * 30)
            self.assertEqual(status, 0, err.text)

    def test_faults(self) -> None:
        """A fault of ours is one line that says where, without what an exception may quote, and status 1."""

        def fail(context: object) -> None:
            raise KeyError("canary")

        self.patch(main, "_COMMANDS", {"ls": fail})
        err = self.error("ls")
        self.assertIn("KeyError in test_cli_commands.py", err)
        self.assertNotIn("canary", err)

    def test_sources(self) -> None:
        """Where there are no captures, it is said what was looked for."""
        folder = self.mktemp()
        os.mkdir(folder)
        config = os.path.join(folder, "config.yaml")
        with open(config, "w") as file:
            file.write(
                f"logging_server: {{port: 1, host: 127.0.0.1, log_dir: {folder}/none}}\n"
                "routes: {a: {pattern: /, destination: 'http://127.0.0.1:9/'}}\n"
            )
        for arguments, words in (
            (["--log-dir", "/nonexistent"], "No such file"),
            (["--url", "http://127.0.0.1:1"], "no logging server listens"),
            (["--config", "/nonexistent.yaml"], "cannot be read"),
            (["--config", config], "no such directory; select captures with"),
        ):
            status, _, err = command("ls", *arguments)
            self.assertEqual(status, 1)
            self.assertIn(words, err.text)
            self.assertEqual(len(err.text.splitlines()), 1, err.text)

    def test_no_url(self) -> None:
        """A URL that is none is a wrong command line."""
        for url in ("nonsense", "http://", "http://a b/", "http://h:x"):
            status, _, err = command("ls", "--url", url)
            self.assertEqual(status, 2)
            self.assertEqual(len(err.text.splitlines()), 1, err.text)

    def test_unusable_directories(self) -> None:
        """A directory of others, a file, and one that others may write to: an error with the reason."""
        folder = os.path.abspath(self.mktemp())
        os.mkdir(folder, 0o700)
        shared, plain = os.path.join(folder, "shared"), os.path.join(folder, "plain")
        os.mkdir(shared)
        os.chmod(shared, 0o770)
        with open(plain, "w"):
            pass
        config = os.path.join(folder, "config.yaml")
        for path, words in ((shared, "others may write to it (mode 0770)"), (plain, "Not a directory")):
            with open(config, "w") as file:
                file.write(
                    f"logging_server: {{port: 0, host: 127.0.0.1, log_dir: {path}}}\n"
                    "routes: {a: {pattern: /, destination: 'http://127.0.0.1:9/'}}\n"
                )
            for source in (["--log-dir", path], ["--config", config]):
                for arguments in (["ls"], ["stats"], ["search", "x"], ["show", "abcd"], ["reindex"]):
                    status, out, err = command(*arguments, *source)
                    self.assertEqual((status, out.text), (1, ""), arguments)
                    self.assertIn(words, err.text)

    def test_help(self) -> None:
        """Every command has help with examples that its own parser takes."""
        for name in command_names():
            out = io.StringIO()
            with self.assertRaises(SystemExit), redirect_stdout(out):
                parser().parse_args([name, "--help"])
            examples = out.getvalue().partition("examples:\n")[2].splitlines()
            self.assertTrue(examples, name)
            for line in examples:
                words = (
                    line.partition("|")[0].partition(">")[0].replace("'\"", '"').replace("\"'", '"').split()
                )
                parser().parse_args(words[1:] if name != "search" else [*words[1:2], "--", *words[2:3]])


class DocumentTests(SynchronousTestCase):
    def test_commands(self) -> None:
        """Every command that README and documents show is one that is understood."""
        root = Path(logging_proxy.__file__).resolve().parents[1]
        pages = [path for path in (root / "README.md", root / "docs" / "captures.md") if path.exists()]
        if not pages:
            raise SkipTest("the documents are not part of this installation")
        text = "".join(path.read_text("utf-8") for path in pages)
        lines = re.findall(r"^(?:\.venv/bin/)?logging-proxy (.*)$", text, re.MULTILINE)
        self.assertGreater(len(lines), 15)
        for line in lines:
            words = shlex.split(line, comments=True)
            ends = [words.index(sign) for sign in ("|", ">") if sign in words]
            parser().parse_args(words[: min(ends, default=None)])


class ProcessTests(CommandCase):
    def start(self, *arguments: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "logging_proxy.cli.main", *arguments, "--log-dir", self.log_dir],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "LC_ALL": "C"},
            stdout=stdout,
            stderr=subprocess.PIPE,
        )

    def test_full_disk(self) -> None:
        """Output that cannot be written is one line and status 1, even when all of it waited for the end."""
        if not os.path.exists("/dev/full"):
            raise SkipTest("there is no /dev/full")
        for arguments in (["stats"], ["show", id_of(1)], ["--help"]):
            with open("/dev/full", "wb") as full:
                process = self.start(*arguments, stdout=full.fileno())
                _, err = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 1)
            self.assertEqual(err, b"logging-proxy: No space left on device\n")

    def test_help_that_nobody_reads(self) -> None:
        """Help into a pipe whose reader has left is quiet, too."""
        process = self.start("--help")
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        self.assertEqual(process.stderr.read(), b"")
        process.stderr.close()
        self.assertEqual(process.wait(60), 0)

    def test_broken_pipe(self) -> None:
        """A reader that leaves early is no error, and nothing is said."""
        process = self.start("show", id_of(1))
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        self.assertEqual(process.stderr.read(), b"")
        process.stderr.close()
        self.assertEqual(process.wait(30), 0)

    def test_process(self) -> None:
        """The command as it is installed: plain in a pipe, its status that of the process."""
        out, err = (process := self.start("ls")).communicate(timeout=30)
        self.assertEqual((process.returncode, err), (0, b""))
        self.assertNotIn(b"\x1b", out)
        self.assertEqual(len(out.splitlines()), 4)
        out, err = (process := self.start("show", "ffff")).communicate(timeout=30)
        self.assertEqual((process.returncode, out), (1, b""))
        self.assertNotIn(b"Traceback", err)
