"""Tests with the part in C, and without it."""

from __future__ import annotations

from twisted.trial.unittest import SkipTest

from logging_proxy import shortcut


class InPython:
    """The same tests without the part in C; to be named before their class."""

    def setUp(self) -> None:
        self.patch(shortcut, "compiled", False)  # type: ignore[attr-defined]
        super().setUp()  # type: ignore[misc]


def require_compiled() -> None:
    """Skip where there is nothing to test."""
    if not shortcut.compiled:
        raise SkipTest("the part in C is not compiled here, or PURE_PYTHON is set")
