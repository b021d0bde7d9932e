"""curl and Node's fetch: the same bytes through the proxy as without it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from dataclasses import dataclass

from twisted.trial.unittest import SkipTest

from logging_proxy.demo.captures import wait_for_captures
from logging_proxy.test.e2e.case import EndToEndCase
from logging_proxy.test.e2e.mirror import SCRIPTS, Mirror, Seen, Sent

TIMEOUT = 120.0

BODY = bytes(range(256)) * 300
MANY = tuple(f"-HX-Many-{number % 7}: {number}" for number in range(60))
EXPECT = ("-HExpect: 100-continue", "--expect100-timeout", "50")


@dataclass(frozen=True, slots=True)
class Run:
    """A call of curl: the path it asks for, its options, and what it reads from a pipe."""

    path: str
    options: tuple[str, ...] = ()
    input: bytes = b""


RUNS = (
    Run("/echo"),
    Run("/echo?q=%2F%zz&&", ("-0",)),
    Run("/chunks", ("-0",)),
    Run("/chunks", ("--raw", "-HTE: trailers")),
    Run("/closed"),
    Run("/closed", ("-0",)),
    Run("/headed", ("-I",)),
    Run("/headed", ("-I", "-0")),
    Run("/ranged", ("-r", "100-4999")),
    Run("/coded", ("--compressed",)),
    Run("/coded", ("-HAccept-Encoding: gzip",)),
    Run("/odd", MANY),
    Run("/odd", ("-HX-oDD:  two  blanks\t", "-HX-Empty;", "-HACCEPT: x", "-A", "", "-HX-Latin: caf\udce9")),
    Run("/echo", ("-HConnection: keep-alive, X-Drop", "-HX-Drop: 1", "-HKeep-Alive: 5", "-b", "a=1; b=2")),
    Run("/echo", ("--data-binary", "@-"), BODY),
    Run("/echo", ("-0", "--data-binary", "@-"), BODY),
    Run("/echo", ("-T", "-"), BODY * 5),
    Run("/echo", ("-T", "-", "-X", "POST", "-HExpect:"), BODY),
    Run("/echo", ("-T", "-", *EXPECT), BODY * 20),
    Run("/echo", ("--data-binary", "@-", *EXPECT), BODY),
    Run("/echo", ("-T", "-", "-HContent-Type: a/b"), b""),
    Run("/empty", ("-X", "DELETE")),
    Run("/same", ('-HIf-None-Match: "v1"',)),
    Run("/moved"),
    Run("/hinted"),
    Run("/echo", ("-X", "BREW")),
    Run("/nothing-here"),
)
SLOW = 45.0
"""Seconds: who took longer has waited for a `100 Continue` that did not come."""


class ProgramTests(EndToEndCase):
    def setUp(self) -> None:
        super().setUp()
        self.upstream = Mirror(SCRIPTS)
        self.stack.enter_context(self.upstream)
        self.config = self.configure(self.upstream.port)
        self.direct = f"http://127.0.0.1:{self.upstream.port}"
        self.through = f"http://127.0.0.1:{self.config.port}/up"

    def assert_all_complete(self, count: int) -> None:
        """So many captures, each of a whole exchange."""
        captures = wait_for_captures(self.config.log_dir, count, timeout=60)
        self.assertEqual([capture.outcome for capture in captures], ["complete"] * count)


class CurlTests(ProgramTests):
    def setUp(self) -> None:
        if shutil.which("curl") is None:
            raise SkipTest("curl is not installed")
        super().setUp()
        self.start_proxy(self.config)

    def curl(self, run: Run, base: str, *more: str) -> tuple[bytes, float]:
        """What curl printed, the heads included, and how long it took."""
        command = ["curl", "-q", "-sS", "-i", "--noproxy", "", *run.options, *more, base + run.path]
        start = time.monotonic()
        done = subprocess.run(command, input=run.input, capture_output=True, timeout=TIMEOUT)
        self.assertEqual(done.returncode, 0, f"{command}: {done.stderr!r}")
        return done.stdout, time.monotonic() - start

    def test_same_bytes(self) -> None:
        """Every way of calling curl prints the same and arrives as the same request."""
        for run in RUNS:
            there, _ = self.curl(run, self.direct)
            (received,) = self.upstream.taken()
            here, took = self.curl(run, self.through)
            (relayed,) = self.upstream.taken()
            self.assertEqual(Sent.of(relayed), Sent.of(received), f"{run}: what the upstream got")
            self.assertEqual(shown(here), shown(there), f"{run}: what curl printed")
            self.assertLess(took, SLOW, run)
        self.assert_all_complete(len(RUNS))

    def test_expectation_reaches_upstream(self) -> None:
        """`Expect: 100-continue` is passed on, and the upstream's 100 comes back before the body is sent."""
        printed, _ = self.curl(Run("/echo", ("-T", "-", *EXPECT), BODY), self.through)
        (relayed,) = self.upstream.taken()
        self.assertIn((b"Expect", b"100-continue"), relayed.headers)
        self.assertTrue(printed.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), printed[:99])

    def test_absolute_form(self) -> None:
        """A curl that takes us for its proxy sends absolute-form, and reaches the route of that path."""
        self.curl(Run("/echo?a=%2F"), self.direct)
        (received,) = self.upstream.taken()
        self.curl(Run("/echo?a=%2F"), self.through, "-x", f"http://127.0.0.1:{self.config.port}")
        (relayed,) = self.upstream.taken()
        self.assertEqual(Sent.of(relayed), Sent.of(received))

    def test_connection_kept(self) -> None:
        """Several URLs in one call go over one connection to the proxy, in order."""
        count = 4
        run = Run(f"/echo?[1-{count}]", ("-w", "%{num_connects} %{http_code}\\n", "-o", "/dev/null"))
        printed, _ = self.curl(run, self.through)
        self.assertEqual(printed.splitlines(), [b"1 200"] + [b"0 200"] * (count - 1))
        targets = [received.target for received in self.upstream.taken()]
        self.assertEqual(targets, [b"/echo?%d" % number for number in range(1, count + 1)])


