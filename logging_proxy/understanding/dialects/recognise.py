"""
Tells which dialect an exchange speaks.

The end of the path decides where it is telling: it stays the same behind a gateway, whatever the host.  Else
the request's body and the first value of the answer decide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from logging_proxy.understanding.dialects.anthropic_messages import MessagesReader
from logging_proxy.understanding.dialects.base import AnswerReader
from logging_proxy.understanding.dialects.bedrock import ConverseReader, InvokeReader
from logging_proxy.understanding.dialects.cohere import CohereReader
from logging_proxy.understanding.dialects.gemini import GeminiReader
from logging_proxy.understanding.dialects.lm_studio import LMStudioReader
from logging_proxy.understanding.dialects.ollama import OllamaReader
from logging_proxy.understanding.dialects.openai_chat import ChatReader
from logging_proxy.understanding.dialects.openai_responses import ResponsesReader
from logging_proxy.understanding.dialects.small import FiguresReader, WatsonxReader
from logging_proxy.understanding.lenient import mapping, string


@dataclass(frozen=True, slots=True)
class Dialect:
    """A way in which models are asked and answer."""

    name: str
    reader: Callable[[], AnswerReader]
    has_content: bool = True
    """Whether an answer without text, thinking or tool calls is empty, and not as it should be."""


CHAT = Dialect("openai-chat", ChatReader)
RESPONSES = Dialect("openai-responses", ResponsesReader)
MESSAGES = Dialect("anthropic-messages", MessagesReader)
GEMINI = Dialect("gemini", GeminiReader)
OLLAMA = Dialect("ollama", OllamaReader)
COHERE = Dialect("cohere", CohereReader)
CONVERSE = Dialect("bedrock", ConverseReader)
INVOKE = Dialect("bedrock", InvokeReader)
LM_STUDIO = Dialect("lmstudio", LMStudioReader)
EMBEDDINGS = Dialect("embeddings", FiguresReader, has_content=False)
COMPLETE = Dialect("anthropic-complete", MessagesReader)
WATSONX = Dialect("watsonx", WatsonxReader)
FIGURES = Dialect("other", FiguresReader, has_content=False)

LONGEST_PATH = 2048

_BY_PATH: tuple[tuple[re.Pattern[str], Dialect], ...] = tuple(
    (re.compile(pattern), dialect)
    for pattern, dialect in (
        (r".*/(chat/)?completions", CHAT),
        (r".*/responses/input_tokens", FIGURES),
        (r".*/responses(/compact|/resp_[^/]+)?", RESPONSES),
        (r".*/messages/count_tokens", FIGURES),
        (r".*/messages", MESSAGES),
        (r".*/publishers/anthropic/models/[^/]+:(rawP|streamRawP)redict", MESSAGES),
        (r".*:(streamG|g)enerateContent", GEMINI),
        (r".*:(batchEmbedContents|embedContent)", EMBEDDINGS),
        (r".*:countTokens", FIGURES),
        (r".*/model/[^/]+/converse(-stream)?", CONVERSE),
        (r".*/model/[^/]+/invoke(-with-response-stream)?", INVOKE),
        (r".*/v2/chat", COHERE),
        (r".*/api/(chat|generate)", OLLAMA),
        (r".*/(embeddings|api/embed)", EMBEDDINGS),
        (r".*/v1/complete", COMPLETE),
        (r".*/ml/v1[^/]*/(text/)?generation(/text|_stream|/text_stream)?", WATSONX),
        (r".*/(moderations|models)", FIGURES),
    )
)


def recognise(path: str, fields: Mapping[str, str], request: Any, answer: Any = None) -> Dialect | None:
    """
    The dialect of an exchange; None if it is no call of a model.

    `path` is the path of the URL as it was sent, with or without its query.  `fields` are the header fields of
    the request by lower-case name.  `request` and `answer` are the JSON value of the request's body and the
    first one of the response, None where there is none.
    """
    path = path[:LONGEST_PATH].partition("?")[0].rstrip("/")
    for pattern, dialect in _BY_PATH:
        if pattern.fullmatch(path) or pattern.fullmatch(unquote(path)):
            return dialect
    return _by_answer(mapping(answer)) or _by_request(path, fields, mapping(request))


def _by_answer(value: dict[str, Any]) -> Dialect | None:
    """The dialect of an answer at an address that tells nothing."""
    kind, object_ = string(value.get("type")), string(value.get("object"))
    if object_.startswith(("chat.completion", "text_completion")):
        return CHAT
    if object_ == "response" or kind.startswith("response."):
        return RESPONSES
    if kind in ("message", "message_start") and "message" in (kind, *value):
        return MESSAGES
    if "candidates" in value or "usageMetadata" in value:
        return GEMINI
    return LM_STUDIO if kind == "chat.start" or "model_instance_id" in value else None


def _by_request(path: str, fields: Mapping[str, str], value: dict[str, Any]) -> Dialect | None:
    if isinstance(value.get("contents"), list) and "model" not in value:
        return GEMINI
    if not isinstance(value.get("model"), str):
        return None
    if "anthropic-version" in fields and isinstance(value.get("messages"), list):
        return MESSAGES
    if isinstance(value.get("messages"), list):
        return CHAT
    if path.endswith("/api/v1/chat"):
        return LM_STUDIO
    return RESPONSES if isinstance(value.get("input"), (str, list)) and "stream" in value else None
