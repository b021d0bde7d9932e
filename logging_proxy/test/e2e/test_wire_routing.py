"""
Go's recorded answers for ``http.ServeMux``, asked over the wire: configuration, engine, routes, upstream.

The pure matcher meets the same data in `test_routing_conformance`; here a route is only served if the
upstream says so.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from logging_proxy.demo.processes import Program, module
from logging_proxy.test.e2e.case import START_TIMEOUT, EndToEndCase, environment
from logging_proxy.test.test_routing_conformance import _CASES, _ROWS, _observed

Row = dict[str, Any]

STRICTER = {
    "a byte beyond ASCII in the target": lambda ask: re.search(r"[^\x00-\x7f]", ask.target),
    "CONNECT, which a reverse proxy refuses": lambda ask: ask.method == "CONNECT",
    "a Host that is none": lambda ask: re.fullmatch(r"|.*:[^\]0-9]+", ask.host),
    "a path that leaves the destination's": lambda ask: re.search(
        r"^/foo/(%2f\.\.%2f|%2e%2e/)x$", ask.target
    ),
}
"""Where ours answers 400 or 405 on purpose, whatever Go's mux would say."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, and what Go 1.27.3 answers."""

    row: str
    patterns: tuple[str, ...]
    method: str
    target: str
    host: str
    expected: Row

    @property
    def raw(self) -> str:
        return f"{self.method} {self.target} HTTP/1.1\r\nHost: {self.host}\r\nConnection: close\r\n"


def asks() -> Iterator[Ask]:
    """What the data file holds that can be sent: sets without wildcards that Go registers."""
    for row in _ROWS:
        inputs, observed = row["inputs"], _observed(row)
        if observed is None or not observed["registers"] or row.get("in_process_only"):
            continue
        patterns = tuple(inputs.get("patterns", ()))
        if not patterns or any("{" in pattern.replace("{$}", "") for pattern in patterns):
            continue
        target = inputs.get("target") or inputs.get("path") or inputs.get("url")
        requests = inputs.get("requests") or [(inputs.get("method"), target, inputs.get("host", ""))]
        for (method, path, host), expected in zip(requests, observed.get("results", ()), strict=True):
            # Over the wire a Host must be one; these rows only leave it out.
            host = host or ("any.example" if all(pattern[0] == "/" for pattern in patterns) else "")
            yield Ask(row["id"], patterns, method, path, host, expected)


class WireRoutingTests(EndToEndCase):
    if _CASES is None:
        skip = "needs shared/conformance/servemux_cases.json beside the repository"

    def test_recorded_answers(self) -> None:
        """Status, Location, Allow and the route that serves are Go's, request by request."""
        wanted = list(asks())
        self.assertGreater(len(wanted), 140)
        sets = list(dict.fromkeys(ask.patterns for ask in wanted))
        port = self.start_trees(sets)
        stricter = 0
        for ask in wanted:
            number = sets.index(ask.patterns)
            answer = request(port, ask.raw + f"X-Set: {number}\r\n\r\n", ask.patterns)
            if any(holds(ask) for holds in STRICTER.values()):
                self.assertIn(answer["status"], (400, 405), ask)
                stricter += 1
            else:
                self.assertEqual(answer, ask.expected, ask)
        self.assertLess(stricter, 25)

    def start_trees(self, sets: list[tuple[str, ...]]) -> int:
        """The port of a listener with a tree for each set."""
        path = self.folder / "sets.json"
        path.write_text(json.dumps(sets))
        output = self.folder / "trees.log"
        command = module("logging_proxy.test.e2e.many_trees", str(path))
        program = Program("the trees", command, output, folder=self.folder, environment=environment())
        self.stack.enter_context(program)
        program.wait_until(lambda: output.read_bytes().endswith(b"\n"), START_TIMEOUT)
        return int(output.read_text())


def request(port: int, raw: str, patterns: tuple[str, ...]) -> Row:
    """The answer to raw bytes, in the data file's words."""
    with socket.create_connection(("127.0.0.1", port), timeout=START_TIMEOUT) as connection:
        connection.sendall(raw.encode())
        data = b""
        while piece := connection.recv(65536):
            data += piece
    line, *fields = data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    answer: Row = {"status": int(line.split()[1])}
    answer |= {name: headers[name] for name in ("location", "allow") if name in headers}
    if "x-target" in headers:
        answer["pattern"] = patterns[int(headers["x-target"].split("/")[2])]
    return answer
