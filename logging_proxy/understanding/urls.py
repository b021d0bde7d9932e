"""
The model that the URL of a request names, and whether its method streams.

Gemini and Vertex AI, Bedrock, Azure, realtime sessions, Workers AI and Replicate name the model in the URL.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

LONGEST_PATH = 4096
"""Maximum characters of a URL that are looked at."""

_METHODS = (
    *("generateContent", "streamGenerateContent", "batchGenerateContent", "generateAnswer"),
    *("countTokens", "computeTokens", "embedContent", "batchEmbedContents", "asyncBatchEmbedContent"),
    *("predict", "rawPredict", "streamRawPredict", "serverStreamingPredict", "directPredict"),
    *("directRawPredict", "streamDirectPredict", "predictLongRunning", "fetchPredictOperation", "explain"),
    *("generateText", "generateMessage", "countTextTokens", "countMessageTokens", "embedText"),
    *("batchEmbedText", "createCachedContent"),
)
_GOOGLE = re.compile(rf"(?:^|/)(?:models|tunedModels|endpoints)/([^/]+):({'|'.join(_METHODS)})$")
_GOOGLE_STREAM = re.compile(r":(stream\w+|serverStreamingPredict)$", re.ASCII)
_BEDROCK = re.compile(
    r"(?:^|/)model/(.+)/"
    r"(invoke|invoke-with-response-stream|invoke-with-bidirectional-stream"
    r"|converse|converse-stream|count-tokens)$"
)
_AZURE = re.compile(r"(?:^|/)openai/deployments/([^/]+)(?:/|$)")
_OTHERS = re.compile(r"(?:^|/)(?:ai/run/(@[^/]+/.+)|models/([^/]+/[^/]+)/predictions)$")
_REALTIME = re.compile(r"(?:^|/)(?:realtime|listen|speak)/?$")
_MODEL_PARAMETER = re.compile(r"(?:^|&)(?:model|deployment)=([^&]+)")
_SSE_PARAMETER = re.compile(r"(?:^|&)alt=sse(?:&|$)", re.IGNORECASE)


class Called(NamedTuple):
    """What a URL tells; no model where none is named."""

    model: str | None = None
    stream: bool = False


_NOTHING = Called()


def called(url: str) -> Called:
    """The model and the method in a URL, complete or a path alone."""
    path, _, query = url[:LONGEST_PATH].partition("#")[0].partition("?")
    if _BEDROCK.search(path):
        return _bedrock(path)
    path = unquote(path)
    google = _GOOGLE_STREAM.search(path) is not None
    if found := _GOOGLE.search(path):
        return Called(found[1], google or _is_sse(query))
    if google:
        # Code Assist has the model in the body: `/v1internal:streamGenerateContent`.
        return Called(None, True)
    if found := _AZURE.search(path):
        return Called(found[1] if not _is_realtime(path) else _of_query(query) or found[1])
    if _is_realtime(path):
        return Called(_of_query(query))
    if found := _OTHERS.search(path):
        return Called(found[1] or found[2])
    return _NOTHING


def _bedrock(path: str) -> Called:
    """The model id is one segment, percent-encoded; an ARN may have its slash as it is."""
    found = _BEDROCK.search(path)
    return _NOTHING if found is None else Called(unquote(found[1]), found[2].endswith("stream"))


def _is_sse(query: str) -> bool:
    return _SSE_PARAMETER.search(query) is not None


def _is_realtime(path: str) -> bool:
    return _REALTIME.search(path) is not None


def _of_query(query: str) -> str | None:
    found = _MODEL_PARAMETER.search(query)
    return unquote(found[1].replace("+", " ")) if found else None
