"""The names in certificates, and whether a certificate is valid for a host (RFC 9525 §6)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from cryptography import x509

Address = IPv4Address | IPv6Address

MOST_NAMES = 4
"""Most names of a certificate that an error text quotes; some certificates have a hundred."""

LONGEST_NAME = 100

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._*:")


def address_of(host: str) -> Address | None:
    """`host` as an IP address; None if it is a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def without_final_dot(host: str) -> str:
    """`host` without a final dot, which only tells resolvers to try no search domain (RFC 6066 §3)."""
    return host.removesuffix(".")


def is_for(certificate: x509.Certificate, host: str) -> bool:
    """
    Whether `certificate` is valid for `host`, a name or an address, without a final dot.

    Only subjectAltName counts, never the common name: its addresses for an address, its DNS names
    for a name.  Raises `ValueError` for a certificate that cannot be read.
    """
    names = _alternative_names(certificate)
    if names is None:
        return False
    address = address_of(host)
    if address is not None:
        return address in names.get_values_for_type(x509.IPAddress)
    return any(_matches(pattern, host) for pattern in names.get_values_for_type(x509.DNSName))


def _matches(pattern: str, name: str) -> bool:
    """
    Whether a DNS name of a certificate is `name`, or matches it with a wildcard as its first label.

    A wildcard must be the whole first label, followed by at least two labels: `*.example` would match
    everything below a top-level domain.
    """
    if not pattern.isascii():
        return False  # not lower-cased either, as the Kelvin sign would become an ASCII k
    pattern, name = pattern.lower(), name.lower()
    if "*" not in pattern:
        return pattern == name
    first, _, rest = pattern.partition(".")
    label, _, parent = name.partition(".")
    return first == "*" and "*" not in rest and "." in rest.strip(".") and bool(label) and rest == parent


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ValueError(str(error)) from None


# --- texts for people -----------------------------------------------------------------


def described(certificate: x509.Certificate) -> str:
    """The hosts that `certificate` names, abbreviated; untrusted text, made printable."""
    names = _alternative_names(certificate)
    if names is None:
        return ""
    hosts = names.get_values_for_type(x509.DNSName)
    addresses = names.get_values_for_type(x509.IPAddress)
    return listed([shown(str(each)) for each in (*hosts[: MOST_NAMES + 1], *addresses[: MOST_NAMES + 1])])


def listed(names: list[str]) -> str:
    """`a, b and c`; at most `MOST_NAMES` of them."""
    if len(names) > MOST_NAMES:
        names = [*names[:MOST_NAMES], "others"]
    *before, last = names or [""]
    return f"{', '.join(before)} and {last}" if before else last


def shown(text: str) -> str:
    """A name from a certificate: escaped, shortened, and in quotes unless it looks like a host's."""
    if len(text) > LONGEST_NAME:
        return f"'{_escaped(text[:LONGEST_NAME])}...'"
    return text if text and _PLAIN.issuperset(text) else f"'{_escaped(text)}'"


def _escaped(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii").replace("'", "\\'")
