"""The real model server of the tests: one for each process that runs them, started at the first need."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from twisted.trial.unittest import SkipTest

from logging_proxy.demo import model_server
from logging_proxy.demo.__main__ import START_TIMEOUT, model_is_ready
from logging_proxy.demo.processes import Program, free_port, module


def require(*packages: str) -> None:
    """Skip the test if a package, the model server or its model is not installed."""
    for package in packages:
        if find_spec(package) is None:
            raise SkipTest(f"the package {package} is not installed")
    missing = model_server.missing()
    if missing is not None:
        raise SkipTest(missing)


@cache
def model_port() -> int:
    """The port of the running server."""
    folder = Path(tempfile.mkdtemp(prefix="logging-proxy-model-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    port = free_port()
    command = module("logging_proxy.demo.model_server", str(port))
    program = Program("the model server", command, folder / "model.log").__enter__()
    atexit.register(program.stop)
    program.wait_until(lambda: model_is_ready("127.0.0.1", port), START_TIMEOUT)
    return port
