"""An exchange that has been stored, as it is handed to the index and the live view."""

from __future__ import annotations

from typing import NamedTuple

from logging_proxy.captures.exchanges import Exchange


class Stored(NamedTuple):
    """An exchange whose files are all there."""

    exchange: Exchange
    request_file: str
    response_file: str
    request_body: bytes | None = None
    response_body: bytes | None = None
    """The bytes of small bodies, so that the index need not read the files."""
    replayed: bool = False
    """Whether the files existed already, because the spool was replayed after a crash."""
