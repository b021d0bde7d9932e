"""
The project installed as users install it.

Each form goes into a fresh environment that borrows the running one's packages, so that nothing is
downloaded: the dependencies are there, only this project is new.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import logging_proxy
from logging_proxy.test.shortcut_stage import can_compile

SOURCE = Path(logging_proxy.__file__).resolve().parents[1]
PARTS = (
    *("setup.cfg", "setup.py", "pyproject.toml"),
    *("README.md", "LICENSE", "config.yaml", "logging_proxy", "twisted"),
)
OURS = ("PYTHONPATH", "PURE_PYTHON", "MYPYC")
SETUPTOOLS = 77
"""The release that pyproject.toml asks for."""


@cache
def obstacle() -> str | None:
    """Why nothing can be installed here, or None."""
    if not (SOURCE / "setup.cfg").exists():
        return "this is not a source tree"
    if find_spec("pip") is None:
        return "pip is not installed"
    try:
        found = version("setuptools")
    except PackageNotFoundError:
        return "setuptools is not installed"
    if int(found.partition(".")[0]) < SETUPTOOLS:
        return f"setuptools {found} is older than {SETUPTOOLS}"
    return None


def run(*command: str | Path, folder: Path, **variables: str) -> str:
    """The command's output, standard error included; it must succeed."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name not in OURS} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=300,
    )
    if done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def copy_source(target: Path) -> Path:
    """A copy of the source tree without what was built in it."""
    target.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "dropin.cache", "*.egg-info", "*.so")
    for part in PARTS:
        path = SOURCE / part
        if path.is_dir():
            shutil.copytree(path, target / part, ignore=ignored)
        elif path.exists():
            shutil.copy(path, target / part)
    return target


def make_environment(folder: Path) -> Path:
    """A fresh virtual environment that can import what this Python can; its bin directory."""
    venv.create(folder, with_pip=False, symlinks=True)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (own / "borrowed.pth").write_text("".join(f"{path}\n" for path in sorted(borrowed)))
    return folder / "bin"


class InstallTests(SynchronousTestCase):
    def setUp(self) -> None:
        reason = obstacle()
        if reason is not None:
            raise SkipTest(reason)
        folder = Path(tempfile.mkdtemp()).resolve()
        self.addCleanup(shutil.rmtree, folder)
        self.folder = folder
        self.source = copy_source(folder / "source")

    def pip(self, python: Path, *arguments: str | Path, **variables: str) -> None:
        """Run pip without network, dependencies, or a build environment of its own."""
        run(
            python,
            *("-m", "pip", "--disable-pip-version-check", "--no-input", *arguments),
            *("--no-deps", "--no-build-isolation", "--no-index"),
            folder=self.folder,
            **variables,
        )

    def assert_works(self, python: Path, home: Path, shortcut: bool) -> None:
        """
        The package of `home` is what the environment imports, and twistd offers both commands.

        `shortcut` is whether it has the C extension.
        """
        where = run(python, "-c", "import logging_proxy; print(logging_proxy.__file__)", folder=self.folder)
        self.assertEqual(Path(where.strip()).resolve(), home / "logging_proxy" / "__init__.py")
        said = run(
            python,
            "-c",
            "from logging_proxy.net import shortcut; print(shortcut.compiled)",
            folder=self.folder,
        )
        self.assertEqual(said.strip(), str(shortcut))
        # The script that the running environment has, with the Python of the fresh one.
        program = "from twisted.scripts.twistd import run; run()"
        offered = run(python, "-c", program, "--help", folder=self.folder)
        commands = {line.split()[0] for line in offered.splitlines() if line.strip()}
        self.assertLessEqual({"logging-proxy", "logging-server"}, commands)
        for command in ("logging-proxy", "logging-server"):
            self.assertIn("--config", run(python, "-c", program, command, "--help", folder=self.folder))
        written = self.folder / "written.yaml"
        run(python, "-m", "logging_proxy", "init", "--config", str(written), "--force", folder=self.folder)
        self.assertIn("routes:", written.read_text("utf-8"))

    def test_installed(self) -> None:
        """After `pip install .`, twistd has the commands, without the source tree."""
        python = make_environment(self.folder / "env") / "python"
        self.pip(python, "install", self.source)
        shutil.rmtree(self.source)
        home = Path(run(python, "-c", PURELIB, folder=self.folder).strip()).resolve()
        self.assert_works(python, home, can_compile())

    def test_editable(self) -> None:
        """After `pip install -e .`, twistd has the commands, from the source tree."""
        python = make_environment(self.folder / "env") / "python"
        self.pip(python, "install", "--editable", self.source)
        self.assert_works(python, self.source, can_compile())

    def test_without_compiler(self) -> None:
        """Without a compiler that works everything is installed but what is compiled."""
        for how in ((), ("--editable",)):
            python = make_environment(self.folder / f"env{len(how)}") / "python"
            self.pip(python, "install", *how, self.source, CC="/bin/false")
            home = run(python, "-c", PURELIB, folder=self.folder).strip()
            source = self.source if how else Path(home).resolve()
            self.assert_works(python, source, shortcut=False)

    def test_wheel(self) -> None:
        """A wheel holds every package and data file of the tree, and leaves Twisted's own files alone."""
        self.pip(Path(sys.executable), "wheel", "--wheel-dir", self.folder / "dist", self.source)
        (wheel,) = (self.folder / "dist").glob("logging_proxy-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            names = {name for name in archive.namelist() if ".dist-info/" not in name}
        ours = {
            str(path.relative_to(self.source))
            for path in (self.source / "logging_proxy").rglob("*")
            if path.is_file() and path.suffix not in (".md", ".c", ".h")
        }
        compiled = {name for name in names if name.endswith(".so")}
        self.assertEqual(len(compiled), can_compile())
        self.assertEqual(names - compiled, ours | {"twisted/plugins/logging_proxy_plugin.py"})


class SourceTests(SynchronousTestCase):
    def test_nothing_compiled_beside_its_source(self) -> None:
        """A source tree holds no module compiled by mypyc: an edited line is the line that runs."""
        if not (SOURCE / "setup.cfg").exists():
            raise SkipTest("this is not a source tree")
        libraries = (SOURCE / "logging_proxy").rglob("*.so")
        compiled = [path for path in libraries if path.name.partition(".")[0] != "_compiled"]
        self.assertEqual(compiled, [])


PURELIB = "import sysconfig; print(sysconfig.get_path('purelib'))"
