"""
What setup.cfg has no words for: the part in C, and the modules that mypyc compiles for a wheel.

The part in C is built wherever there is a compiler.  mypyc is used only with MYPYC=1 in the environment,
as `make wheel` and `make fast` set it: Python loads a compiled module rather than the source beside it, so a
source tree never holds one.
"""

from __future__ import annotations

import os

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SHORTCUT = (
    "attributes",
    "files",
    "landing",
    "module",
    "passing",
    "reading",
    "sending",
    "splitting",
    "storing",
)

# The modules in which the logging server spends its time.
COMPILED = (
    "logging_proxy/logserver/assembly.py",
    "logging_proxy/logserver/clean_text.py",
    "logging_proxy/logserver/exchanges.py",
    "logging_proxy/logserver/halves.py",
    "logging_proxy/logserver/heads.py",
    "logging_proxy/logserver/index/entries.py",
    "logging_proxy/logserver/index/records.py",
    "logging_proxy/logserver/index/values.py",
    "logging_proxy/logserver/index/words.py",
    "logging_proxy/logserver/index/writing.py",
    "logging_proxy/logserver/json_streams.py",
    "logging_proxy/logserver/json_strings.py",
    "logging_proxy/logserver/metadata.py",
    "logging_proxy/logserver/metrics.py",
    "logging_proxy/logserver/publishing.py",
    "logging_proxy/logserver/store.py",
    "logging_proxy/logserver/stream.py",
    "logging_proxy/logserver/telemetry.py",
    "logging_proxy/logserver/text.py",
    "logging_proxy/logserver/understanding.py",
    "logging_proxy/logserver/underway.py",
)

# Twisted and the other dependencies need not be installed where a wheel is built.
MYPY_OPTIONS = (
    *("--config-file=", "--cache-dir=build/mypy"),
    *("--ignore-missing-imports", "--follow-imports=silent"),
)


def shortcut() -> Extension:
    return Extension(
        "logging_proxy.shortcut._compiled",
        [f"logging_proxy/shortcut/{part}.c" for part in SHORTCUT],
        depends=["logging_proxy/shortcut/shortcut.h"],
        optional=True,
    )


def mypyc_modules() -> list[Extension]:
    """One library with all of `COMPILED`, and for each of them a module that is found in that library."""
    from mypyc.build import mypycify

    extensions: list[Extension] = mypycify(
        [*MYPY_OPTIONS, *COMPILED],
        group_name="logging_proxy.logserver.compiled",
        opt_level="1",
        debug_level="0",
    )
    for extension in extensions:
        extension.extra_compile_args = [flag for flag in extension.extra_compile_args if flag != "-Werror"]
    return extensions


class Build(build_ext):
    """Runs mypyc when extensions are built, and not when only the metadata is asked for."""

    def finalize_options(self) -> None:
        if os.environ.get("MYPYC") == "1":
            self.distribution.ext_modules = [shortcut(), *mypyc_modules()]
        super().finalize_options()


setup(ext_modules=[shortcut()], cmdclass={"build_ext": Build})
