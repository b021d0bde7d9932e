"""An addon for mitmproxy that strips the path prefix, and relays streams as they arrive."""

from __future__ import annotations

from mitmproxy import http


def requestheaders(flow: http.HTTPFlow) -> None:
    flow.request.path = flow.request.path.removeprefix("/bench")


def responseheaders(flow: http.HTTPFlow) -> None:
    if flow.response is not None and flow.response.headers.get("content-type") == "text/event-stream":
        flow.response.stream = True
