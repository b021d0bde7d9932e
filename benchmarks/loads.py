"""Puts load on a proxy with wrk, curl and the load generator in `go/load`, and parses their output."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contenders import HERE, PREFIX, TOOLS
from benchmarks.processes import Trouble, run

GIB = 1 << 30
UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 6e7, "h": 3.6e9}


@dataclass(frozen=True, slots=True)
class Work:
    """The units of work done, and the figures of the load generator."""

    units: int
    figures: dict[str, float]


def require_tools() -> None:
    """Raise `Trouble`, saying what to install, if a tool is missing."""
    missing = [tool for tool in ("wrk", "curl") if shutil.which(tool) is None]
    if missing:
        raise Trouble(f"{' and '.join(missing)} missing: apt-get install wrk curl nginx-light")
    if not all((TOOLS / name).exists() for name in ("upstream", "reverseproxy", "load")):
        raise Trouble("the Go programs are not built: 'make bench' does it")


def url(port: int, path: str) -> str:
    return f"http://127.0.0.1:{port}{PREFIX}{path}"


def post(port: int, processor: int, connections: int, seconds: int) -> Work:
    """Small JSON POSTs, sequentially on each of `connections` connections."""
    load = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(HERE / "post.lua")]
    return read_wrk(run([*load, url(port, "/v1/chat/completions")], processor))


def read_wrk(output: str) -> Work:
    """Parse the output of `wrk --latency`."""
    found = {
        name: re.search(pattern, output, re.MULTILINE)
        for name, pattern in (
            ("units", r"(\d+) requests in"),
            ("requests_s", r"^Requests/sec:\s+([\d.]+)"),
            ("p50_us", r"^\s+50%\s+([\d.]+)(\w+)"),
            ("p99_us", r"^\s+99%\s+([\d.]+)(\w+)"),
        )
    }
    figures: dict[str, float] = {}
    for name, match in found.items():
        if match is None:
            raise Trouble(f"wrk has not said {name}:\n{output}")
        figures[name] = float(match[1]) * (UNITS[match[2]] if name.endswith("_us") else 1)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    errors = int(refused[1]) if refused else 0
    errors += sum(map(int, broken.groups())) if broken else 0
    return Work(int(figures.pop("units")), {**figures, "errors": float(errors)})


def sse(port: int, processor: int, streams: int, events: int, gap: str) -> Work:
    """Server-sent events on `streams` connections; `p50_us` and `p99_us` are delays of single events."""
    where = url(port, f"/v1/stream?n={events}&gap={gap}")
    figures = _load(processor, "sse", "-url", where, "-streams", str(streams))
    units = int(figures.pop("events"))
    figures["events_s"] = units / figures.pop("seconds")
    return Work(units, figures)


def bodies(port: int, processor: int, size: int, requests: int, up: bool, connections: int = 4) -> Work:
    """Bodies of one size; the unit is a byte."""
    way = ["-url", url(port, "/sink"), "-up"] if up else ["-url", url(port, f"/bytes/{size}")]
    amount = ["-size", str(size), "-requests", str(requests), "-connections", str(connections)]
    return Work(size * requests, _load(processor, "bodies", *way, *amount))


def _load(processor: int, *arguments: str) -> dict[str, float]:
    output = run([TOOLS / "load", *arguments], processor)
    try:
        figures: dict[str, float] = json.loads(output)
    except ValueError:
        raise Trouble(f"load {arguments[0]} has failed: {output}") from None
    return figures


def down(port: int, processor: int) -> Work:
    """1 GiB from the upstream; the unit is a MiB."""
    words = ("%{size_download}", "%{time_total}", "%{http_code}")
    return _curl(port, processor, f"/bytes/{GIB}", " ".join(words), "--output", "/dev/null")


def up(port: int, processor: int, blob: Path) -> Work:
    """1 GiB to the upstream, which responds with the received size; the unit is a MiB."""
    if not blob.exists():
        with blob.open("wb") as file:
            file.truncate(GIB)
    body = ["--request", "POST", "--upload-file", str(blob), "--header", "Expect:"]
    return _curl(port, processor, "/sink", " %{time_total} %{http_code}", *body)


def _curl(port: int, processor: int, path: str, words: str, *arguments: str) -> Work:
    output = run(["curl", "--silent", "--write-out", words, *arguments, url(port, path)], processor)
    match = re.fullmatch(r"(\d+) ([\d.]+) (\d+)", output)
    size, seconds, status = (int(match[1]), float(match[2]), match[3]) if match else (0, 0.0, "")
    mib = size / (1 << 20)
    whole = size == GIB and status == "200"
    figures = {"mib_s": mib / seconds if seconds else 0.0, "errors": 0.0 if whole else 1.0}
    return Work(round(mib), figures)
