"""
The configuration's values, and the one table of its keys.

A field annotated with a `Key` is a key of the file: its kind, its bounds, its
default and its description are declared here and nowhere else.  Reading, the
JSON Schema and the reference in the README all follow from this table, so that
a new key is one new line.
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

FORWARDED = Choice(*get_args(Forwarded))
HALF_CLOSE = Choice(*get_args(HalfClose))
ON_CAPTURE_ERROR = Choice(*get_args(OnCaptureError))
OPEN_TO = Choice(*get_args(OpenTo))


class _Version(Choice):
    """A version is a word, and yet YAML reads a number."""

    def schema(self) -> JSONSchema:
        return {"enum": [*self.choices, *map(float, self.choices)]}

    def written(self, value: str) -> str:
        return f'"{value}"'


MINIMUM_VERSION = _Version(*get_args(MinimumVersion))


@dataclass(frozen=True, slots=True)
class Section:
    """A value that is a mapping of keys with a table of its own."""

    name: str
    type: type

    def expected(self) -> str:
        return f"keys of their own, see `{self.name}`"


@dataclass(frozen=True, slots=True)
class Key:
    """What the table says of a key."""

    kind: Kind[Any] | Section
    description: str
    absent: str = ""
    """What holds when the key is left out, where that is no value of its kind."""


@dataclass(frozen=True, slots=True)
class ServerTLS:
    """TLS on the proxy's listener; SIGHUP reads the files again."""

    certificate: Annotated[
        PEMFile,
        Key(CERTIFICATES, "The proxy's certificate, and behind it those up to a CA that clients know."),
    ]
    key: Annotated[PEMFile, Key(PRIVATE_KEY, "The certificate's private key, without a passphrase.")]
    minimum_version: Annotated[
        MinimumVersion, Key(MINIMUM_VERSION, "Oldest version of TLS that clients may use.")
    ] = "1.2"


@dataclass(frozen=True, slots=True)
class UpstreamTLS:
    """TLS towards a route's destination, which takes TLS 1.2 or newer and a certificate for its host."""

    ca_file: Annotated[
        PEMFile | None,
        Key(CERTIFICATES, "CAs that may sign the destination's certificate.", absent="those of the system"),
    ] = None
    client_certificate: Annotated[
        PEMFile | None,
        Key(CERTIFICATES, "Certificate to show to the destination, and its chain.", absent="none is shown"),
    ] = None
    client_key: Annotated[
        PEMFile | None, Key(PRIVATE_KEY, "The client certificate's private key.", absent="none")
    ] = None
    verify: Annotated[
        bool,
        Key(
            BOOLEAN, "Verify the destination's certificate; `false` lets anybody in between read and change."
        ),
    ] = True
    server_name: Annotated[
        str | None,
        Key(SERVER_NAME, "Name to ask and to verify the destination for.", absent="the destination's host"),
    ] = None


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """The proxy's listener."""

    port: Annotated[int, Key(PORT, "Port to listen on; 0 takes any free one.")] = 5601
    host: Annotated[str, Key(HOST, "Host to listen on; `::` is every address, those of IPv4 as well.")] = (
        "localhost"
    )
    allowed_hosts: Annotated[
        tuple[str, ...],
        Key(
            HOSTS,
            "Hosts that clients may ask a loopback listener for, beside this machine's own names, addresses, "
            "names without a dot, and the hosts of patterns; others are answered 421 (DNS rebinding).",
        ),
    ] = ()
    workers: Annotated[
        int,
        Key(
            AutoInteger(1, 256),
            "Processes that forward; `auto`: one per processor that the proxy may use.",
        ),
    ] = 1
    not_found: Annotated[
        str, Key(NOT_FOUND_PATH, "Path that answers what no route takes; an empty text gives a plain 404.")
    ] = "/404/"
    forwarded: Annotated[
        Forwarded,
        Key(FORWARDED, "`X-Forwarded-*`: keep what the client sent, replace it, or append to it."),
    ] = "keep"
    via: Annotated[bool, Key(BOOLEAN, "Add `Via: 1.1 logging-proxy` to requests.")] = False
    half_close: Annotated[
        HalfClose,
        Key(HALF_CLOSE, "A client that half-closes has left (`cancel`) or still waits (`allow`)."),
    ] = "cancel"
    head_limit: Annotated[
        int,
        Key(
            Size(1 << 10, 1 << 20),
            "Largest head of a request; a response's may have 256 KiB, or as much as this.",
        ),
    ] = 65536
    header_fields: Annotated[
        int,
        Key(
            Integer(1, 10_000),
            "Most header fields of a request; a response may have 1000, or as many as this.",
        ),
    ] = 200
    head_timeout: Annotated[
        float, Key(DURATION, "Seconds until a request's head, or a TLS handshake, must be complete.")
    ] = 10
    body_timeout: Annotated[float, Key(DURATION, "Seconds that a request's body may pause.")] = 60
    keep_alive_timeout: Annotated[
        float, Key(DURATION, "Seconds that a client's connection may be idle between requests.")
    ] = 75
    send_timeout: Annotated[
        float, Key(DURATION, "Seconds that a client may take nothing of a response that waits for it.")
    ] = 300
    shutdown_timeout: Annotated[
        float, Key(DURATION, "Seconds that exchanges have to finish when the proxy is stopped.")
    ] = 30
    tls: Annotated[
        ServerTLS | None,
        Key(Section("server.tls", ServerTLS), "TLS for clients.", absent="plain HTTP"),
    ] = None


