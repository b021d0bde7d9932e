"""
The demonstration: `python -m logging_proxy.demo --config config.yaml`.

It starts a llama.cpp server with a small model where the route `lmstudio` points and the proxy with the
given configuration, talks to the model through the proxy with real SDKs, shows what the proxy kept, and
ends what it started.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from logging_proxy.demo import model_server
from logging_proxy.demo.captures import Half, describe, read_captures, wait_for_captures
from logging_proxy.demo.conversation import MODEL, TURNS, Turn
from logging_proxy.demo.processes import Program, ProgramError, is_free, is_listening, module

ROUTE = "lmstudio"
START_TIMEOUT = 60.0
"""Seconds.  The model loads in one, but a busy machine may read its 93 MB from a slow disk."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What the demonstration needs of the configuration."""

    config: Path
    proxy: tuple[str, int]
    logging_server: tuple[str, int]
    model: tuple[str, int]
    route: str
    log_dir: Path


def read_scene(config: Path) -> Scene:
    """The addresses of the configuration file, which the proxy itself checks."""
    tree = yaml.safe_load(config.read_text("utf-8"))
    server, keeper, route = tree["server"], tree["logging_server"], tree["routes"][ROUTE]
    destination = urlsplit(route["destination"])
    return Scene(
        config=config,
        proxy=(server["host"], server["port"]),
        logging_server=(keeper["host"], keeper["port"]),
        model=(destination.hostname or "127.0.0.1", destination.port or 80),
        route=f"http://{server['host']}:{server['port']}{route['pattern']}",
        log_dir=config.parent / keeper["log_dir"],
    )


def obstacle(scene: Scene) -> str | None:
    """Why the demonstration cannot start, in one line, or None."""
    for package in ("openai", "anthropic"):
        if find_spec(package) is None:
            return f"the package {package} is not installed: 'make demo' installs it"
    missing = model_server.missing()
    if missing is not None:
        return f"{missing}: 'make demo' installs it"
    for what, (host, port) in (
        ("the model server", scene.model),
        ("the proxy", scene.proxy),
        ("the logging server", scene.logging_server),
    ):
        if not is_free(host, port):
            return f"{host}:{port}, where {what} has to listen, is in use by another program: end that first"
    return None


def model_is_ready(host: str, port: int) -> bool:
    """Whether the model is loaded; until then the server answers 503."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{host}:{port}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def start_model(scene: Scene, folder: Path) -> Program:
    """The model server, not yet entered."""
    command = module("logging_proxy.demo.model_server", str(scene.model[1]))
    return Program("The model server", command, folder / "model.log")


def start_proxy(scene: Scene, folder: Path) -> Program:
    """The proxy, not yet entered; it may take its time to end, for it finishes what is in flight."""
    config = scene.config.resolve()
    command = module(
        "logging_proxy.demo.tether", "-n", "--pidfile=", "logging-proxy", "--config", str(config)
    )
    return Program("The proxy", command, folder / "proxy.log", folder=config.parent, patience=40)


def converse(turn: Turn, route: str) -> None:
    """Put one question and print the answer as it comes."""
    print(f"\n== {turn.title}\n   > {turn.question}\n   ", end="", flush=True)
    begin = time.monotonic()
    pieces = 0
    for piece in turn.ask(route, turn.question):
        pieces += piece != ""
        print(piece.replace("\n", "\n   "), end="", flush=True)
    print(f"\n   ({pieces} piece{'s' * (pieces != 1)}, {time.monotonic() - begin:.1f} s)", flush=True)


def indented(text: str) -> str:
    """`text` with every line moved in."""
    return "\n".join(f"   {line}" for line in text.splitlines())


def show_captures(scene: Scene, known: set[Path]) -> None:
    """Print what the proxy kept of this demonstration; `known` are the captures that were there before."""
    captures = wait_for_captures(
        scene.log_dir, len(TURNS), wanted=lambda capture: capture.request.path not in known
    )
    if len(captures) < len(TURNS):
        raise ProgramError(f"{len(captures)} captures in {scene.log_dir}, {len(TURNS)} were expected")
    print(f"\n== What the proxy kept, in {scene.log_dir}")
    for capture in captures:
        print(f"\n{indented(describe(capture))}")
    show_half(captures[0].request)
    show_half(captures[0].response or captures[0].request)


def show_half(half: Half) -> None:
    """Print the head of a capture's bytes, and what its metadata says of the body and the times."""
    metadata = half.metadata
    print(f"\n== The head of {half.path.name}\n{indented(half.head.decode('latin-1'))}")
    print("\n   and of its metadata")
    for key in ("outcome", "bytes", "sha256", "started_at", "completed_at", "processing_time_ms"):
        print(f"   {key}: {metadata.get(key)}")


def perform(scene: Scene, folder: Path) -> None:
    """The demonstration itself; leaving it, in whatever way, ends both programs."""
    known = {capture.request.path for capture in read_captures(scene.log_dir)}
    with start_model(scene, folder) as server:
        print(f"llama.cpp with {MODEL} on {scene.model[0]}:{scene.model[1]} ...", end="", flush=True)
        server.wait_until(lambda: model_is_ready(*scene.model), START_TIMEOUT)
        print(
            f" ready\nThe proxy with {scene.config} on {scene.proxy[0]}:{scene.proxy[1]} ...",
            end="",
            flush=True,
        )
        with start_proxy(scene, folder) as proxy:
            proxy.wait_until(lambda: is_listening(*scene.proxy), START_TIMEOUT)
            print(" ready", flush=True)
            for turn in TURNS:
                converse(turn, scene.route)
            show_captures(scene, known)
            status = proxy.stop()
    print(f"\n== Both programs have ended, the proxy with status {status}.")


def main() -> int:
    """The exit status: 0 if everything went as it should."""
    parser = argparse.ArgumentParser(prog="python -m logging_proxy.demo")
    parser.add_argument("--config", type=Path, default=Path("config.yaml"))
    scene = read_scene(parser.parse_args().config)
    problem = obstacle(scene)
    if problem is not None:
        print(f"The demonstration cannot start: {problem}.", file=sys.stderr)
        return 1
    # SIGTERM as an exception, so that it too leaves the contexts that end the children.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="logging-proxy-demo-") as folder:
        try:
            perform(scene, Path(folder))
        except KeyboardInterrupt:
            return 130
        except Exception as error:
            print(f"\nThe demonstration failed: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
