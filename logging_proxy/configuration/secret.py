"""Secret values, given in the file, or in a file or environment variable of their own."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from logging_proxy.configuration.document import Mapping, Node, Scalar
from logging_proxy.configuration.kinds import JSONSchema, Kind, Mistake, Surroundings
from logging_proxy.outbound import addresses

_VISIBLE = re.compile(r"[!-~]{1,4096}")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+|[A-Z]{1,12}")
"""How names of environment variables look, and secrets hardly do."""

_SOURCES = ("file", "env")
_SCHEMES = tuple(addresses.DEFAULT_PORTS)


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret.  Its value is in `value` only: `str` and `repr` do not show it."""

    value: str = field(repr=False)
    written_out: bool = field(default=False, compare=False)
    """Whether the secret is written in the configuration file itself."""


def _variable(name: str) -> str:
    """How a message names an environment variable; what does not look like a name may be a secret."""
    return f"the environment variable {name if _VARIABLE.fullmatch(name) else 'that is named here'}"


class SecretKind(Kind[Secret]):
    """
    A secret of visible ASCII characters.

    Error messages never quote the text: it may be a secret written in the place of its file's or
    variable's name.  A variable is named if it is in capitals.
    """

    def expected(self) -> str:
        return "a text of visible ASCII characters, {file: path} or {env: NAME}"

    def read(self, node: Node, surroundings: Surroundings) -> Secret:
        if isinstance(node, Scalar):
            if node.type not in ("str", "null"):
                raise Mistake(f"expected {self.expected()} (put it in quotes)")
            return Secret(self._checked(node.text, "the value"), written_out=True)
        if not isinstance(node, Mapping) or len(node.entries) != 1 or node.entries[0].key not in _SOURCES:
            raise Mistake(f"expected {self.expected()}")
        source = node.entries[0]
        if not isinstance(source.value, Scalar) or not source.value.text or source.value.type == "null":
            raise Mistake(
                f"no {'path' if source.key == 'file' else 'name'} is given: expected {self.expected()}"
            )
        read = self._from_file if source.key == "file" else self._from_environment
        return Secret(read(source.value.text, surroundings))

    def _from_environment(self, name: str, surroundings: Surroundings) -> str:
        if name not in surroundings.environ:
            raise Mistake(f"{_variable(name)}, which should hold it, is not set")
        return self._checked(surroundings.environ[name], f"the value of {_variable(name)}")

    def _from_file(self, path: str, surroundings: Surroundings) -> str:
        try:
            content = surroundings.read_file(path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "no usable path"
            raise Mistake(f"the file that should hold it cannot be read: {reason}") from None
        return self._checked(content.decode("latin-1").strip("\r\n"), "the file's content")

    def _checked(self, value: str, what: str) -> str:
        if not _VISIBLE.fullmatch(value):
            raise Mistake(f"{what} will not do: expected 1 to 4096 visible ASCII characters, without spaces")
        return value

    def schema(self) -> JSONSchema:
        reference = {
            "type": "object",
            "properties": {source: {"type": "string", "minLength": 1} for source in _SOURCES},
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
        }
        return {"anyOf": [{"type": "string", "pattern": f"^{_VISIBLE.pattern}$"}, reference]}


class ProxyURLKind(SecretKind):
    """The URL of an outbound proxy, which may contain a password."""

    def expected(self) -> str:
        return f"{addresses.EXPECTED}, {{file: path}} or {{env: NAME}}"

    def read(self, node: Node, surroundings: Surroundings) -> Secret:
        secret = super().read(node, surroundings)
        try:
            addresses.parse_proxy_url(secret.value)
        except addresses.ProxyURLError as error:
            raise Mistake(f"it {error}: expected {self.expected()}") from None
        return secret

    def schema(self) -> JSONSchema:
        written, reference = super().schema()["anyOf"]
        schemes = "|".join("".join(f"[{c.upper()}{c}]" if c.isalpha() else c for c in s) for s in _SCHEMES)
        return {"anyOf": [{**written, "pattern": f"^({schemes})://[!-~]+$"}, reference]}


SECRET = SecretKind()
PROXY_URL = ProxyURLKind()
