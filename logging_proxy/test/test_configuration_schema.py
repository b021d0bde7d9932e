"""The JSON Schema and the reference say what the validator does."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import yaml
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from logging_proxy.configuration import ConfigurationError, read_configuration
from logging_proxy.configuration import schema as schema_module
from logging_proxy.configuration.options import TABLES, keys_of
from logging_proxy.configuration.reference import reference_markdown
from logging_proxy.configuration.schema import configuration_schema, schema_text

SCHEMA_FILE = Path(schema_module.__file__).parent / "schema.json"
PAGE = SCHEMA_FILE.parent.parent.parent / "docs" / "configuration.md"

ROUTE = "{pattern: /a/, destination: 'http://a/'}"

GOOD = (
    "{}",
    "{server: null, routes: null}",
    "server: {port: 0, host: '::1', not_found: '', forwarded: replace, via: yes, half_close: allow}",
    "server: {head_limit: 1024, header_fields: 1, head_timeout: 0.25, shutdown_timeout: 31536000}",
    "server: {head_limit: 1 MiB}",
    "http_client: {pool_size: 0}",
    "logging: {console: off, on_capture_error: block, spool_dir: /var/spool, spool_limit: 1TiB}",
    "logging: {server_url: 'HTTPS://logs.example/base'}",
    "logging_server: {token: abc}",
    "logging_server: {token: {env: T}}",
    "logging_server: {open_to: user}",
    "logging_server: {open_to: machine}",
    "server: {tls: {certificate: a.pem, key: b.pem}}",
    "server: {tls: {certificate: a.pem, key: b.pem, minimum_version: 1.3}}",
    "server: {tls: {certificate: a.pem, key: b.pem, minimum_version: '1.2'}}",
    "http_client: {proxy_url: 'http://u:p@proxy:3128', no_proxy: 'a, .b,10.0.0.0/8'}",
    "http_client: {proxy_url: 'SOCKS5H://proxy', proxy_from_environment: false}",
    "http_client: {proxy_url: {env: P}, no_proxy: ''}",
    f"routes: {{a: {ROUTE}}}",
    "routes: {a: {pattern: /a/, destination: 'https://a/', tls: null}}",
    "routes: {a: {pattern: /a/, destination: 'https://a/', tls: {ca_file: a.pem, server_name: b}}}",
    "routes: {a: {pattern: /a/, destination: 'https://a/', tls: {client_certificate: a, client_key: b}}}",
    "routes: {a: {pattern: /a/, destination: 'https://a/', tls: {verify: false}}}",
    "routes: {'a b': {pattern: 'GET a.example/x/{$}', destination: 'http://[::1]:1/?a=b', logging: false}}",
)

# What a schema can say too.  Beyond it are other notations of numbers, hosts and URLs in detail, bounds of
# sizes with a unit, patterns that no mux takes, and whatever keys mean together.
BAD = (
    "[]",
    "5",
    "servers: {}",
    "server: []",
    "server: {prot: 1}",
    "server: {port: 65536}",
    "server: {port: -1}",
    "server: {port: '5601'}",
    "server: {port: null}",
    "server: {port: 1.5}",
    "server: {port: true}",
    "server: {host: ''}",
    "server: {host: a b}",
    "server: {host: 5}",
    "server: {not_found: 404/}",
    "server: {not_found: '/a b'}",
    "server: {not_found: '/a?b'}",
    "server: {forwarded: add}",
    "server: {via: 'true'}",
    "server: {via: 1}",
    "server: {head_limit: 1023}",
    "server: {head_limit: 1KB}",
    "server: {head_limit: 1.5}",
    "server: {head_timeout: 0}",
    "server: {head_timeout: -1.5}",
    "server: {head_timeout: 31536001}",
    "server: {head_timeout: .inf}",
    "server: {head_timeout: 10s}",
    "server: {tls: null}",
    "server: {tls: {certificate: a.pem}}",
    "server: {tls: {certificate: a.pem, key: 5}}",
    "server: {tls: {certificate: ~/a.pem, key: b.pem}}",
    "server: {tls: {certificate: a.pem, key: b.pem, minimum_version: 1.1}}",
    "server: {tls: {certificate: a.pem, key: b.pem, ca_file: c}}",
    "server: {tls: true}",
    "http_client: {proxy_url: 'proxy:3128'}",
    "http_client: {proxy_url: 'ftp://proxy'}",
    "http_client: {proxy_url: 5}",
    "http_client: {proxy_url: {env: P, file: p}}",
    "http_client: {proxy_from_environment: 1}",
    "http_client: {no_proxy: [a, b]}",
    "routes: {a: {pattern: /, destination: 'https://a/', tls: a.pem}}",
    "routes: {a: {pattern: /, destination: 'https://a/', tls: {verify: 'no'}}}",
    "routes: {a: {pattern: /, destination: 'https://a/', tls: {server_name: 'a b'}}}",
    "routes: {a: {pattern: /, destination: 'https://a/', tls: {certificate: a}}}",
    "logging: {server_url: 'localhost:8080'}",
    "logging: {server_url: 'http://a/?b'}",
    "logging: {spool_dir: ''}",
    "logging: {ring_dir: ~/shm}",
    "logging_server: {token: 'a b'}",
    "logging_server: {open_to: everybody}",
    "logging_server: {token: ''}",
    "logging_server: {token: 5}",
    "logging_server: {token: {}}",
    "logging_server: {token: {env: T, file: f}}",
    "logging_server: {token: {value: T}}",
    "logging_server: {token: {env: 5.5}, port: x}",
    "routes: []",
    "routes: {a: null}",
    "routes: {a: {pattern: /a/}}",
    "routes: {a: {destination: 'http://a/'}}",
    "routes: {a: {pattern: a, destination: 'http://a/'}}",
    "routes: {a: {pattern: '/{x}', destination: 'http://a/'}}",
    "routes: {a: {pattern: '/{$}/', destination: 'http://a/'}}",
    "routes: {a: {pattern: /, destination: a}}",
    "routes: {a: {pattern: /, destination: 'http://'}}",
    "routes: {a: {pattern: /, destination: 'http://me@a/'}}",
    "routes: {a: {pattern: /, destination: 'http://a/#b'}}",
    "routes: {a: {pattern: /, destination: 'http://a/', logging: 'no'}}",
    "routes: {a: {pattern: /, destination: 'http://a/', log: true}}",
    f"routes: {{'': {ROUTE}}}",
    f'routes: {{"a\\tb": {ROUTE}}}',
    f"routes: {{{'a' * 101}: {ROUTE}}}",
)


def is_accepted(text: str) -> bool:
    """Whether the validator finds no mistake."""
    try:
        read_configuration(text, "config.yaml", {"T": "abc", "P": "http://p"}, tls_files=False)
    except ConfigurationError:
        return False
    return True


class SchemaTests(SynchronousTestCase):
    """The schema that editors use."""

    def test_file(self) -> None:
        """The file in the package is what the table of keys gives."""
        self.assertEqual(SCHEMA_FILE.read_text("utf-8"), schema_text())

    def test_is_a_schema(self) -> None:
        """It is a valid schema of draft 2020-12."""
        jsonschema.Draft202012Validator.check_schema(configuration_schema())

    def test_agreement(self) -> None:
        """Schema and validator accept and refuse the same documents."""
        validator = jsonschema.Draft202012Validator(configuration_schema())
        for texts, good in ((GOOD, True), (BAD, False)):
            for text in texts:
                self.assertIs(is_accepted(text), good, text)
                self.assertIs(validator.is_valid(yaml.safe_load(text)), good, text)


class ReferenceTests(SynchronousTestCase):
    """The reference for people."""

    def test_every_key(self) -> None:
        """Every key has a row in the table of its section, with its default."""
        parts = reference_markdown().split("## ")
        for (name, section), part in zip(TABLES.items(), parts[1:], strict=True):
            self.assertTrue(part.startswith(f"`{name}`\n"))
            rows = [line.split(" | ") for line in part.splitlines() if line.startswith("| `")]
            self.assertEqual([row[0] for row in rows], [f"| `{key}`" for key in keys_of(section)])
            self.assertTrue(all(len(row) == 4 and all(row) for row in rows), part)
        self.assertIn("| `head_limit` | a size from 1KiB to 1MiB | `64KiB` |", parts[1])

    def test_page(self) -> None:
        """docs/configuration.md holds the reference as it is."""
        if not PAGE.exists():
            raise SkipTest("the documents are not part of this installation")
        self.assertIn(reference_markdown(), PAGE.read_text("utf-8"))
