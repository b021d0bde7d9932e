"""
Finds model, session and streaming of an exchange in its headers and the JSON values of its bodies.

Every member is optional, and values of unexpected types are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from logging_proxy.captures.heads import SESSION_HEADERS

LONGEST = 256
"""Maximum characters kept of a model or session name."""

LOOKED_AT = 16
"""How many values of a stream are searched for the model, which is named in the first ones."""

_SESSION_MEMBERS = frozenset(["metadata", "conversation", "prompt_cache_key", "litellm_session_id"])
LONGEST_USER = 1024
"""Maximum length of a user id that is searched for a session; longer ids are ignored."""


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
) -> Understanding:
    """
    What an exchange tells about itself.

    `fields` are the `relevant` headers of the request, `request` is its JSON value or None, and `responses`
    are the JSON values of the response: several for a stream.
    """
    asked = request if isinstance(request, dict) else {}
    stream = asked.get("stream") is True or response_type.startswith("text/event-stream")
    return Understanding(model=_model(asked, responses), session=_session(fields, asked), stream=stream)


def _model(request: Mapping[str, Any], responses: Sequence[Any]) -> str | None:
    """The requested model, or else the one that the response names."""
    if name := _name(request.get("model")):
        return name
    for value in (request, *responses[:LOOKED_AT]):
        if isinstance(value, dict):
            for holder in (value, value.get("message"), value.get("response")):
                if isinstance(holder, dict) and (name := _name(holder.get("model"))):
                    return name
    return None


def _session(fields: Mapping[str, str], body: Mapping[str, Any]) -> str | None:
    """The session from the most trusted source that is present (see `_keys`)."""
    if SESSION_HEADERS.isdisjoint(fields) and _SESSION_MEMBERS.isdisjoint(body):
        return None
    return next((name for value in _keys(fields, body) if (name := _name(value))), None)


def _keys(fields: Mapping[str, str], body: Mapping[str, Any]) -> Iterator[Any]:
    """
    Candidates for the session, most trusted first.

    `previous_response_id` is not used: it changes with every turn, and following the chain would need the
    previous exchanges.
    """
    metadata = body.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    conversation = body.get("conversation")
    yield fields.get("x-claude-code-session-id")
    yield _session_of_user(metadata.get("user_id"))
    yield fields.get("session-id")
    yield fields.get("session_id")
    yield conversation.get("id") if isinstance(conversation, dict) else conversation
    yield body.get("prompt_cache_key")
    yield fields.get("x-session-id")
    yield fields.get("x-client-request-id")
    yield body.get("litellm_session_id")
    yield metadata.get("litellm_session_id")
    yield fields.get("helicone-session-id")


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
