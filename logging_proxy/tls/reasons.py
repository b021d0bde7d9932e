"""What OpenSSL says when something fails."""

from __future__ import annotations

from OpenSSL import SSL


def reasons(error: SSL.Error) -> list[str]:
    """Its reasons in their order; none where it gives none, or where only the socket failed."""
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return [str(entry[-1]) for entry in entries if entry]
