"""
The value of JSON that was cut: what is whole of it.

Arguments of a tool call are cut by a limit of tokens or by a lost connection; the members that are whole are
what a person wants to see, and what the SDKs make of them.
"""

from __future__ import annotations

import re
from typing import Any

from logging_proxy.understanding.lenient import parse_json

_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[][{},:]|[^][{},:"\s]++|"', re.DOTALL)
"""A string, a bracket or separator, a number or word, or the quote that begins a string without an end."""
_CLOSES = {"{": "}", "[": "]"}


def parse_cut_json(text: str) -> Any:
    """
    The value of JSON `text`, of which the end may be missing; None if there is none.

    A string, number or word that the end has cut is left out, and so is a member without its value.
    """
    end, closing = _last_whole(text)
    return parse_json(text[:end] + closing)


def _last_whole(text: str) -> tuple[int, str]:
    """Up to where `text` is whole, and the brackets that close it there."""
    open_: list[str] = []
    safe = 0
    is_value = True
    for token in _TOKEN.finditer(text):
        word = token[0]
        if word == '"':
            break
        if word in "{[":
            open_.append(_CLOSES[word])
            safe, is_value = token.end(), word == "["
        elif word in "}]":
            if not open_ or open_.pop() != word:
                break
            safe, is_value = token.end(), False
        elif word == ",":
            is_value = bool(open_) and open_[-1] == "]"
        elif word == ":":
            is_value = True
        elif is_value and (word[0] == '"' or token.end() < len(text)):
            safe = token.end()
    return safe, "".join(reversed(open_))
