"""The names of the files that a capture has: the one place that knows how they are built."""

from __future__ import annotations

import re

BINARY, METADATA = ".bin", "_metadata.json"

CAPTURE_FILE = re.compile(
    r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d\.\d{3}_([0-9a-f]{8})(-\d{1,4})?_(request|response)(\.bin|_metadata\.json)",
    re.ASCII,
)
"""Start, first 8 digits of the id, a number where two names would be equal, half, and kind of file."""


def binary_name(metadata_name: str) -> str:
    """The name of the `.bin` that a metadata file describes."""
    return metadata_name.removesuffix(METADATA) + BINARY


def metadata_name(binary_name: str) -> str:
    """The name of the metadata file beside a `.bin`."""
    return binary_name.removesuffix(BINARY) + METADATA


def short_id(name: str) -> str | None:
    """The first 8 digits of the id in the name of a capture's file; None for any other name."""
    match = CAPTURE_FILE.fullmatch(name)
    return match[1] if match else None
