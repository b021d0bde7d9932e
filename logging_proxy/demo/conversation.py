"""The demonstration's clients: the SDKs of OpenAI and Anthropic, with only the base URL changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

MODEL = "SmolLM2-135M-Instruct"
MAX_TOKENS = 48
TIMEOUT = 60.0
KEY = "no-key-needed"


@dataclass(frozen=True, slots=True)
class Turn:
    """A question; `ask` sends it, given the route's URL, and yields the answer in pieces."""

    title: str
    question: str
    ask: Callable[[str, str], Iterator[str]]


def stream_chat(route: str, question: str) -> Iterator[str]:
    """Stream a chat completion with the OpenAI SDK."""
    import openai

    with openai.OpenAI(base_url=f"{route}v1", api_key=KEY, max_retries=0, timeout=TIMEOUT) as client:
        chunks = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": question}],
            max_tokens=MAX_TOKENS,
            stream=True,
            stream_options={"include_usage": True},
        )
        for chunk in chunks:
            yield from (choice.delta.content or "" for choice in chunk.choices)


def plain_chat(route: str, question: str) -> Iterator[str]:
    """Request a chat completion without streaming with the OpenAI SDK."""
    import openai

    with openai.OpenAI(base_url=f"{route}v1", api_key=KEY, max_retries=0, timeout=TIMEOUT) as client:
        completion = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": question}], max_tokens=MAX_TOKENS
        )
        yield completion.choices[0].message.content or ""


def stream_message(route: str, question: str) -> Iterator[str]:
    """Stream a message with the Anthropic SDK."""
    import anthropic

    base_url = route.removesuffix("/")
    with anthropic.Anthropic(base_url=base_url, api_key=KEY, max_retries=0, timeout=TIMEOUT) as client:
        # Temperature 0: llama.cpp omits the first event of answers that begin with an emoji.
        with client.messages.stream(
            model=MODEL,
            messages=[{"role": "user", "content": question}],
            max_tokens=MAX_TOKENS,
            extra_body={"temperature": 0},
        ) as stream:
            yield from stream.text_stream


TURNS = (
    Turn("openai SDK, chat completion, streamed", "What is a reverse proxy?", stream_chat),
    Turn("openai SDK, chat completion, in one piece", "Name three colours.", plain_chat),
    Turn("anthropic SDK, message, streamed", "Say hello to a new colleague.", stream_message),
)
