"""A reverse proxy that keeps every HTTP request and response byte for byte."""

from logging_proxy._version import __version__

__all__ = ["__version__"]
