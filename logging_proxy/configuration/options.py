"""
The configuration's values, and the table of its keys.

A field annotated with a `Key` is a key of the file.  Its kind, bounds, default
and description are declared here only; the reader, the JSON Schema and the
reference in docs/configuration.md are derived from this table, so a new key is
one new entry.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_type_hints

from logging_proxy.configuration.addresses import (
    DESTINATION,
    DIRECTORY,
    HOST,
    HOSTS,
    NO_PROXY,
    NOT_FOUND_PATH,
    PATTERN,
    PORT,
    SERVER_NAME,
    URL,
)
from logging_proxy.configuration.kinds import (
    AGE,
    BOOLEAN,
    DURATION,
    AutoInteger,
    BooleanOr,
    Choice,
    Integer,
    JSONSchema,
    Kind,
    Size,
)
from logging_proxy.configuration.pem_files import CERTIFICATES, PRIVATE_KEY
from logging_proxy.configuration.problems import Problem
from logging_proxy.configuration.secret import PROXY_URL, SECRET, Secret
from logging_proxy.outbound.settings import ProxySettings
from logging_proxy.routing.mapping import Destination
from logging_proxy.routing.patterns import Pattern
from logging_proxy.tls.pem import PEMFile

Forwarded = Literal["keep", "replace", "append"]
HalfClose = Literal["cancel", "allow"]
OnCaptureError = Literal["pass", "block"]
OpenTo = Literal["user", "machine"]
MinimumVersion = Literal["1.2", "1.3"]

BRIEF = "brief"
"""The value of `logging.console` for one line per exchange."""

FORWARDED = Choice(*get_args(Forwarded))
HALF_CLOSE = Choice(*get_args(HalfClose))
ON_CAPTURE_ERROR = Choice(*get_args(OnCaptureError))
OPEN_TO = Choice(*get_args(OpenTo))


class _Version(Choice):
    """A TLS version: a string that YAML reads as a number when it is not quoted."""

    def schema(self) -> JSONSchema:
        return {"enum": [*self.choices, *map(float, self.choices)]}

    def written(self, value: str) -> str:
        return f'"{value}"'


MINIMUM_VERSION = _Version(*get_args(MinimumVersion))


@dataclass(frozen=True, slots=True)
class Section:
    """A value that is itself a mapping, with its own table of keys."""

    name: str
    type: type

    def expected(self) -> str:
        return f"a section of keys, see `{self.name}`"


@dataclass(frozen=True, slots=True)
class Key:
    """The entry of one key in the table."""

    kind: Kind[Any] | Section
    description: str
    absent: str = ""
    """Text for the default in the reference, if the default is not a value of this kind."""


@dataclass(frozen=True, slots=True)
class ServerTLS:
    """TLS on the proxy's listener. SIGHUP reloads the files."""

    certificate: Annotated[
        PEMFile,
        Key(CERTIFICATES, "The proxy's certificate, followed by its chain up to a CA that clients trust."),
    ]
    key: Annotated[PEMFile, Key(PRIVATE_KEY, "The certificate's private key, without a passphrase.")]
    minimum_version: Annotated[
        MinimumVersion, Key(MINIMUM_VERSION, "Lowest TLS version accepted from clients.")
    ] = "1.2"


