"""Kinds of configuration value that name a PEM file, which is read together with the configuration."""

from __future__ import annotations

from collections.abc import Callable

from logging_proxy.configuration.addresses import PATH
from logging_proxy.configuration.document import Node
from logging_proxy.configuration.kinds import JSONSchema, Kind, Mistake, Surroundings
from logging_proxy.tls import pem
from logging_proxy.tls.pem import PEMError, PEMFile


class PEMFileKind(Kind[PEMFile]):
    """The path of a PEM file, which is read immediately unless `Surroundings.tls_files` is false."""

    def __init__(self, noun: str, parse: Callable[[bytes], object]) -> None:
        self._noun = noun
        self._parse = parse

    def expected(self) -> str:
        return f"path of {self._noun} in PEM form"

    def read(self, node: Node, surroundings: Surroundings) -> PEMFile:
        path = PATH.read(node, surroundings)
        if not surroundings.tls_files:
            return PEMFile(path)
        try:
            content = surroundings.read_file(path)
            self._parse(content)
        except (OSError, PEMError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise Mistake(f"this file cannot be used: {reason}") from None
        return PEMFile(path, content)

    def schema(self) -> JSONSchema:
        return PATH.schema()


CERTIFICATES = PEMFileKind("one or more certificates", pem.certificates)
PRIVATE_KEY = PEMFileKind("a private key", pem.private_key)
