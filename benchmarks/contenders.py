"""The proxies to compare: how each is configured and started, and whether it is installed."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOOLS = HERE.parent / ".venv-bench" / "bin"
"""Where `make bench` installs mitmproxy and builds the Go programs."""

PREFIX = "/bench"
"""The path prefix that every proxy accepts and strips."""


@dataclass(frozen=True, slots=True)
class Place:
    """The surroundings of a proxy: its folders on disk and in memory, its ports, and the upstream's port."""

    folder: Path
    memory: Path
    port: int
    upstream: int
    logging_port: int


@dataclass(frozen=True, slots=True)
class Contender:
    """A proxy.  `command` writes its configuration and returns its command line; `program` is required."""

    name: str
    label: str
    short: str
    program: str | None
    command: Callable[[Place], Sequence[str | Path]]
    whole: bool = True
    """Whether all its processes handle requests.  In Logging Proxy only the first one does."""


def configure(place: Place, capture: bool = True, routes: int = 1) -> Path:
    """A configuration of Logging Proxy with `routes` routes; the last one, `bench`, is the one in use."""
    others = "".join(
        f'  other{number}: {{pattern: "/other/{number}/", destination: "http://127.0.0.1:{place.upstream}/"}}\n'
        for number in range(routes - 1)
    )
    path = place.folder / "config.yaml"
    path.write_text(
        f"server: {{host: 127.0.0.1, port: {place.port}}}\n"
        f"logging: {{console: false, default: {'true' if capture else 'false'}, ring_dir: {place.memory}}}\n"
        f"logging_server: {{host: 127.0.0.1, port: {place.logging_port}, log_dir: {place.folder}/logs}}\n"
        f"routes:\n{others}"
        f'  bench: {{pattern: "{PREFIX}/", destination: "http://127.0.0.1:{place.upstream}/"}}\n'
    )
    return path


def ours(configuration: Path) -> list[str | Path]:
    """The command that starts the proxy of this environment."""
    twistd = Path(sys.executable).with_name("twistd")
    return [twistd, "-n", "--pidfile=", "logging-proxy", "--config", configuration]


def _nginx(place: Place) -> list[str | Path]:
    """nginx with one worker, without buffering whole bodies, with large buffers and kept connections."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"  {kind}_temp_path {place.folder}/{kind};\n" for kind in kinds)
    path = place.folder / "nginx.conf"
    path.write_text(
        f"worker_processes 1;\ndaemon off;\npid {place.folder}/nginx.pid;\n"
        "events { worker_connections 8192; }\n"
        f"http {{\n  access_log off;\n{temporary}  client_max_body_size 0;\n"
        f"  upstream destination {{ server 127.0.0.1:{place.upstream}; keepalive 1000; }}\n"
        f"  server {{\n    listen 127.0.0.1:{place.port};\n    keepalive_requests 1000000000;\n"
        f"    location {PREFIX}/ {{\n      proxy_pass http://destination/;\n"
        '      proxy_http_version 1.1;\n      proxy_set_header Connection "";\n'
        "      proxy_buffering off;\n      proxy_request_buffering off;\n"
        "      proxy_buffer_size 64k;\n      proxy_buffers 8 64k;\n      client_body_buffer_size 64k;\n"
        "    }\n  }\n}\n"
    )
    return ["nginx", "-e", place.folder / "nginx-error.log", "-c", path]


def _go(place: Place) -> list[str | Path]:
    listen = ["-listen", f"127.0.0.1:{place.port}"]
    return [TOOLS / "reverseproxy", *listen, "-destination", f"http://127.0.0.1:{place.upstream}"]


def _mitmproxy(place: Place) -> list[str | Path]:
    """mitmproxy writing flows to a file.  Bodies above 1 MiB and streams are relayed without being stored."""
    return [
        *(TOOLS / "mitmdump", "--quiet", "--set", f"confdir={place.folder}/mitmproxy"),
        *("--mode", f"reverse:http://127.0.0.1:{place.upstream}"),
        *("--listen-host", "127.0.0.1", "--listen-port", str(place.port)),
        *("--save-stream-file", place.folder / "flows", "--set", "stream_large_bodies=1m"),
        *("--scripts", HERE / "mitmproxy_addon.py"),
    ]


GO = "go"
"""The name of the proxy to which ratios are computed."""

CONTENDERS = (
    Contender(
        "capturing", "Logging Proxy", "Logging Proxy", None, lambda place: ours(configure(place)), whole=False
    ),
    Contender(
        "plain",
        "Logging Proxy, capture off",
        "capture off",
        None,
        lambda place: ours(configure(place, capture=False)),
        whole=False,
    ),
    Contender("nginx", "nginx", "nginx", "nginx", _nginx),
    Contender(GO, "Go ReverseProxy", "Go", str(TOOLS / "reverseproxy"), _go),
    Contender("mitmproxy", "mitmproxy", "mitmproxy", str(TOOLS / "mitmdump"), _mitmproxy),
)


def is_here(contender: Contender) -> bool:
    return contender.program is None or shutil.which(contender.program) is not None
