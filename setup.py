"""What setup.cfg has no words for: what is compiled.  Where that cannot be done, Python does the same."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

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

# Modules that mypyc makes C of: where the logging server spends its time, a quarter less of it then.
# make compiles again when one of them changes; it reads this list.
COMPILED = (
    "logging_proxy/capture/records.py",
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

# What is not installed where this is built, as Twisted, has any type.
CHECKS = ("--config-file=", "--cache-dir=build/mypy", "--ignore-missing-imports", "--follow-imports=silent")


def shortcut() -> Extension:
    return Extension(
        "logging_proxy.shortcut._compiled",
        [f"logging_proxy/shortcut/{part}.c" for part in SHORTCUT],
        depends=["logging_proxy/shortcut/shortcut.h"],
        optional=True,
    )


def compiled() -> list[Extension]:
    """One library with all of `COMPILED`, and for each a module that takes itself out of there."""
    try:
        from mypyc.build import mypycify

        extensions = mypycify(
            [*CHECKS, *COMPILED],
            group_name="logging_proxy.logserver.compiled",
            opt_level="1",
            debug_level="0",
        )
    except (Exception, SystemExit) as error:
        print(f"nothing is compiled by mypyc: {error!r}", file=sys.stderr)
        return []
    for extension in extensions:
        extension.optional = True
        extension.extra_compile_args = [flag for flag in extension.extra_compile_args if flag != "-Werror"]
    return extensions


class Build(build_ext):
    """Runs mypyc when it is time to build; without any of what it makes, Python is all there is."""

    def finalize_options(self) -> None:
        self._compiled = self._modules()
        self.distribution.ext_modules = [shortcut(), *self._compiled]
        super().finalize_options()

    def build_extensions(self) -> None:
        super().build_extensions()
        made = [Path(self.get_ext_fullpath(extension.name)) for extension in self._compiled]
        if not all(path.exists() for path in made):
            remove(made)

    def _modules(self) -> list[Extension]:
        wanted = not os.environ.get("PURE_PYTHON")
        if self.editable_mode or self.inplace:
            made = [Path(source).with_suffix(sysconfig.get_config_var("EXT_SUFFIX")) for source in COMPILED]
            if wanted and are_newer(made, ["setup.py", *COMPILED]):
                return []
            remove(made)  # whatever becomes of this: Python takes them before their sources, old as they are
        return compiled() if wanted else []


def are_newer(made: list[Path], sources: list[str]) -> bool:
    """Whether all of `made` is there, and newer than what it is made of."""
    newest = max(Path(source).stat().st_mtime for source in sources)
    return all(path.exists() and path.stat().st_mtime > newest for path in made)


def remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


setup(ext_modules=[shortcut()], cmdclass={"build_ext": Build})
