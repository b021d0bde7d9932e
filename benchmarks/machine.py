"""Describes the machine of a result: processor, kernel and versions of the programs."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from datetime import date
from importlib.metadata import version
from pathlib import Path

from benchmarks.contenders import TOOLS


def describe() -> dict[str, str]:
    """The shown names and values; programs that are not installed are omitted."""
    found = {
        "date": date.today().isoformat(),
        "processor": _processor(),
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "Twisted": version("twisted"),
        "Go": _word(r"go(\d[\d.]*)", TOOLS / "go", "version"),
        "nginx": _word(r"nginx/([\d.]+)", "nginx", "-v"),
        "mitmproxy": _word(r"Mitmproxy: ([\d.]+)", TOOLS / "mitmdump", "--version"),
    }
    return {name: value for name, value in found.items() if value}


def _processor() -> str:
    match = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return match[1].strip() if match else platform.machine()


def _word(pattern: str, *command: str | Path) -> str:
    """The group that the pattern finds in a program's output; empty if the program is not installed."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    match = re.search(pattern, done.stdout)
    return match[1] if match else ""
