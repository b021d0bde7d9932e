"""
Builds what setup.cfg cannot describe: the C extension, and the modules that mypyc compiles for a wheel.

The C extension is built wherever there is a compiler.  mypyc is used only with MYPYC=1 in the environment,
which `make wheel` and `make fast` set.  A source tree never contains compiled modules, because Python would
load them instead of the edited source beside them.
"""

from __future__ import annotations

import os

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SHORTCUT = (
    "attributes",
    "files",
    "module",
    "passing",
    "read_buffer",
    "reading",
    "sending",
    "splitting",
    "storing",
)

# The modules where the logging server spends most of its time.
COMPILED = (
    "logging_proxy/logserver/ingest/assembly.py",
    "logging_proxy/understanding/clean_text.py",
    "logging_proxy/captures/exchanges.py",
    "logging_proxy/logserver/store/halves.py",
    "logging_proxy/captures/heads.py",
    "logging_proxy/index/contents.py",
    "logging_proxy/index/entries.py",
    "logging_proxy/index/recorded.py",
    "logging_proxy/index/records.py",
    "logging_proxy/index/values.py",
    "logging_proxy/index/words.py",
    "logging_proxy/index/writing.py",
    "logging_proxy/understanding/json_streams.py",
    "logging_proxy/understanding/json_strings.py",
    "logging_proxy/captures/metadata.py",
    "logging_proxy/logserver/telemetry/prometheus.py",
    "logging_proxy/logserver/store/publishing.py",
    "logging_proxy/logserver/store/gather.py",
    "logging_proxy/logserver/ingest/records.py",
    "logging_proxy/logserver/telemetry/counters.py",
    "logging_proxy/understanding/text.py",
    "logging_proxy/understanding/facts.py",
    "logging_proxy/logserver/live/under_way.py",
)

# A wheel can be built without Twisted and the other dependencies.
MYPY_OPTIONS = (
    *("--config-file=", "--cache-dir=build/mypy"),
    *("--ignore-missing-imports", "--follow-imports=silent"),
)


def shortcut() -> Extension:
    return Extension(
        "logging_proxy.net.shortcut._compiled",
        [f"logging_proxy/net/shortcut/{part}.c" for part in SHORTCUT],
        depends=["logging_proxy/net/shortcut/shortcut.h"],
        optional=True,
    )


def mypyc_modules() -> list[Extension]:
    """One shared library with all of `COMPILED`, and a stub module for each that loads it from there."""
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
    """Runs mypyc only when extensions are built, not when the metadata is requested."""

    def finalize_options(self) -> None:
        if os.environ.get("MYPYC") == "1":
            self.distribution.ext_modules = [shortcut(), *mypyc_modules()]
        super().finalize_options()


setup(ext_modules=[shortcut()], cmdclass={"build_ext": Build})
