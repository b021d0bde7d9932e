"""The reasons that OpenSSL or a transport gives for a failure."""

from __future__ import annotations

from OpenSSL import SSL
from twisted.python.failure import Failure


def reasons(error: SSL.Error) -> list[str]:
    """OpenSSL's reasons in their order; none if it gives none, or if only the socket failed."""
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return [str(entry[-1]) for entry in entries if entry]


def explain(failure: Failure) -> str:
    """The failure in one line, for the capture."""
    value = failure.value
    if isinstance(value, SSL.Error):
        return _explain_tls(value)
    return " ".join(str(value).split()) or type(failure.value).__name__


def _explain_tls(failure: SSL.Error) -> str:
    said = reasons(failure)
    if "wrong version number" in said:
        return "TLS: what listens there does not speak TLS"
    return "TLS: " + ("; ".join(said) or "connection lost")
