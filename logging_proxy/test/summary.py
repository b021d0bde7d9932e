"""
Runs trial and repeats its result as the last line, in the form that any reader of test logs knows.

    python -m logging_proxy.test.summary --jobs=2 logging_proxy

Everything after the module's name goes to trial, whose output passes through as it comes.  The exit
status is trial's own, but that a run without a single test is a failed one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass

RESULT = re.compile(rb"^(?:PASSED|FAILED)(?: \(([a-zA-Z]+=\d+(?:, [a-zA-Z]+=\d+)*)\))?$")


@dataclass(frozen=True, slots=True)
class Summary:
    """How many tests ended which way."""

    passed: int
    failed: int
    skipped: int

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def parse_result(line: bytes) -> Summary | None:
    """The numbers in trial's last line, ``FAILED (skips=1, errors=2, successes=3)``; None for others."""
    match = RESULT.match(line.rstrip())
    if match is None:
        return None
    pairs = (part.split(b"=") for part in (match[1] or b"").split(b", ") if part)
    counts = {name.decode(): int(number) for name, number in pairs}
    return Summary(
        passed=counts.get("successes", 0),
        failed=sum(counts.get(name, 0) for name in ("failures", "errors", "unexpectedSuccesses")),
        skipped=counts.get("skips", 0) + counts.get("expectedFailures", 0),
    )


def conclude(summary: Summary | None, status: int) -> tuple[Summary, int]:
    """
    What to print and to exit with after trial ended with `status`.

    A trial that died without a word, or that failed without naming a test, counts as one failure.
    """
    seen = summary or Summary(0, 0, 0)
    if status == 0 and seen.passed + seen.skipped == 0:
        status = 1
    if status != 0 and seen.failed == 0:
        seen = Summary(seen.passed, 1, seen.skipped)
    return seen, status


def main(arguments: list[str]) -> int:
    """Run trial with `arguments`, and print its output and the summary; the exit status is returned."""
    command = [sys.executable, "-m", "twisted.trial", *arguments]
    environment = dict(os.environ, PYTHONUNBUFFERED="1")
    summary = None
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
    ) as trial:
        assert trial.stdout is not None
        for line in trial.stdout:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
            summary = parse_result(line) or summary
    summary, status = conclude(summary, trial.returncode)
    print(f"\n{summary}", flush=True)
    return status


if __name__ == "__main__":
    # Killed by a signal, trial's status is negative: exit as a shell would.
    status = main(sys.argv[1:])
    sys.exit(status if status >= 0 else 128 - status)
