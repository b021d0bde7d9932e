"""
Finds model, session and streaming of an exchange in its URL, its headers and the JSON values of its bodies.

Every member is optional, and values of unexpected types are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from logging_proxy.captures.heads import SESSION_HEADERS
from logging_proxy.understanding.urls import Called

LONGEST = 256
"""Maximum characters kept of a model or session name."""

LOOKED_AT = 16
"""How many values of a stream are searched for the model, which is named in the first ones."""

LONGEST_USER = 1024
"""Maximum length of a user id that is searched for a session; longer ids are ignored."""

_HEADER, _BODY, _METADATA = "header", "body", "metadata"
_INSIDE = ("client_metadata", "request", "extra_body")
"""Members of the body that may hold a session as well: Codex, Gemini CLI, gateways."""

SESSION_KEYS: Sequence[tuple[str, str]] = (
    (_HEADER, "x-claude-code-session-id"),
    (_METADATA, "user_id"),
    (_HEADER, "session-id"),
    (_HEADER, "session_id"),
    (_HEADER, "conversation_id"),
    (_HEADER, "thread-id"),
    (_BODY, "session_id"),
    (_BODY, "sessionId"),
    (_BODY, "conversation"),
    (_BODY, "conversation_id"),
    (_METADATA, "session_id"),
    (_METADATA, "sessionId"),
    (_METADATA, "conversation_id"),
    (_METADATA, "thread_id"),
    (_METADATA, "chat_id"),
    *((inside, name) for inside in _INSIDE for name in ("session_id", "sessionId", "conversation_id")),
    (_BODY, "prompt_cache_key"),
    (_HEADER, "x-session-id"),
    (_HEADER, "x-session-affinity"),
    (_HEADER, "x-opencode-session"),
    (_HEADER, "x-dynamo-session-id"),
    (_HEADER, "x-client-request-id"),
    (_HEADER, "x-litellm-session-id"),
    (_BODY, "litellm_session_id"),
    (_METADATA, "litellm_session_id"),
    (_HEADER, "x-litellm-trace-id"),
    (_BODY, "litellm_trace_id"),
    (_HEADER, "x-openwebui-chat-id"),
    (_BODY, "chat_id"),
    (_HEADER, "helicone-session-id"),
    (_HEADER, "x-conversation-id"),
    (_HEADER, "mcp-session-id"),
)
"""
Where clients name their session, the most trusted first.

`previous_response_id` is not among them: it changes with every turn, and following the chain would need the
previous exchanges.  Nor are ids that clients make anew for each request.
"""

_SESSION_MEMBERS = frozenset([_METADATA, *_INSIDE, *(name for place, name in SESSION_KEYS if place == _BODY)])

MEMBERS = _SESSION_MEMBERS | {"model", "stream"}
"""The members of a request's JSON that are looked at."""

_PER_REQUEST = "x-client-request-id"
"""Codex has its conversation in this header; the id is new for each request of all other clients."""

_STREAM_TYPES = ("text/event-stream", "application/vnd.amazon.eventstream", "application/x-ndjson")
_NOT_CALLED = Called()


class Understanding(NamedTuple):
    """What was found in an exchange; None where it was not found."""

    model: str | None = None
    session: str | None = None
    stream: bool = False


def understand(
    fields: Mapping[str, str],
    request: Any,
    responses: Sequence[Any],
    response_type: str,
    called: Called = _NOT_CALLED,
) -> Understanding:
    """
    What an exchange tells about itself.

    `fields` are the `relevant` headers of the request, `request` is its JSON value or None, `responses` are
    the JSON values of the response, several for a stream, and `called` is what the URL tells.
    """
    asked = request if isinstance(request, dict) else {}
    return Understanding(
        model=_model(asked, called, responses),
        session=_session(fields, asked),
        stream=_streams(asked, called, response_type),
    )


def _streams(request: Mapping[str, Any], called: Called, response_type: str) -> bool:
    """Whether a stream was requested, by the body or else by the URL, or was sent."""
    wanted = request.get("stream")
    return (wanted if isinstance(wanted, bool) else called.stream) or response_type.startswith(_STREAM_TYPES)


def _model(request: Mapping[str, Any], called: Called, responses: Sequence[Any]) -> str | None:
    """The requested model, by the body or else by the URL, or else the one that the response names."""
    if name := _name(request.get("model")) or _name(called.model):
        return name
    for value in (request, *responses[:LOOKED_AT]):
        if isinstance(value, dict):
            for holder in (value, value.get("message"), value.get("response")):
                if isinstance(holder, dict) and (name := _name(holder.get("model"))):
                    return name
    return None


def _session(fields: Mapping[str, str], body: Mapping[str, Any]) -> str | None:
    """The session from the most trusted source that is present."""
    if SESSION_HEADERS.isdisjoint(fields) and _SESSION_MEMBERS.isdisjoint(body):
        return None
    return next(_sessions(fields, body), None)


def _sessions(fields: Mapping[str, str], body: Mapping[str, Any]) -> Iterator[str]:
    places: dict[str, Mapping[str, Any]] = {_HEADER: fields, _BODY: body}
    for inside in (_METADATA, *_INSIDE):
        value = body.get(inside)
        if isinstance(value, dict):
            places[inside] = value
    for place, name in SESSION_KEYS:
        value = places.get(place, _NO_MEMBERS).get(name)
        if value is not None and (found := _name(_session_in(name, value, fields))):
            yield found


_NO_MEMBERS: Mapping[str, Any] = {}


def _session_in(name: str, value: Any, fields: Mapping[str, str]) -> Any:
    """The session in the value of a key; None if this value is none."""
    if name == "user_id":
        return _session_of_user(value)
    if name == _PER_REQUEST and not is_codex(fields):
        return None
    return value.get("id") if isinstance(value, dict) else value


def is_codex(fields: Mapping[str, str]) -> bool:
    """Whether the `relevant` headers are those of Codex."""
    if "x-codex-turn-metadata" in fields:
        return True
    return any(fields.get(name, "").lower().startswith("codex") for name in ("originator", "user-agent"))


def _session_of_user(user: Any) -> Any:
    """The session in Anthropic's `metadata.user_id`, which is `user_…_account_…_session_<uuid>` or JSON."""
    if not isinstance(user, str) or len(user) > LONGEST_USER:
        return None
    if user.startswith("user_"):
        account, _, session = user.rpartition("_session_")
        return session if "_account_" in account and _is_session(session) else None
    if not user.startswith("{"):
        return None
    try:
        value = json.loads(user)
    except (ValueError, RecursionError):
        return None
    return value.get("session_id") if isinstance(value, dict) else None


def _is_session(text: str) -> bool:
    return text.isascii() and text.replace("-", "").isalnum()


def _name(value: Any) -> str | None:
    return value[:LONGEST] if isinstance(value, str) and value else None
