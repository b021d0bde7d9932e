"""The rules of DNS for host names, whatever characters they contain."""

from __future__ import annotations

LONGEST_LABEL, LONGEST_NAME = 63, 253
"""RFC 1035 §2.3.4; a final dot does not count."""


def fault_of(host: str) -> str | None:
    """
    Why `host` cannot be a name, as the predicate of a sentence; None if it can.

    Only lengths are checked: underscores and characters that IDNA excludes are used in practice.
    """
    name = host.removesuffix(".")
    labels = name.split(".")
    if "" in labels:
        return "has an empty label"
    if any(len(label) > LONGEST_LABEL for label in labels):
        return f"has a label of more than {LONGEST_LABEL} characters"
    if len(name) > LONGEST_NAME:
        return f"has more than {LONGEST_NAME} characters"
    return None
