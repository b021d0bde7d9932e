"""The names of a capture's files, and of runs: the one place that knows how they are built."""

from __future__ import annotations

import re

BINARY, METADATA = ".bin", "_metadata.json"

CAPTURE_FILE = re.compile(
    r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d\.\d{3}_([0-9a-f]{8})(-\d{1,4})?_(request|response)(\.bin|_metadata\.json)",
    re.ASCII,
)
"""Start, first 8 digits of the id, a number where two names would be equal, half, and kind of file."""


_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)

RUN_NAME_FORM = "1 to 64 letters, digits, dots, dashes or underscores"


def is_run_name(name: str) -> bool:
    """Whether a run may have this name; it is safe in a file name, in a shell and on a terminal."""
    return _RUN.fullmatch(name) is not None


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
