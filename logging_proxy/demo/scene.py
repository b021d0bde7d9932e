"""The demonstration's settings, taken from the configuration, and what may prevent it from starting."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from logging_proxy.configuration import load_configuration
from logging_proxy.demo import model_server
from logging_proxy.demo.processes import is_free

ROUTE = "lmstudio"

Address = tuple[str, int]


class Obstacle(Exception):
    """The demonstration cannot start; the message is for the user."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The addresses and directories used in the demonstration."""

    config: Path
    proxy: Address
    logging_server: Address
    model: Address
    route: str
    """The URL that clients use in place of the model server's, ending in a slash."""
    log_dir: Path


def read_scene(path: Path) -> Scene:
    """Read the scene from the configuration; raises `ConfigurationError` if the file is invalid."""
    config = load_configuration(str(path), os.environ)
    routes = [route for route in config.routes if route.name == ROUTE]
    if not routes:
        raise Obstacle(f"{path} has no route {ROUTE}, where the model server would be")
    (route,) = routes
    server, keeper = config.server, config.logging_server
    return Scene(
        config=path,
        proxy=(server.host, server.port),
        logging_server=(keeper.host, keeper.port),
        model=(route.destination.host, route.destination.port),
        route=f"http://{server.host}:{server.port}{route.pattern.text}",
        log_dir=Path(keeper.log_dir),
    )


def check(scene: Scene) -> None:
    """Raise `Obstacle` if a package is missing or a port is in use."""
    for package in ("openai", "anthropic"):
        if find_spec(package) is None:
            raise Obstacle(f"the package {package} is not installed")
    missing = model_server.missing()
    if missing is not None:
        raise Obstacle(missing)
    needed = (
        ("the model server", scene.model),
        ("the proxy", scene.proxy),
        ("the logging server", scene.logging_server),
    )
    for program, (host, port) in needed:
        if not is_free(host, port):
            raise Obstacle(f"{program} needs {host}:{port}, which another program uses")
