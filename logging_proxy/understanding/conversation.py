"""
The chain of messages of a conversation, and what is kept of one whose text is longer than the limit.

Clients send the whole conversation with every request.  A request's chain is a hash for each of its messages
that covers all before it as well; so a request continues another one exactly if the last hash of that one is
among its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from logging_proxy.understanding.allowance import Allowance
from logging_proxy.understanding.clean_text import HEAD_SHARE, TEXT_LIMIT, ends_of, last_of
from logging_proxy.understanding.json_strings import all_strings

_LISTS = ("messages", "input", "contents")
"""The member with the messages: of chat completions, Messages and Ollama; of Responses; of Gemini."""

CHAIN_FROM = TEXT_LIMIT // 2
"""
Minimum characters of text of a request with a chain: a conversation beyond the limit has hardly anything in
common with a shorter one.
"""

WITH_HISTORY = 256 << 10
"""Characters kept of a request beyond the limit that continues an indexed one, unless more is new."""

Known = Callable[[Sequence[int]], int]
"""Takes the hashes of a chain; returns how many messages of it are in an indexed exchange."""


def none_known(chain: Sequence[int]) -> int:
    """For texts that are read without an index."""
    return 0


class Conversation(NamedTuple):
    """The JSON value of a request, its messages and their chain."""

    value: dict[str, Any]
    place: str
    """The member with the messages."""
    messages: list[Any]
    chain: list[int]


def conversation_of(value: Any) -> Conversation | None:
    """The conversation in a request; None if there is none."""
    if isinstance(value, dict):
        for place in _LISTS:
            messages = value.get(place)
            if isinstance(messages, list) and messages:
                return Conversation(value, place, messages, chain_of(messages))
    return None


def chain_of(messages: Sequence[Any]) -> list[int]:
    """The hashes of a conversation's messages, as signed 64-bit integers other than 0."""
    chain: list[int] = []
    digest = b""
    for message in messages:
        canonical = json.dumps(_canonical(message), sort_keys=True).encode()
        digest = blake2b(digest + canonical, digest_size=8).digest()
        chain.append(int.from_bytes(digest, "big", signed=True) or 1)
    return chain


def _canonical(message: Any) -> Any:
    """`message` without what clients change between turns: the places of caches, and the form of a text."""
    if not isinstance(message, dict):
        return message
    plain = {name: member for name, member in message.items() if name != "cache_control"}
    content = plain.get("content")
    if isinstance(content, str):
        plain["content"] = [{"type": "text", "text": content}]
    elif isinstance(content, list):
        plain["content"] = [_without_cache(block) for block in content]
    return plain


def _without_cache(block: Any) -> Any:
    if not isinstance(block, dict) or "cache_control" not in block:
        return block
    return {name: member for name, member in block.items() if name != "cache_control"}


def kept_text(conversation: Conversation, known: Known, allowance: Allowance) -> str:
    """
    The text that is kept of a conversation beyond the limit.

    First what is new in it; then what is beside the messages: instructions and tools; then as much as there
    is room for of the messages before, the last ones.  What is left out is in the exchanges before.
    """
    value, place, messages, chain = conversation
    old = known(chain)
    beside = "\n".join(all_strings({name: value[name] for name in value if name != place}, allowance))
    if not old:
        head = ends_of(beside, HEAD_SHARE)
        return f"{head}\n{ends_of(_text(messages, allowance), TEXT_LIMIT - len(head) - 2)}"
    new = ends_of(_text(messages[old:], allowance), TEXT_LIMIT)
    room = min(TEXT_LIMIT, max(WITH_HISTORY, len(new) + HEAD_SHARE)) - len(new)
    head = ends_of(beside, min(room, HEAD_SHARE))
    return "\n".join([head, _last_text(messages[:old], room - len(head), allowance), new])


def _text(messages: Sequence[Any], allowance: Allowance) -> str:
    return "\n".join(all_strings(messages, allowance))


def _last_text(messages: Sequence[Any], room: int, allowance: Allowance) -> str:
    """The end of the text of `messages`, at most `room` characters."""
    texts: list[str] = []
    for message in reversed(messages):
        if room <= 0:
            break
        text = _text([message], allowance)
        texts.append(last_of(text, room))
        room -= len(text) + 1
    return "\n".join(reversed(texts))
