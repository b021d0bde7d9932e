"""The configuration file, read once into frozen values."""

from __future__ import annotations

from logging_proxy.configuration.options import (
    Configuration,
    HttpClientOptions,
    LoggingOptions,
    LoggingServerOptions,
    RetentionOptions,
    RouteOptions,
    ServerOptions,
    ServerTLS,
    UpstreamTLS,
)
from logging_proxy.configuration.problems import ConfigurationError, Problem
from logging_proxy.configuration.reading import load_configuration, read_configuration
from logging_proxy.configuration.secret import Secret

__all__ = [
    "Configuration",
    "ConfigurationError",
    "HttpClientOptions",
    "LoggingOptions",
    "LoggingServerOptions",
    "Problem",
    "RetentionOptions",
    "RouteOptions",
    "Secret",
    "ServerOptions",
    "ServerTLS",
    "UpstreamTLS",
    "load_configuration",
    "read_configuration",
]