@dataclass(frozen=True, slots=True)
class UpstreamTLS:
    """TLS to a route's destination: always TLS 1.2 or newer."""

    ca_file: Annotated[
        PEMFile | None,
        Key(CERTIFICATES, "CAs trusted to sign the destination's certificate.", absent="the system's CAs"),
    ] = None
    client_certificate: Annotated[
        PEMFile | None,
        Key(
            CERTIFICATES,
            "Client certificate and its chain, for destinations that ask for one.",
            absent="none",
        ),
    ] = None
    client_key: Annotated[
        PEMFile | None, Key(PRIVATE_KEY, "The client certificate's private key.", absent="none")
    ] = None
    verify: Annotated[
        bool,
        Key(
            BOOLEAN,
            "Verify the destination's certificate and name. With `false`, anyone on the network path can "
            "read and change the traffic.",
        ),
    ] = True
    server_name: Annotated[
        str | None,
        Key(SERVER_NAME, "Name for SNI and for verifying the certificate.", absent="the destination's host"),
    ] = None


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """The proxy's listener."""

    port: Annotated[int, Key(PORT, "Port to listen on; 0 picks a free one.")] = 5601
    host: Annotated[str, Key(HOST, "Host to listen on; `::` listens on every address, IPv4 included.")] = (
        "localhost"
    )
    allowed_hosts: Annotated[
        tuple[str, ...],
        Key(
            HOSTS,
            "Further `Host` names to accept on a loopback listener. Always accepted: this machine's own "
            "names, IP addresses, names without a dot, and the hosts of patterns. Other requests are "
            "answered 421 (protection against DNS rebinding).",
        ),
    ] = ()
    workers: Annotated[
        int,
        Key(
            AutoInteger(1, 256),
            "Number of forwarding processes; `auto` starts one for each processor available to the proxy.",
        ),
    ] = 1
    not_found: Annotated[
        str,
        Key(
            NOT_FOUND_PATH,
            "Path prefix under which requests that match no route are retried; empty for a plain 404.",
        ),
    ] = "/404/"
    forwarded: Annotated[
        Forwarded,
        Key(FORWARDED, "`X-Forwarded-*` headers: keep those of the client, replace them, or append to them."),
    ] = "keep"
    via: Annotated[bool, Key(BOOLEAN, "Add `Via: 1.1 logging-proxy` to requests.")] = False
    half_close: Annotated[
        HalfClose,
        Key(
            HALF_CLOSE,
            "When a client half-closes its connection: cancel the exchange, or allow it to finish.",
        ),
    ] = "cancel"
    head_limit: Annotated[
        int,
        Key(
            Size(1 << 10, 1 << 20),
            "Maximum size of a request head. The limit for response heads is the larger of this and 256 KiB.",
        ),
    ] = 65536
    header_fields: Annotated[
        int,
        Key(
            Integer(1, 10_000),
            "Maximum number of header fields in a request. The limit for responses is the larger of this "
            "and 1000.",
        ),
    ] = 200
    head_timeout: Annotated[
        float,
        Key(DURATION, "Timeout for receiving a request head or completing a TLS handshake, in seconds."),
    ] = 10
    body_timeout: Annotated[float, Key(DURATION, "How long a request body may pause, in seconds.")] = 60
    keep_alive_timeout: Annotated[
        float, Key(DURATION, "How long a client connection may stay idle between requests, in seconds.")
    ] = 75
    send_timeout: Annotated[
        float, Key(DURATION, "How long a client may stop reading while response bytes wait, in seconds.")
    ] = 300
    shutdown_timeout: Annotated[
        float, Key(DURATION, "How long exchanges in flight may take to finish at shutdown, in seconds.")
    ] = 30
    tls: Annotated[
        ServerTLS | None,
        Key(Section("server.tls", ServerTLS), "TLS for clients.", absent="plain HTTP"),
    ] = None