@dataclass(frozen=True, slots=True)
class HttpClientOptions:
    """The connections to destinations."""

    connect_timeout: Annotated[float, Key(DURATION, "Seconds until a connection must stand.")] = 10
    head_timeout: Annotated[float, Key(DURATION, "Seconds until a response's head must have come.")] = 600
    stream_timeout: Annotated[
        float, Key(DURATION, "Seconds that a response's body, or a tunnel after an upgrade, may pause.")
    ] = 3600
    pool_idle_timeout: Annotated[
        float, Key(DURATION, "Seconds that an idle connection is kept; less where `Keep-Alive` says so.")
    ] = 15
    pool_size: Annotated[
        int, Key(Integer(0, 65535), "Most idle connections per destination; 0 reuses none.")
    ] = 1024
    pool_max_age: Annotated[float, Key(DURATION, "Seconds after which a connection is not used again.")] = 300
    proxy_url: Annotated[
        Secret | None,
        Key(PROXY_URL, "Outbound proxy for every destination.", absent="the environment's, or none"),
    ] = None
    proxy_from_environment: Annotated[
        bool,
        Key(
            BOOLEAN,
            "Without `proxy_url`: use `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in lower case "
            "or upper, but never for loopback.",
        ),
    ] = True
    no_proxy: Annotated[
        str | None,
        Key(
            NO_PROXY,
            "Destinations to reach without a proxy: `a.example` (and below), `.a.example` (below only), "
            "`10.0.0.0/8`, `host:port`, `*`.",
            absent="`NO_PROXY` for the environment's proxies, nothing for `proxy_url`",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class LoggingOptions:
    """What is recorded, and where the records go."""

    console: Annotated[bool, Key(BOOLEAN, "Write one line per exchange.")] = True
    default: Annotated[bool, Key(BOOLEAN, "Capture routes that do not say, and unknown requests.")] = True
    server_url: Annotated[
        str | None, Key(URL, "Logging server that runs elsewhere.", absent="the embedded logging server")
    ] = None
    on_capture_error: Annotated[
        OnCaptureError,
        Key(ON_CAPTURE_ERROR, "Spool cannot be written: forward, count the loss (`pass`); 503 (`block`)."),
    ] = "pass"
    spool_dir: Annotated[
        str | None,
        Key(DIRECTORY, "Directory of the spools.", absent="`.spool` in `logging_server.log_dir`"),
    ] = None
    spool_limit: Annotated[int, Key(Size(1 << 20, 1 << 50), "Most bytes of a spool on disk.")] = 10 << 30
    fsync_interval: Annotated[
        float, Key(DURATION, "Seconds between two syncs of the spool: what a power loss may cost.")
    ] = 0.5
    ring_dir: Annotated[
        str, Key(DIRECTORY, "Directory of the ring, in memory: what it holds survives the process.")
    ] = "/dev/shm"


@dataclass(frozen=True, slots=True)
class RetentionOptions:
    """What the logging server keeps: without limits, everything; the oldest exchanges go first."""

    max_age: Annotated[
        int | None, Key(AGE, "Age of an exchange at which it is deleted.", absent="no limit")
    ] = None
    errors_max_age: Annotated[
        int | None,
        Key(
            AGE,
            "The same for exchanges that were cut, failed, or were answered 4xx or 5xx.",
            absent="`max_age`",
        ),
    ] = None
    bodies_max_age: Annotated[
        int | None,
        Key(AGE, "Age at which the bytes are deleted, and only metadata and index stay.", absent="no limit"),
    ] = None
    max_bytes: Annotated[
        int | None,
        Key(
            Size(1 << 20, 1 << 50), "Most bytes of all captures; the spool is not counted.", absent="no limit"
        ),
    ] = None
    max_exchanges: Annotated[int | None, Key(Integer(1, 10**12), "Most exchanges.", absent="no limit")] = None


@dataclass(frozen=True, slots=True)
class LoggingServerOptions:
    """The logging server: the embedded one, and what `twistd logging-server` reads."""

    host: Annotated[str, Key(HOST, "Host to listen on; beyond loopback only with a token.")] = "localhost"
    port: Annotated[int, Key(PORT, "Port to listen on; 0 takes any free one.")] = 8080
    log_dir: Annotated[str, Key(DIRECTORY, "Directory of the captures.")] = "logs"
    token: Annotated[
        Secret | None,
        Key(
            SECRET,
            "Token that everybody must present, but for `/health`.",
            absent="that in `.token` of `log_dir`, for whom `open_to` leaves out",
        ),
    ] = None
    open_to: Annotated[
        OpenTo,
        Key(
            OPEN_TO,
            "Who on this machine needs no token while none is configured: the server's own `user` and root, "
            "or everybody on the `machine`.",
        ),
    ] = "user"
    retention: Annotated[
        RetentionOptions | None,
        Key(
            Section("logging_server.retention", RetentionOptions),
            "What is kept for how long.",
            absent="everything",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class RouteOptions:
    """A route: which requests it takes, and where they go."""

    name: str
    pattern: Annotated[Pattern, Key(PATTERN, "Pattern of Go's `http.ServeMux`, without wildcards but `{$}`.")]
    destination: Annotated[Destination, Key(DESTINATION, "URL that requests are forwarded to.")]
    logging: Annotated[bool, Key(BOOLEAN, "Capture the route's exchanges.", absent="`logging.default`")]
    line: int
    """Line of the file that the route begins at, for messages."""
    tls: Annotated[
        UpstreamTLS | None,
        Key(
            Section("routes.<name>.tls", UpstreamTLS),
            "TLS towards an https:// destination.",
            absent="its defaults",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything that the file says, checked, with every default filled in."""

    server: ServerOptions = ServerOptions()
    http_client: HttpClientOptions = HttpClientOptions()
    logging: LoggingOptions = LoggingOptions()
    logging_server: LoggingServerOptions = LoggingServerOptions()
    routes: tuple[RouteOptions, ...] = ()
    proxies: ProxySettings = ProxySettings()
    """The outbound proxies, from the file or from the environment."""
    warnings: tuple[Problem, ...] = dataclasses.field(default=(), compare=False)
    """What is allowed and yet worth a line at start-up."""

    @property
    def embedded(self) -> bool:
        """Whether the proxy runs a logging server of its own."""
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
"""Every table of keys, by the name that people know it under."""


@cache
def keys_of(section: type) -> Mapping[str, Key]:
    """The keys of a section, by name."""
    hints = get_type_hints(section, include_extras=True)
    annotated = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    return {name: extras[0] for name, extras in annotated.items() if extras}


@cache
def defaults_of(section: type) -> Mapping[str, Any]:
    """The keys of a section that have a value when they are left out."""
    fields = {field.name: field.default for field in dataclasses.fields(section)}
    return {
        name: fields[name] for name in keys_of(section) if fields[name] not in (dataclasses.MISSING, None)
    }


def summary_of(section: type) -> str:
    """What a section is, in one sentence."""
    return inspect.cleandoc(section.__doc__ or "").partition("\n")[0]


def is_required(section: type, name: str) -> bool:
    """Whether a section must have the key."""
    return name not in defaults_of(section) and not keys_of(section)[name].absent
