"""An exchange that has been stored, as those who index and show it are told of it."""

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
    """The bytes of small bodies, so that nobody need read them again."""
    again: bool = False
    """Whether its files were there already: it was read from the spool once more."""
