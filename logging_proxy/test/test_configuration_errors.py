"""Every mistake of a configuration is one line with its place, all at once, and no line tells a secret."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.configuration import ConfigurationError, read_configuration

ONE_OF = "expected one of server, http_client, logging, logging_server, routes"

ROUTES = "routes:\n  one:\n    pattern: /one/\n    destination: http://one.example/\n"

# What is written -> the line that is shown, without the file's name.
LONG = "a" * 64

MISTAKES = {
    # Names that no resolver takes.
    "routes:\n  one:\n    pattern: /\n    destination: https://a..example/\n": (
        "4:5: routes.one.destination: the host has an empty label: "
        "expected a URL such as http://127.0.0.1:1234/"
    ),
    f"routes:\n  one:\n    pattern: /\n    destination: https://{LONG}.example/\n": (
        "4:5: routes.one.destination: the host has a label of more than 63 characters: "
        "expected a URL such as http://127.0.0.1:1234/"
    ),
    "logging:\n  server_url: http://.example:8080\n": (
        "2:3: logging.server_url: the host has an empty label: expected a URL such as http://127.0.0.1:1234/"
    ),
    "http_client:\n  proxy_url: http://proxy..example\n": (
        "2:3: http_client.proxy_url: it has a host that has an empty label: expected an http://, https://, "
        "socks5:// or socks5h:// URL such as http://user:password@proxy.example:3128, {file: path} or "
        "{env: NAME}"
    ),
    ROUTES.replace("http:", "https:") + f"    tls:\n      server_name: {LONG}\n": (
        "6:7: routes.one.tls.server_name: this name has a label of more than 63 characters: "
        "expected a host name or an IP address"
    ),
    ROUTES.replace("http:", "https:") + "    tls:\n      server_name: a.example:443\n": (
        "6:7: routes.one.tls.server_name: expected a host name or an IP address, not 'a.example:443'"
    ),
    # The document.
    "": f"1:1: the file is empty: {ONE_OF}",
    "# nothing\n": f"1:1: the file is empty: {ONE_OF}",
    "---\n": f"2:1: the file is empty: {ONE_OF}",
    "- a\n": "1:1: expected a mapping of keys, not a list",
    "5601\n": "1:1: expected a mapping of keys, not a number",
    "{}\n---\n{}\n": "2:1: a second document begins here: expected only one",
    "server: [\n": (
        "2:1: not YAML: expected the node content, but found '<stream end>', while parsing a flow node"
    ),
    "server:\n\tport: 1\n": (
        "2:1: not YAML: found character '\\t' that cannot start any token (indent with spaces, not tabs), "
        "while scanning for the next token"
    ),
    "server:\n  port: 1\n   host: a\n": "3:8: not YAML: mapping values are not allowed here",
    'server: {host: "\\UFFFFFFFF"}\n': "1:19: not YAML: a number or an escape is out of range",
    "server:\n  host: a\x00b\n": "2:10: not YAML: the character U+0000 is not allowed",
    "[" * 30: "1:26: nested too deeply",
    "server: &x\n  port: 1\n": ("1:9: server: anchors and aliases are not supported: write the value out"),
    "logging: *x\n": "1:10: logging: anchors and aliases are not supported: write the value out",
    "server:\n  port: !!int 5\n": "2:9: server.port: tags (!...) are not supported: write the value alone",
    "server: !!python/object:os.system {}\n": (
        "1:9: server: tags (!...) are not supported: write the value alone"
    ),
    "server:\n  <<: {port: 1}\n": "2:3: server: merge keys (<<) are not supported: write the keys out",
    "server:\n  [a]: 1\n": "2:3: server: a list or a mapping as a key: expected a name",
    "server:\n  port: 1\n  port: 2\n": "3:3: server.port: duplicate key: line 2 has it already",
    "server:\nserver:\n": "2:1: server: duplicate key: line 1 has it already",
    # Keys.
    "sever: {}\n": "1:1: sever: unknown key, did you mean 'server'?",
    "proxy: {}\n": f"1:1: proxy: unknown key: {ONE_OF}",
    "tls: {}\n": "1:1: tls: unknown key, it belongs under server",
    "port: 1\n": "1:1: port: unknown key, it belongs under server or logging_server",
    "logging:\n  log_dir: x\n": "2:3: logging.log_dir: unknown key, it belongs under logging_server",
    "logging:\n  Console: true\n": "2:3: logging.Console: unknown key, did you mean 'console'?",
    "http_client: {pool-size: 1}\n": "1:15: http_client.pool-size: unknown key, did you mean 'pool_size'?",
    "server: 5601\n": "1:1: server: expected a mapping of keys, not a number",
    "routes: [a]\n": "1:1: routes: expected a mapping of keys, not a list",
    "routes:\n  a: /a/\n": "2:3: routes.a: expected a mapping of keys, not this text",
    # Values.
    "server:\n  port: 65536\n": "2:3: server.port: expected a port from 0 to 65535, not 65536",
    "server:\n  port: -1\n": "2:3: server.port: expected a port from 0 to 65535, not -1",
    "server:\n  port: 010\n": (
        "2:3: server.port: expected a port from 0 to 65535, not 010 (write it in plain decimal)"
    ),
    "server:\n  port: 56:01\n": (
        "2:3: server.port: expected a port from 0 to 65535, not 56:01 (write it in plain decimal)"
    ),
    "server:\n  port: 5_601\n": (
        "2:3: server.port: expected a port from 0 to 65535, not 5_601 (write it in plain decimal)"
    ),
    'server:\n  port: "5601"\n': (
        "2:3: server.port: expected a port from 0 to 65535, not '5601' (remove the quotes)"
    ),
    "server:\n  port: 5601.0\n": "2:3: server.port: expected a port from 0 to 65535, not 5601.0",
    "server:\n  port: true\n": "2:3: server.port: expected a port from 0 to 65535, not true",
    "server:\n  port:\n": "2:3: server.port: no value is given: expected a port from 0 to 65535",
    "server:\n  port: [1]\n": "2:3: server.port: expected a port from 0 to 65535, not a list",
    "server:\n  host: http://a/\n": (
        "2:3: server.host: expected a host name or an IP address, not 'http://a/'"
    ),
    "server:\n  host: a:80\n": (
        "2:3: server.host: expected a host name or an IP address, not 'a:80' (the port has a key of its own)"
    ),
    'server:\n  host: "[::1]"\n': (
        "2:3: server.host: expected a host name or an IP address, not '[::1]' (without brackets)"
    ),
    'server:\n  host: ""\n': (
        "2:3: server.host: expected a host name or an IP address, not an empty text "
        "(0.0.0.0 and :: stand for every address)"
    ),
    "server:\n  host: 127.0.0.256\n": (
        "2:3: server.host: expected a host name or an IP address, not '127.0.0.256'"
    ),
    "server:\n  host: a b\n": "2:3: server.host: expected a host name or an IP address, not this text",
    "server:\n  host: on\n": (
        "2:3: server.host: expected a host name or an IP address, not on (put it in quotes)"
    ),
    "server:\n  allowed_hosts: a.example\n": (
        "2:3: server.allowed_hosts: expected a list of host names; `*.a.example` stands for every "
        "subdomain of `a.example`, not 'a.example' (put it in brackets)"
    ),
    "server:\n  allowed_hosts: [a.example, 'b.example:80']\n": (
        "2:3: server.allowed_hosts: expected a list of host names; `*.a.example` stands for every "
        "subdomain of `a.example`, not 'b.example:80' (without a port)"
    ),
    "server:\n  allowed_hosts: [a.*.example]\n": (
        "2:3: server.allowed_hosts: expected a list of host names; `*.a.example` stands for every "
        "subdomain of `a.example`, not 'a.*.example'"
    ),
    "server:\n  allowed_hosts: [{a: b}]\n": (
        "2:3: server.allowed_hosts: expected a list of host names; `*.a.example` stands for every "
        "subdomain of `a.example`, not a mapping"
    ),
    "server:\n  not_found: 404/\n": (
        "2:3: server.not_found: expected a path that begins with /, or an empty text, not '404/'"
    ),
    "server:\n  not_found: /a?b\n": (
        "2:3: server.not_found: expected a path that begins with /, or an empty text, not '/a?b'"
    ),
    "server:\n  via: 1\n": "2:3: server.via: expected true or false, not 1",
    'server:\n  via: "true"\n': "2:3: server.via: expected true or false, not 'true' (remove the quotes)",
    "server:\n  forwarded: appendix\n": (
        "2:3: server.forwarded: expected keep, replace or append, not 'appendix', did you mean 'append'?"
    ),
    "server:\n  half_close: no\n": "2:3: server.half_close: expected cancel or allow, not no",
    "server:\n  head_limit: 64KB\n": (
        "2:3: server.head_limit: expected a size from 1KiB to 1MiB, not '64KB' "
        "(write bytes, or a whole number and B, KiB, MiB, GiB or TiB)"
    ),
    "server:\n  head_limit: 2MiB\n": "2:3: server.head_limit: expected a size from 1KiB to 1MiB, not '2MiB'",
    "server:\n  head_limit: 12\n": "2:3: server.head_limit: expected a size from 1KiB to 1MiB, not 12",
    "server:\n  head_timeout: 0\n": (
        "2:3: server.head_timeout: expected a number of seconds above 0, 31536000 at most, not 0"
    ),
    "server:\n  head_timeout: .inf\n": (
        "2:3: server.head_timeout: expected a number of seconds above 0, 31536000 at most, not .inf"
    ),
    "server:\n  head_timeout: .nan\n": (
        "2:3: server.head_timeout: expected a number of seconds above 0, 31536000 at most, not .nan"
    ),
    "server:\n  head_timeout: 1:30\n": (
        "2:3: server.head_timeout: expected a number of seconds above 0, 31536000 at most, not 1:30 "
        "(write it in plain decimal)"
    ),
    "server:\n  head_timeout: 1:30.5\n": (
        "2:3: server.head_timeout: expected a number of seconds above 0, 31536000 at most, not 1:30.5 "
        "(write it in plain decimal)"
    ),
    "server:\n  head_timeout: 10s\n": (
        "2:3: server.head_timeout: expected a number of seconds above 0, 31536000 at most, not '10s'"
    ),
    "http_client:\n  pool_size: -1\n": (
        "2:3: http_client.pool_size: expected a whole number from 0 to 65535, not -1"
    ),
    "logging_server:\n  log_dir: ~/logs\n": (
        "2:3: logging_server.log_dir: expected a directory, relative to this file "
        "(~ is not expanded), not '~/logs'"
    ),
    "logging_server:\n  log_dir: 2025-01-01\n": (
        "2:3: logging_server.log_dir: expected a directory, relative to this file "
        "(~ is not expanded), not 2025-01-01 "
        "(put it in quotes)"
    ),
    'logging_server:\n  log_dir: "a\\nb"\n': (
        "2:3: logging_server.log_dir: expected a directory, relative to this file "
        "(~ is not expanded), not this text"
    ),
    # Tokens.
    "logging_server:\n  token:\n": (
        "2:3: logging_server.token: the value will not do: "
        "expected 1 to 4096 visible ASCII characters, without spaces"
    ),
    "logging_server:\n  token: {env: UNSET}\n": (
        "2:3: logging_server.token: the environment variable UNSET, which should hold it, is not set"
    ),
    "logging_server:\n  token: {env: sk-hunter2-0123456789}\n": (
        "2:3: logging_server.token: the environment variable that is named here, which should hold it, "
        "is not set"
    ),
    "logging_server:\n  token: {file: /absent}\n": (
        "2:3: logging_server.token: the file that should hold it cannot be read: No such file or directory"
    ),
    "logging_server:\n  token: {file: }\n": (
        "2:3: logging_server.token: no path is given: "
        "expected a text of visible ASCII characters, {file: path} or {env: NAME}"
    ),
    "logging_server:\n  token: 12345\n": (
        "2:3: logging_server.token: expected a text of visible ASCII characters, "
        "{file: path} or {env: NAME} (put it in quotes)"
    ),
    # URLs.
    "logging:\n  server_url: localhost:8080\n": (
        "2:3: logging.server_url: must start with http:// or https://: "
        "expected a URL such as http://127.0.0.1:1234/"
    ),
    ROUTES.replace("http://one", "ftp://one"): (
        "4:5: routes.one.destination: must start with http:// or https://: "
        "expected a URL such as http://127.0.0.1:1234/"
    ),
    ROUTES.replace("//one", "//me:pw@one"): (
        "4:5: routes.one.destination: a destination has no user or password; "
        "send credentials in a header: expected a URL such as http://127.0.0.1:1234/"
    ),
    # What keys mean together.
    "logging_server:\n  host: 0.0.0.0\n": (
        "2:3: logging_server.host: others can reach this host: "
        "expected logging_server.token to be set, or a loopback host"
    ),
    "server:\n  port: 8080\n": (
        "2:3: server.port: the proxy and the embedded logging server both listen on port 8080: "
        "expected two ports"
    ),
    "logging_server:\n  port: 5601\n  host: '::1'\n": (
        "2:3: logging_server.port: the proxy and the embedded logging server both listen on port 5601: "
        "expected two ports"
    ),
    "logging:\n  server_url: http://127.0.0.1:5601\n": (
        "2:3: logging.server_url: this is the proxy's own listener: expected the address of a logging server"
    ),
    "logging:\n  server_url: http://a.example/?x\n": (
        "2:3: logging.server_url: expected an http:// or https:// URL without query and fragment"
    ),
    # Routes.
    "routes:\n  one:\n    pattern: /one/\n": (
        "2:3: routes.one.destination: missing: expected an http:// or https:// URL"
    ),
    "routes:\n  one:\n    destination: http://one.example/\n": (
        "2:3: routes.one.pattern: missing: expected a pattern such as /v1/ or GET api.example/v1/{$}"
    ),
    ROUTES + "    loging: true\n": "5:5: routes.one.loging: unknown key, did you mean 'logging'?",
    ROUTES.replace("/one/\n", "one\n"): (
        "3:5: routes.one.pattern: host/path missing / (at offset 0): "
        "expected a pattern such as /v1/ or GET api.example/v1/{$}"
    ),
    ROUTES.replace("/one/\n", "/one/{id}\n"): (
        "3:5: routes.one.pattern: wildcards are not supported: expected none but a final {$}"
    ),
    ROUTES + "  two:\n    destination: http://two.example/\n    pattern: /%6fne/\n": (
        '7:5: routes.two.pattern: pattern "/%6fne/" conflicts with pattern "/one/": '
        "/%6fne/ matches the same requests as /one/ (routes.one in line 2)"
    ),
    ROUTES + '  "a\\nb":\n    pattern: /b/\n    destination: http://two.example/\n': (
        '5:3: routes."a\\nb": not a name for a route: expected 1 to 100 printable characters'
    ),
    ROUTES.replace("one.example", "localhost:5601"): (
        "4:5: routes.one.destination: this is the proxy's own listener: expected another server"
    ),
    ROUTES.replace("one.example", "127.0.0.1:8080"): (
        "4:5: routes.one.destination: this is the embedded logging server's own listener: "
        "expected another server"
    ),
}

SECRET = "hunter2-correct-horse"

LEAKS = (
    "token: {s}",
    "logging_server:\n  token: {s} more\n",
    "logging_server:\n  token: &{s} x\n",
    "logging_server:\n  token: *{s}\n",
    "logging_server:\n  token: !{s} x\n",
    "logging_server:\n  token: !{s}!x y\n",
    "logging_server:\n  token: {{{s}}}\n",
    "logging_server:\n  token: {{file: /{s}}}\n",
    "logging_server:\n  token: {{env: {s}}}\n",
    "logging_server:\n  token: {{vale: {s}}}\n",
    "logging_server:\n  token: {{{s}: 1, {s}: 2}}\n",
    "logging_server:\n  token: {{{s}: &a 2}}\n",
    "logging_server:\n  token: {{file: [{s}]}}\n",
    "logging_server:\n  token: [{s}]\n",
    "logging_server:\n  token:\n  - {s}\n  -{s}\n",
    "logging_server:\n  token:{s}\n",
    "logging_server: {{port: 1, token:{s}}}\n",
    "logging_server:\n  host: x\n    token:{s}\n",
    "logging_server:\n  tokn: {s}\n",
    'logging_server:\n  token: "{s}\n',
    "logging_server:\n  token: %{s}\n",
    "logging_server:\n  token: @{s}\n",
    "token:{s}\n",
)


def lines_of(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """The lines that are shown for a text with mistakes; none for one without."""
    try:
        read_configuration(text, "config.yaml", environ or {})
    except ConfigurationError as error:
        return str(error).split("\n")
    return []


class MistakesTests(SynchronousTestCase):
    """One mistake, one line."""

    def test_each(self) -> None:
        """The line names the file, the line, the column, the key, what is wrong and what was expected."""
        for text, line in MISTAKES.items():
            self.assertEqual(lines_of(text), [f"config.yaml:{line}"], text)

    def test_all_at_once(self) -> None:
        """Mistakes of every sort are reported together, in the order of the file."""
        text = (
            "routes:\n"
            "  one: {pattern: /a/, destination: http://localhost:8080/}\n"
            "  two: {pattern: /a/}\n"
            "server:\n"
            "  via: maybe\n"
            "  prot: 1\n"
            "logging_server:\n"
            "  host: '::'\n"
        )
        places = [line.split(": ")[:2] for line in lines_of(text)]
        self.assertEqual(
            places,
            [
                ["config.yaml:2:23", "routes.one.destination"],
                ["config.yaml:3:3", "routes.two.destination"],
                ["config.yaml:3:9", "routes.two.pattern"],
                ["config.yaml:5:3", "server.via"],
                ["config.yaml:6:3", "server.prot"],
                ["config.yaml:8:3", "logging_server.host"],
            ],
        )

    def test_problems_are_values(self) -> None:
        """The error holds its problems apart from their text."""
        error = self.assertRaises(ConfigurationError, read_configuration, "server: {port: x}", "a.yaml", {})
        (problem,) = error.problems
        self.assertEqual(
            (problem.filename, problem.line, problem.column, problem.key_path),
            ("a.yaml", 1, 10, "server.port"),
        )

    def test_no_consequences(self) -> None:
        """A key that is mistaken takes no part in other checks."""
        text = "server: {port: x}\nlogging_server: {port: 5601, token: [], host: '::'}\n"
        self.assertEqual(len(lines_of(text)), 2)

    def test_one_line_each(self) -> None:
        """No name and no value breaks the line or moves the cursor."""
        text = 'routes:\n  "a\\n\\e[2J\\u2028\\uD800": {pattern: "/\\n\\uD800", destination: "\\e\\n"}\n'
        for line in lines_of(text):
            self.assertTrue(line.startswith("config.yaml:") and line.isprintable(), line)

    def test_byte_order_mark(self) -> None:
        """A byte order mark moves no column."""
        self.assertEqual(lines_of("\ufefftls: 1"), lines_of("tls: 1"))


class SecretsTests(SynchronousTestCase):
    """A token is never shown, wherever it ended up."""

    def test_values(self) -> None:
        """No line quotes a token, or what stands in its place."""
        for leak in LEAKS:
            lines = lines_of(leak.format(s=SECRET))
            self.assertTrue(lines, leak)
            self.assertNotIn("hunter2", "\n".join(lines), leak)

    def test_environment(self) -> None:
        """Nor does a line quote a variable that holds no usable token."""
        text = "logging_server: {token: {env: TOKEN}}"
        (line,) = lines_of(text, {"TOKEN": SECRET + " and a space"})
        self.assertNotIn("hunter2", line)
        self.assertIn("the value of the environment variable TOKEN will not do", line)


WORDS = st.sampled_from(
    "server http_client logging logging_server routes port host token file env pattern destination default "
    "true null 5601 010 1:30 0.5 .inf 64KiB http://a/ http://[ / /a/ /{$} /{x} ~ <<".split()
)
SIGNS = st.sampled_from(["\n", "\n  ", "\n    ", ": ", ":", " ", "- ", "[", "]", "{", "}", ", ", "&a ", "*a"])
ODDITIES = st.sampled_from(
    ["!!int ", "!x ", "%YAML 9.9\n", "---\n", "...\n", "'", '"', "\\U", "|\n", "#", "? ", "\t"]
)


class AnyTextTests(SynchronousTestCase):
    """Whatever the text is, it is read or refused."""

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.one_of(WORDS, SIGNS, SIGNS, ODDITIES, st.text(max_size=3)), max_size=40).map("".join))
    def test_nothing_else_is_raised(self, text: str) -> None:
        """Any text gives a configuration or a `ConfigurationError` whose lines name the file."""
        for line in lines_of(text, {"a": "b"}):
            self.assertTrue(line.startswith("config.yaml:"), line)
            self.assertTrue(line.isprintable(), line)

    @settings(max_examples=200, deadline=None)
    @given(
        st.recursive(
            st.one_of(WORDS, st.text(max_size=4)),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
                st.dictionaries(WORDS, inner, max_size=4).map(
                    lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}"
                ),
            ),
            max_leaves=12,
        )
    )
    def test_any_structure(self, text: str) -> None:
        """The same for texts that are mostly structure."""
        for line in lines_of(text):
            self.assertTrue(line.startswith("config.yaml:") and line.isprintable(), line)
