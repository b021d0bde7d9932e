"""What DNS asks of a host's name, whatever characters it has."""

from __future__ import annotations

LONGEST_LABEL, LONGEST_NAME = 63, 253
"""RFC 1035 §2.3.4; a final dot does not count."""


def fault_of(host: str) -> str | None:
    """
    Why `host` can be no name, to stand behind a subject; None if it can.

    Only lengths count: underscores and what IDNA would not have are names that people use.
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
