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

from logging_proxy.understanding.asked import Asked
from logging_proxy.understanding.dialects.anthropic_messages import MessagesReader, messages_request
from logging_proxy.understanding.dialects.base import AnswerReader
from logging_proxy.understanding.dialects.bedrock import (
    ConverseReader,
    InvokeReader,
    converse_request,
    invoke_request,
)
from logging_proxy.understanding.dialects.cohere import CohereReader
from logging_proxy.understanding.dialects.gemini import GeminiReader, gemini_request
from logging_proxy.understanding.dialects.lm_studio import LMStudioReader, lm_studio_request
from logging_proxy.understanding.dialects.ollama import OllamaReader, ollama_request
from logging_proxy.understanding.dialects.openai_chat import ChatReader, chat_request
from logging_proxy.understanding.dialects.openai_responses import ResponsesReader, responses_request
from logging_proxy.understanding.dialects.small import (
    FiguresReader,
    WatsonxReader,
    counted_request,
    figures_request,
)
from logging_proxy.understanding.lenient import mapping, string


@dataclass(frozen=True, slots=True)
class Dialect:
    """A way in which models are asked and answer."""

    name: str
    reader: Callable[[], AnswerReader]
    request: Callable[[dict[str, Any]], Asked]
    has_content: bool = True
    """Whether an answer without text, thinking or tool calls is empty, and not as it should be."""


CHAT = Dialect("openai-chat", ChatReader, chat_request)
RESPONSES = Dialect("openai-responses", ResponsesReader, responses_request)
MESSAGES = Dialect("anthropic-messages", MessagesReader, messages_request)
GEMINI = Dialect("gemini", GeminiReader, gemini_request)
OLLAMA = Dialect("ollama", OllamaReader, ollama_request)
COHERE = Dialect("cohere", CohereReader, chat_request)
CONVERSE = Dialect("bedrock", ConverseReader, converse_request)
INVOKE = Dialect("bedrock", InvokeReader, invoke_request)
LM_STUDIO = Dialect("lmstudio", LMStudioReader, lm_studio_request)
EMBEDDINGS = Dialect("embeddings", FiguresReader, figures_request, has_content=False)
COMPLETE = Dialect("anthropic-complete", MessagesReader, messages_request)
WATSONX = Dialect("watsonx", WatsonxReader, figures_request)
COUNT = Dialect("other", FiguresReader, counted_request, has_content=False)
FIGURES = Dialect("other", FiguresReader, figures_request, has_content=False)

LONGEST_PATH = 2048

_BY_PATH: tuple[tuple[re.Pattern[str], Dialect], ...] = tuple(
    (re.compile(pattern), dialect)
    for pattern, dialect in (
        (r".*/(chat/)?completions", CHAT),
        (r".*/responses/input_tokens", COUNT),
        (r".*/responses(/compact|/resp_[^/]+)?", RESPONSES),
        (r".*/messages/count_tokens", COUNT),
        (r".*/messages", MESSAGES),
        (r".*/publishers/anthropic/models/[^/]+:(rawP|streamRawP)redict", MESSAGES),
        (r".*:(streamG|g)enerateContent", GEMINI),
        (r".*:(batchEmbedContents|embedContent)", EMBEDDINGS),
        (r".*:countTokens", COUNT),
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
    The dialect of an exchange; None if it calls no model.

    `path` is the path of the URL as it was sent, with or without its query; `fields` are the header fields of
    the request by lower-case name; `request` and `answer` are the JSON value of the request's body and the
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
