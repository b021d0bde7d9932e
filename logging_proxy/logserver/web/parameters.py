"""The parameters of a query."""

from __future__ import annotations

import re
from collections.abc import Collection

from twisted.web.server import Request

from logging_proxy.logserver.web.answers import Problem, Refused

_NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)


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


def read_flag(given: dict[str, str], name: str) -> bool:
    """A parameter that is `true` or `false`, which is the default.  Raises `Refused`."""
    if given.get(name, "false") not in ("true", "false"):
        raise Refused(Problem.BAD_PARAMETER, f"{name}: neither true nor false", parameter=name)
    return given.get(name) == "true"


def read_number(given: dict[str, str], name: str, default: int, least: int, most: int) -> int:
    """A parameter that is a number from `least` to `most`.  Raises `Refused`."""
    text = given.get(name, "")
    if not text:
        return default
    if not _NUMBER.fullmatch(text) or not least <= int(text) <= most:
        raise Refused(Problem.BAD_PARAMETER, f"{name}: not a number from {least} to {most}", parameter=name)
    return int(text)


def _unknown(name: str, known: list[str]) -> Refused:
    text = f"{name}: there is no such parameter; known parameters: {', '.join(known) or 'none'}"
    return Refused(Problem.BAD_PARAMETER, text, parameter=name, known=known)
