"""The shipped configuration: what `logging-proxy init` writes, and what applies where there is no file."""

from __future__ import annotations

from importlib.resources import files

NAME = "built-in configuration"
"""Stands for the file's name in messages."""

DEFAULT_FILE = "config.yaml"


def shipped_text() -> str:
    """The shipped configuration, with its comments."""
    return files("logging_proxy.configuration").joinpath("shipped.yaml").read_text("utf-8")
