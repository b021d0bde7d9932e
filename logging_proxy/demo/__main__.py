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
from pathlib import Path

from logging_proxy.configuration import ConfigurationError
from logging_proxy.demo.captures import Half, describe, read_captures, shown_head, wait_for_captures
from logging_proxy.demo.conversation import MODEL, TURNS, Turn
from logging_proxy.demo.processes import Program, ProgramError, is_listening, module
from logging_proxy.demo.scene import Address, Obstacle, Scene, check, read_scene

START_TIMEOUT = 60.0
"""Seconds.  The model loads in one, but a busy machine may read its 93 MB from a slow disk."""


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
    print(f"\n== The head of {half.path.name}\n{indented(shown_head(half))}")
    print("\n   and of its metadata")
    for key in ("outcome", "bytes", "sha256", "started_at", "completed_at", "processing_time_ms"):
        print(f"   {key}: {metadata.get(key)}")


def announce(what: str, address: Address) -> None:
    """Say that a program starts; the line goes on when it is ready."""
    print(f"{what} on {address[0]}:{address[1]} ... ", end="", flush=True)


def perform(scene: Scene, folder: Path) -> None:
    """The demonstration itself; leaving it, in whatever way, ends both programs."""
    known = {capture.request.path for capture in read_captures(scene.log_dir)}
    with start_model(scene, folder) as server:
        announce(f"llama.cpp with {MODEL}", scene.model)
        server.wait_until(lambda: model_is_ready(*scene.model), START_TIMEOUT)
        print("ready")
        with start_proxy(scene, folder) as proxy:
            announce(f"The proxy with {scene.config}", scene.proxy)
            proxy.wait_until(lambda: is_listening(*scene.proxy), START_TIMEOUT)
            print("ready")
            for turn in TURNS:
                converse(turn, scene.route)
            show_captures(scene, known)
            status = proxy.stop()
    if status != 0:
        raise ProgramError(f"The proxy ended with status {status}:\n{proxy.last_words()}")
    print("\n== Both programs have ended.")


def prepare(config: Path) -> Scene:
    """The scene, with nothing in its way; `Obstacle` otherwise."""
    try:
        scene = read_scene(config)
    except ConfigurationError as error:
        raise Obstacle(str(error)) from None
    check(scene)
    return scene


def main() -> int:
    """The exit status: 0 if everything went as it should."""
    parser = argparse.ArgumentParser(prog="python -m logging_proxy.demo")
    parser.add_argument("--config", type=Path, default=Path("config.yaml"))
    # SIGTERM as an exception, so that it too leaves the contexts that end the children.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        scene = prepare(parser.parse_args().config)
        with tempfile.TemporaryDirectory(prefix="logging-proxy-demo-") as folder:
            perform(scene, Path(folder))
    except KeyboardInterrupt:
        return 130
    except Obstacle as error:
        print(f"The demonstration cannot start: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        # Whatever an SDK raises: the person wants to know what went wrong, not where.
        print(f"\nThe demonstration failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
