"""
The demonstration: `python -m logging_proxy.demo --config config.yaml`.

It starts a llama.cpp server with a small model at the destination of the route `lmstudio`, starts the
proxy with the given configuration, talks to the model through the proxy with real SDKs, shows the
captures, and stops both programs.
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
"""Seconds.  The model loads quickly, but its file of 93 MB may have to be read from a slow disk."""


def model_is_ready(host: str, port: int) -> bool:
    """Whether the model is loaded.  Until then the server answers 503."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{host}:{port}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def start_model(scene: Scene, folder: Path) -> Program:
    """The model server's program; it starts when the context is entered."""
    command = module("logging_proxy.demo.model_server", str(scene.model[1]))
    return Program("The model server", command, folder / "model.log")


def start_proxy(scene: Scene, folder: Path) -> Program:
    """The proxy's program; it starts when the context is entered, and may need time to stop."""
    config = scene.config.resolve()
    command = module(
        "logging_proxy.demo.tether", "-n", "--pidfile=", "logging-proxy", "--config", str(config)
    )
    return Program("The proxy", command, folder / "proxy.log", folder=config.parent, patience=40)


def converse(turn: Turn, route: str) -> None:
    """Ask one question, and print the answer while it is received."""
    print(f"\n== {turn.title}\n   > {turn.question}\n   ", end="", flush=True)
    begin = time.monotonic()
    pieces = 0
    for piece in turn.ask(route, turn.question):
        pieces += piece != ""
        print(piece.replace("\n", "\n   "), end="", flush=True)
    print(f"\n   ({pieces} piece{'s' * (pieces != 1)}, {time.monotonic() - begin:.1f} s)", flush=True)


def indented(text: str) -> str:
    """`text` with every line indented."""
    return "\n".join(f"   {line}" for line in text.splitlines())


def show_captures(scene: Scene, known: set[Path]) -> None:
    """Print the captures of this demonstration; `known` are the earlier captures."""
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
    """Print the head of a captured message, and a part of its metadata."""
    metadata = half.metadata
    print(f"\n== The head of {half.path.name}\n{indented(shown_head(half))}")
    print("\n   and of its metadata")
    for key in ("outcome", "bytes", "sha256", "started_at", "completed_at", "processing_time_ms"):
        print(f"   {key}: {metadata.get(key)}")


def announce(what: str, address: Address) -> None:
    """Print that a program is being started; "ready" is added to the line later."""
    print(f"{what} on {address[0]}:{address[1]} ... ", end="", flush=True)


def perform(scene: Scene, folder: Path) -> None:
    """Run the demonstration.  Both programs are stopped when it ends, also on errors."""
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
    """Read the scene and check that it can be played; raises `Obstacle`."""
    try:
        scene = read_scene(config)
    except ConfigurationError as error:
        raise Obstacle(str(error)) from None
    check(scene)
    return scene


def main() -> int:
    """Run the demonstration and return the exit status: 0 on success."""
    parser = argparse.ArgumentParser(prog="python -m logging_proxy.demo")
    parser.add_argument("--config", type=Path, default=Path("config.yaml"))
    # Raise an exception on SIGTERM, so that the contexts are left and stop the child processes.
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
        # The SDKs raise many kinds of errors; the message helps the user more than a traceback.
        print(f"\nThe demonstration failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
