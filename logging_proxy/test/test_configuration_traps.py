"""What is valid in a configuration and probably not meant, and what is said to it."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.configuration import ConfigurationError, read_configuration

ANY = "https://llm.example/"
OPENAI = "https://api.openai.com/"

WARNED = """
/s/* -> https://llm.example/
    pattern: '*' is no wildcard, it matches itself alone; for everything below /s/ write /s/
/s/*.json -> https://llm.example/
    pattern: '*.json' is no wildcard, it matches itself alone; for everything below /s/ write /s/
/users/:id/ -> https://llm.example/
    pattern: ':id' is no wildcard, it matches itself alone; for everything below /users/ write
    /users/
v1/ -> https://llm.example/
    pattern: 'v1' is a host here: only requests for http://v1/ match; for the path write /v1/
openai/v1/ -> https://llm.example/
    pattern: 'openai' is a host here: only requests for http://openai/v1/ match; for the path write
    /openai/v1/
/openai -> https://api.openai.com/
    pattern: this is the path /openai alone, without what is below it; for all of that write
    /openai/
/openai/v1 -> https://api.openai.com/v1
    pattern: this is the path /openai/v1 alone, without what is below it; for all of that write
    /openai/v1/
POST /x -> https://llm.example/
    pattern: this is the path /x alone, without what is below it; for all of that write POST /x/
http://a.example/x/ -> https://llm.example/
    pattern: a pattern has no scheme: 'http:' is taken for a host, and never matches; expected
    a.example/x/
a.example:80/x/ -> https://llm.example/
    pattern: the host of a pattern has no port: 'a.example:80' never matches
[::1]/x/ -> https://llm.example/
    pattern: only requests without a port match; with one, as clients send it, the host is ::1
a..example/x/ -> https://llm.example/
    pattern: the host 'a..example' has an empty label: it never matches
*.a.example/ -> https://llm.example/
    pattern: * is no wildcard: only requests for a host that is called '*.a.example' match
A.example/ -> https://llm.example/
    pattern: hosts are compared as they are written, and clients send a.example
get /x/ -> https://llm.example/
    pattern: methods are compared as they are written: only 'get' matches, expected GET
//x/ -> https://llm.example/
    pattern: an empty segment matches any one segment, and clients are redirected to paths without
    '//'
/a/../b/ -> https://llm.example/
    pattern: it never matches: clients are redirected to paths without '.' and '..'
/openai/ -> https://api.openai.com/v1/
    destination: a request for /openai/v1/models would go to /v1/v1/models: expected
    https://api.openai.com/, or the pattern /openai/v1/
/ -> https://api.openai.com/v1
    destination: a request for /v1/models would go to /v1/v1/models: expected
    https://api.openai.com/, or the pattern /v1/
/or/ -> https://openrouter.ai/api/v1/
    destination: a request for /or/v1/models would go to /api/v1/v1/models: expected
    https://openrouter.ai/api/, or the pattern /or/v1/
/openai/v1/ -> https://api.openai.com/
    destination: a request for /openai/v1/models would go to /models: expected
    https://api.openai.com/v1/
/a/v1/ -> https://api.anthropic.com
    destination: a request for /a/v1/models would go to /models: expected
    https://api.anthropic.com/v1/
/openai/ -> http://api.openai.com/
    destination: API keys would be sent without encryption: expected https://
/openai/ -> https://api.openai.com/v1/chat/completions
    destination: what is below the pattern is appended to this URL: expected
    https://api.openai.com/v1/
"""
"""Routes, and what is said to them below."""

FINE = [
    ("/openai/", OPENAI),
    ("/openai/v1/", "https://api.openai.com/v1/"),
    ("/openai/v1/", "https://api.openai.com/v1"),
    ("/v1/", "https://api.openai.com/v1/"),
    ("/", OPENAI),
    ("/api/v1/", "https://openrouter.ai/api/v1/"),
    ("/anthropic/", "https://api.anthropic.com/"),
    ("/gemini/v1beta/", "https://generativelanguage.googleapis.com/v1beta/"),
    ("/lmstudio/", "http://127.0.0.1:1234/"),
    ("/x/v1/", "http://10.0.0.1:9000/"),
    ("api.example/", ANY),
    ("localhost/", ANY),
    ("::1/", ANY),
    ("127.0.0.1/", ANY),
    ("ab--cd.example/", ANY),
    ("a_b.example./", ANY),
    ("/{$}", ANY),
    ("/x/{$}", ANY),
    ("POST /v1/messages", "https://api.anthropic.com/v1/messages"),
    ("/v1/models/gemini:generateContent", "https://generativelanguage.googleapis.com/v1/models/a:b"),
    ("PROPFIND /x/", ANY),
]


class TrapTests(SynchronousTestCase):
    def warnings(self, *routes: tuple[str, str], server: str = "{}") -> list[str]:
        lines = [f"server: {server}", "routes:"]
        for number, (pattern, destination) in enumerate(routes):
            lines += [f"  r{number}:", f"    pattern: '{pattern}'", f"    destination: '{destination}'"]
        configuration = read_configuration("\n".join(lines), "config.yaml", {})
        return [warning.as_warning() for warning in configuration.warnings]

    def test_warned(self) -> None:
        """What Go accepts is accepted, and a warning at its place says what it means."""
        cases = re.findall(r"^(\S.*) -> (.*)\n((?:    .*\n)+)", WARNED, re.MULTILINE)
        self.assertEqual(len(cases), WARNED.count(" -> "))
        for pattern, destination, said in cases:
            key, _, text = " ".join(said.split()).partition(": ")
            line = {"pattern": 4, "destination": 5}[key]
            expected = [f"config.yaml:{line}:5: warn: routes.r0.{key}: {text}"]
            self.assertEqual(self.warnings((pattern, destination)), expected, pattern)

    def test_fine(self) -> None:
        """Nothing is said of what is probably meant."""
        for route in FINE:
            self.assertEqual(self.warnings(route), [], route)

    def test_shadowed_by_a_subtree(self) -> None:
        """One path beside its subtree is meant."""
        self.assertEqual(self.warnings(("/openai", OPENAI), ("/openai/", OPENAI)), [])

    def test_host_in_use(self) -> None:
        """A host of one label is meant if clients may use it."""
        self.assertEqual(self.warnings(("box/", ANY), server="{allowed_hosts: [box]}"), [])

    def test_no_routes(self) -> None:
        """Without routes nothing can be forwarded."""
        text = "no routes: every request is answered 404"
        for content, place in (
            ("server: {port: 1}", "config.yaml"),
            ("server: {port: 1}\nroutes: {}", "config.yaml:2:1"),
            ("server: {port: 1}\nroutes:", "config.yaml:2:1"),
        ):
            configuration = read_configuration(content, "config.yaml", {})
            said = [warning.as_warning() for warning in configuration.warnings]
            self.assertEqual(said, [f"{place}: warn: routes: {text}"])

    def test_order(self) -> None:
        """Warnings are in the order of the file."""
        found = self.warnings(("/a", ANY), ("/b/", "https://b.example/v1/"), ("/c", ANY))
        self.assertEqual([line.split(":")[1] for line in found], ["4", "8", "10"])


class HostNameTests(SynchronousTestCase):
    def texts(self, name: str) -> list[str]:
        """Every place for a host name."""
        route = f"{{pattern: /, destination: 'https://up.example/', tls: {{server_name: '{name}'}}}}"
        return [
            f"server: {{host: '{name}'}}\nlogging_server: {{port: 1}}",
            f"server: {{allowed_hosts: ['{name}']}}",
            f"server: {{allowed_hosts: ['*.{name}']}}",
            f"routes: {{r: {{pattern: /, destination: 'https://{name}/'}}}}",
            f"routes: {{r: {route}}}",
            f"logging: {{server_url: 'http://{name}/'}}",
            f"http_client: {{proxy_url: 'http://{name}:1'}}",
        ]

    def test_accepted(self) -> None:
        """Names that IDNA refuses are in use: underscores, hyphens in any place, a final dot."""
        for name in ("a_b.example", "_x.example", "ab--cd.example", "a-.example", "-a.example", "a.example."):
            for text in self.texts(name):
                read_configuration(text, "config.yaml", {})

    def test_empty_label(self) -> None:
        """A name with an empty label is a mistake, and is told as such, wherever it is."""
        for name in ("a..b", ".a.example", "a.example..", "."):
            for text in self.texts(name):
                error = self.assertRaises(ConfigurationError, read_configuration, text, "config.yaml", {})
                self.assertIn("has an empty label", str(error), text)
