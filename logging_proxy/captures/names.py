"""The names of the files that a capture has."""

from __future__ import annotations

import re

METADATA = "_metadata.json"

CAPTURE_FILE = re.compile(
    r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d\.\d{3}_[0-9a-f]{8}(-\d{1,4})?_(request|response)(\.bin|_metadata\.json)",
    re.ASCII,
)
"""Start, the first 8 digits of the id, a number where two would have one name, and which file it is."""