@dataclass(frozen=True, slots=True)
class HttpClientOptions:
    """Connections to destinations."""

    connect_timeout: Annotated[float, Key(DURATION, "Connect timeout, in seconds.")] = 10
    head_timeout: Annotated[float, Key(DURATION, "Timeout for the response head, in seconds.")] = 600
    stream_timeout: Annotated[
        float, Key(DURATION, "How long a response body, or a tunnel after an upgrade, may pause, in seconds.")
    ] = 3600
    pool_idle_timeout: Annotated[
        float,
        Key(
            DURATION,
            "How long an idle connection is kept, in seconds; less if the response's `Keep-Alive` says so.",
        ),
    ] = 15
    pool_size: Annotated[
        int, Key(Integer(0, 65535), "Maximum number of idle connections per destination; 0 disables reuse.")
    ] = 1024
    pool_max_age: Annotated[float, Key(DURATION, "Maximum age of a reused connection, in seconds.")] = 300
    proxy_url: Annotated[
        Secret | None,
        Key(PROXY_URL, "Outbound proxy for every destination.", absent="from the environment, or none"),
    ] = None
    proxy_from_environment: Annotated[
        bool,
        Key(
            BOOLEAN,
            "Without `proxy_url`: use `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in lower or "
            "upper case. Never used for loopback destinations.",
        ),
    ] = True
    no_proxy: Annotated[
        str | None,
        Key(
            NO_PROXY,
            "Destinations to connect to directly: `a.example` (with its subdomains), `.a.example` "
            "(subdomains only), `10.0.0.0/8`, `host:port`, `*`.",
            absent="`NO_PROXY` with proxies from the environment, none with `proxy_url`",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class LoggingOptions:
    """What is recorded, and where it is stored."""

    console: Annotated[
        bool | str,
        Key(
            BooleanOr(BRIEF),
            "Print a line when an exchange begins and one when it ends; `brief`: only the latter.",
        ),
    ] = True
    default: Annotated[
        bool, Key(BOOLEAN, "Capture routes that do not set `logging`, and requests that match no route.")
    ] = True
    server_url: Annotated[
        str | None, Key(URL, "URL of a separate logging server.", absent="the embedded logging server")
    ] = None
    on_capture_error: Annotated[
        OnCaptureError,
        Key(
            ON_CAPTURE_ERROR,
            "When the spool cannot be written: `pass` forwards and counts the loss, `block` answers 503.",
        ),
    ] = "pass"
    spool_dir: Annotated[
        str | None,
        Key(DIRECTORY, "Directory for spools.", absent="`.spool` in `logging_server.log_dir`"),
    ] = None
    spool_limit: Annotated[int, Key(Size(1 << 20, 1 << 50), "Maximum size of a spool on disk.")] = 10 << 30
    fsync_interval: Annotated[
        float,
        Key(
            DURATION,
            "Interval between syncs of the spool to disk, in seconds: a power loss may cost this much.",
        ),
    ] = 0.5
    ring_dir: Annotated[
        str,
        Key(
            DIRECTORY,
            "Directory for the recording's ring buffer; on a memory file system it survives the death of the "
            "process.",
        ),
    ] = "/dev/shm"


@dataclass(frozen=True, slots=True)
class RetentionOptions:
    """How long captures are kept: by default for ever. The oldest exchanges are deleted first."""

    max_age: Annotated[int | None, Key(AGE, "Age at which exchanges are deleted.", absent="no limit")] = None
    errors_max_age: Annotated[
        int | None,
        Key(
            AGE,
            "The same for exchanges that were cut, failed, or were answered with 4xx or 5xx.",
            absent="`max_age`",
        ),
    ] = None
    bodies_max_age: Annotated[
        int | None,
        Key(
            AGE,
            "Age at which the captured bytes are deleted; metadata and index entries stay.",
            absent="no limit",
        ),
    ] = None
    max_bytes: Annotated[
        int | None,
        Key(
            Size(1 << 20, 1 << 50),
            "Maximum size of all captures together, without the spool.",
            absent="no limit",
        ),
    ] = None
    max_exchanges: Annotated[
        int | None, Key(Integer(1, 10**12), "Maximum number of exchanges.", absent="no limit")
    ] = None


@dataclass(frozen=True, slots=True)
class LoggingServerOptions:
    """The logging server, embedded or started as `twistd logging-server`."""

    host: Annotated[str, Key(HOST, "Host to listen on; anything but loopback requires a `token`.")] = (
        "localhost"
    )
    port: Annotated[int, Key(PORT, "Port to listen on; 0 picks a free one.")] = 8080
    log_dir: Annotated[str, Key(DIRECTORY, "Directory for captures.")] = "logs"
    token: Annotated[
        Secret | None,
        Key(
            SECRET,
            "Token required from every client, except for `/health`.",
            absent="generated in `log_dir/.token`; required from users not covered by `open_to`",
        ),
    ] = None
    open_to: Annotated[
        OpenTo,
        Key(
            OPEN_TO,
            "Local users who need no token if none is configured: the server's own user and root (`user`), "
            "or every user of this machine (`machine`).",
        ),
    ] = "user"
    retention: Annotated[
        RetentionOptions | None,
        Key(
            Section("logging_server.retention", RetentionOptions),
            "Limits on what is kept.",
            absent="everything",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class RouteOptions:
    """A route: which requests it matches, and where they are forwarded."""

    name: str
    pattern: Annotated[
        Pattern, Key(PATTERN, "Go `http.ServeMux` pattern; `{$}` is the only wildcard supported.")
    ]
    destination: Annotated[Destination, Key(DESTINATION, "URL to forward requests to.")]
    logging: Annotated[bool, Key(BOOLEAN, "Capture the route's exchanges.", absent="`logging.default`")]
    line: int
    """Line of the file on which the route begins, for messages."""
    tls: Annotated[
        UpstreamTLS | None,
        Key(
            Section("routes.<name>.tls", UpstreamTLS),
            "TLS settings for an `https://` destination.",
            absent="its defaults",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class Configuration:
    """The whole configuration, validated, with defaults filled in."""

    server: ServerOptions = ServerOptions()
    http_client: HttpClientOptions = HttpClientOptions()
    logging: LoggingOptions = LoggingOptions()
    logging_server: LoggingServerOptions = LoggingServerOptions()
    routes: tuple[RouteOptions, ...] = ()
    proxies: ProxySettings = ProxySettings()
    """Outbound proxies, from the file or from the environment."""
    warnings: tuple[Problem, ...] = dataclasses.field(default=(), compare=False)
    """Settings that are valid but deserve a warning at start-up."""

    @property
    def embedded(self) -> bool:
        """Whether the proxy starts its own logging server."""
        return self.logging.server_url is None


SECTIONS: Mapping[str, type] = {
    "server": ServerOptions,
    "http_client": HttpClientOptions,
    "logging": LoggingOptions,
    "logging_server": LoggingServerOptions,
}

TOP_LEVEL = (*SECTIONS, "routes")

TABLES: Mapping[str, type] = {
    "server": ServerOptions,
    "server.tls": ServerTLS,
    "http_client": HttpClientOptions,
    "logging": LoggingOptions,
    "logging_server": LoggingServerOptions,
    "logging_server.retention": RetentionOptions,
    "routes.<name>": RouteOptions,
    "routes.<name>.tls": UpstreamTLS,
}
"""Every table of keys, by its name in the documentation."""


@cache
def keys_of(section: type) -> Mapping[str, Key]:
    """The keys of a section, by name."""
    hints = get_type_hints(section, include_extras=True)
    annotated = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    return {name: extras[0] for name, extras in annotated.items() if extras}


@cache
def defaults_of(section: type) -> Mapping[str, Any]:
    """The default values of a section, for keys that have one."""
    fields = {field.name: field.default for field in dataclasses.fields(section)}
    return {
        name: fields[name] for name in keys_of(section) if fields[name] not in (dataclasses.MISSING, None)
    }


def summary_of(section: type) -> str:
    """A one-sentence description of a section, for the reference."""
    return inspect.cleandoc(section.__doc__ or "").partition("\n")[0]


def is_required(section: type, name: str) -> bool:
    """Whether the key is required in its section."""
    return name not in defaults_of(section) and not keys_of(section)[name].absent