class NodeTests(ProgramTests):
    def test_fetch(self) -> None:
        """Node's fetch: GET, bodies with and without a length, streams, coded bodies, duplicates."""
        if shutil.which("node") is None:
            raise SkipTest("node is not installed")
        self.start_proxy(self.config)
        there = self.fetch(self.direct)
        received = list(map(Sent.of, self.upstream.taken()))
        here = self.fetch(self.through)
        relayed = list(map(Sent.of, self.upstream.taken()))
        self.assertEqual(len(there), len(received))
        self.assertEqual(here, there)
        self.assertEqual(relayed, received)
        self.assert_all_complete(len(there))

    def fetch(self, base: str) -> list[object]:
        """What the script saw."""
        command = ["node", "--input-type=module", "-", base]
        done = subprocess.run(command, input=FETCH.encode(), capture_output=True, timeout=TIMEOUT)
        self.assertEqual(done.returncode, 0, done.stderr.decode("utf-8", "replace"))
        seen: list[object] = json.loads(done.stdout)
        return seen


def shown(printed: bytes) -> tuple[list[bytes], Seen]:
    """What curl printed: interim heads, and the answer without what belongs to the connection."""
    heads = []
    while True:
        head, _, printed = printed.partition(b"\r\n\r\n")
        heads.append(head)
        if not re.match(rb"HTTP/1\.[01] 1\d\d", head):
            break
    line, *fields = heads[-1].split(b"\r\n")
    pairs = [(name, value) for name, _, value in (field.partition(b":") for field in fields)]
    return [*heads[:-1], line], Seen.of(int(line.split()[1]), pairs, printed)


FETCH = """
import { createHash } from 'node:crypto';
const base = process.argv[2];
const pieces = ['one', 'x'.repeat(40000), '\\r\\n0\\r\\n\\r\\n'];
const stream = () => new ReadableStream({
  start(c) { for (const p of pieces) c.enqueue(new TextEncoder().encode(p)); c.close(); },
});
const asks = [
  ['/echo?a=%2F&&b'],
  ['/echo', { method: 'POST', body: JSON.stringify({ a: 'é' }), headers: { 'X-oDD': '1' } }],
  ['/echo', { method: 'PUT', body: new Uint8Array(70000).map((_, i) => i) }],
  ['/echo', { method: 'POST', body: stream(), duplex: 'half' }],
  ['/echo', { method: 'POST', body: new URLSearchParams({ a: 'b c' }) }],
  ['/headed', { method: 'HEAD' }], ['/coded'], ['/ranged', { headers: { Range: 'bytes=1-999' } }],
  ['/odd', { headers: [['X-Many', '1'], ['x-many', '2'], ['Authorization', 'Bearer x']] }],
  ['/chunks'], ['/closed'], ['/empty', { method: 'DELETE' }], ['/same'],
  ['/moved', { redirect: 'manual' }], ['/hinted'], ['/nothing-here'],
];
const own = new Set(['connection', 'keep-alive', 'transfer-encoding']);
const seen = [];
for (const [path, options] of asks) {
  const answer = await fetch(base + path, options);
  const body = new Uint8Array(await answer.arrayBuffer());
  const headers = [...answer.headers].filter(([name]) => !own.has(name));
  const hash = createHash('sha256').update(body).digest('hex');
  seen.push([path, answer.status, answer.statusText, headers, body.length, hash]);
}
console.log(JSON.stringify(seen));
"""
