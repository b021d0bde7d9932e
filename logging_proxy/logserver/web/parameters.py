"""The parameters of a query."""

from __future__ import annotations

from collections.abc import Collection

from twisted.web.server import Request

from logging_proxy.logserver.web.answers import Problem, Refused


def read_parameters(request: Request, known: Collection[str]) -> dict[str, str]:
    """The query parameters by name.  Raises `Refused` for repeated ones, unknown ones and invalid UTF-8."""
    found = {}
    for raw_name, values in (request.args or {}).items():
        try:
            name = raw_name.decode("utf-8")
            if name not in known:
                raise _unknown(name[:40], sorted(known))
            if len(values) != 1:
                raise Refused(Problem.BAD_PARAMETER, f"{name[:40]}: given more than once")
            found[name] = values[0].decode("utf-8")
        except UnicodeDecodeError:
            raise Refused(Problem.BAD_PARAMETER, "not UTF-8") from None
    return found


def _unknown(name: str, known: list[str]) -> Refused:
    text = f"{name}: there is no such parameter; known parameters: {', '.join(known) or 'none'}"
    return Refused(Problem.BAD_PARAMETER, text, parameter=name, known=known)
