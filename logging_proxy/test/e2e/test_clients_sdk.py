"""The SDKs of OpenAI and Anthropic before a scripted upstream: streams, tools, errors, time-outs."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from twisted.trial.unittest import SkipTest

from logging_proxy.test.e2e import upstream
from logging_proxy.test.e2e.case import PATIENCE, EndToEndCase, wait_until
from logging_proxy.test.e2e.mirror import Mirror, Sent
from logging_proxy.test.e2e.upstream import Received, Step, answer

if TYPE_CHECKING:
    from anthropic import Anthropic
    from openai import OpenAI

TIMEOUT = 4.0
"""Seconds after which an SDK gives up, where it is to: by then a busy machine has passed on its request."""

MODEL = "scripted"
QUESTION = "What is the weather in Zürich? ☂"
JSON = b"Content-Type: application/json"
SSE = b"Content-Type: text/event-stream; charset=utf-8"
ARGUMENTS = '{"place": "Zürich ☂", "days": [1, 2, 3]}'
OPENAI_TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "The weather.", "parameters": {"type": "object"}},
}
ANTHROPIC_TOOL = {"name": "weather", "description": "The weather.", "input_schema": {"type": "object"}}


class SDKCase(EndToEndCase):
    package = ""

    def setUp(self) -> None:
        super().setUp()
        if find_spec(self.package) is None:
            raise SkipTest(f"the package {self.package} is not installed")
        scripts = {
            "/v1/chat/completions": openai_chat,
            "/v1/messages": anthropic_messages,
            "/limited/v1/chat/completions": limited,
            "/limited/v1/messages": limited,
        }
        stalls = {
            "/silent/v1/chat/completions": b"",
            "/silent/v1/messages": b"",
            "/stuck/v1/chat/completions": stuck(openai_events()[0]),
            "/stuck/v1/messages": stuck(*anthropic_events()[:1]),
        }
        self.upstream = Mirror(scripts, stalls)
        self.stack.enter_context(self.upstream)
        self.config = self.configure(self.upstream.port)
        self.start_proxy(self.config)
        self.direct = f"http://127.0.0.1:{self.upstream.port}"
        self.through = f"http://127.0.0.1:{self.config.port}/up"

    def assert_same(self, use: Callable[[str], Any]) -> None:
        """What an SDK gives, and what it sends, are the same through the proxy."""
        there = use(self.direct)
        received = [sent(each) for each in self.upstream.taken()]
        here = use(self.through)
        relayed = [sent(each) for each in self.upstream.taken()]
        self.assertTrue(received)
        self.assertEqual(here, there)
        self.assertEqual(relayed, received)

    def assert_left(self, path: str, use: Callable[[], Any]) -> None:
        """After `use`, which gives up, the upstream's connection is closed; the capture tells why."""
        use()
        self.assertTrue(wait_until(lambda: self.upstream.left > 0), "the upstream was never left")
        capture = self.capture_of(self.config, path)
        self.assertEqual(capture.outcome, "client_closed")
        self.assertEqual(capture.request.body, self.upstream.taken()[0].body)


class OpenAITests(SDKCase):
    package = "openai"

    def client(self, base: str, timeout: float = PATIENCE) -> OpenAI:
        import openai

        client = openai.OpenAI(base_url=f"{base}/v1", api_key="sk-x", max_retries=0, timeout=timeout)
        self.addCleanup(client.close)
        return client

    def ask(self, base: str, timeout: float = PATIENCE, **more: Any) -> Any:
        """A chat completion."""
        messages: Any = [{"role": "user", "content": QUESTION}]
        return self.client(base, timeout).chat.completions.create(model=MODEL, messages=messages, **more)

    def test_whole(self) -> None:
        """An answer in one piece."""
        self.assert_same(lambda base: self.ask(base).to_dict())

    def test_streamed_tools(self) -> None:
        """A streamed tool call, whose arguments are cut in the middle of characters."""
        self.assert_same(
            lambda base: [chunk.to_dict() for chunk in self.ask(base, stream=True, tools=[OPENAI_TOOL])]
        )

    def test_error(self) -> None:
        """An error's status, headers and body reach the SDK's exception."""
        import openai

        def refused(base: str) -> tuple[int, str | None, object]:
            error = self.assertRaises(openai.RateLimitError, self.ask, f"{base}/limited")
            return error.status_code, error.response.headers.get("retry-after"), error.body

        self.assert_same(refused)

    def test_time_out_before_the_answer(self) -> None:
        """An SDK that times out has left: the upstream is cancelled, the capture says so."""
        import openai

        def wait() -> None:
            self.assertRaises(openai.APITimeoutError, self.ask, f"{self.through}/silent", TIMEOUT)

        self.assert_left("/silent/v1/chat/completions", wait)

    def test_time_out_in_the_stream(self) -> None:
        """The same in the middle of a stream: what came until then is kept."""
        import httpx2
        import openai

        def wait() -> None:
            stream = iter(self.ask(f"{self.through}/stuck", TIMEOUT, stream=True))
            next(stream)
            self.assertRaises((openai.APITimeoutError, httpx2.ReadTimeout), next, stream)

        self.assert_left("/stuck/v1/chat/completions", wait)
        response = self.capture_of(self.config, "/stuck/v1/chat/completions").response
        assert response is not None
        self.assertEqual(response.body, openai_events()[0])

    def test_stream_closed(self) -> None:
        """A program that closes a stream has left."""

        def close() -> None:
            stream = self.ask(f"{self.through}/stuck", stream=True)
            next(iter(stream))
            stream.close()

        self.assert_left("/stuck/v1/chat/completions", close)

    def test_task_cancelled(self) -> None:
        """An asynchronous call that is cancelled has left."""
        import openai

        async def ask() -> None:
            base = f"{self.through}/silent/v1"
            async with openai.AsyncOpenAI(base_url=base, api_key="sk-x", max_retries=0) as client:
                call = asyncio.ensure_future(
                    client.chat.completions.create(
                        model=MODEL, messages=[{"role": "user", "content": QUESTION}]
                    )
                )
                arrived = await asyncio.to_thread(wait_until, lambda: bool(self.upstream.received))
                self.assertTrue(arrived, "the request never arrived")
                call.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await call
                self.assertTrue(call.cancelled())

        self.assert_left("/silent/v1/chat/completions", lambda: asyncio.run(ask()))


class AnthropicTests(SDKCase):
    package = "anthropic"

    def client(self, base: str, timeout: float = PATIENCE) -> Anthropic:
        import anthropic

        client = anthropic.Anthropic(base_url=base, api_key="x", max_retries=0, timeout=timeout)
        self.addCleanup(client.close)
        return client

    def arguments(self) -> Any:
        """What every call here asks."""
        messages = [{"role": "user", "content": QUESTION}]
        return {"model": MODEL, "max_tokens": 50, "messages": messages, "tools": [ANTHROPIC_TOOL]}

    def test_whole(self) -> None:
        """A message in one piece."""
        self.assert_same(lambda base: self.client(base).messages.create(**self.arguments()).to_dict())

    def test_streamed_tools(self) -> None:
        """A streamed tool call: the same events, and the same message in the end."""

        def use(base: str) -> Any:
            with self.client(base).messages.stream(**self.arguments()) as stream:
                kinds = [event.type for event in stream]
                return kinds, stream.get_final_message().to_dict()

        self.assert_same(use)

    def test_error(self) -> None:
        """An error's status, headers and body reach the SDK's exception."""
        import anthropic

        def refused(base: str) -> tuple[int, str | None, object]:
            client = self.client(f"{base}/limited")
            error = self.assertRaises(anthropic.RateLimitError, client.messages.create, **self.arguments())
            return error.status_code, error.response.headers.get("retry-after"), error.body

        self.assert_same(refused)

    def test_time_out_before_the_answer(self) -> None:
        """An SDK that times out has left: the upstream is cancelled, the capture says so."""
        import anthropic

        client = self.client(f"{self.through}/silent", TIMEOUT)

        def wait() -> None:
            self.assertRaises(anthropic.APITimeoutError, client.messages.create, **self.arguments())

        self.assert_left("/silent/v1/messages", wait)

    def test_stream_left(self) -> None:
        """A program that leaves a stream's context has left."""

        def leave() -> None:
            with self.client(f"{self.through}/stuck").messages.stream(**self.arguments()) as stream:
                next(iter(stream))

        self.assert_left("/stuck/v1/messages", leave)


def sent(received: Received) -> Sent:
    """What an SDK sent, without the key that it draws anew for each call."""
    whole = Sent.of(received)
    lines = tuple(line for line in whole.lines if not line.lower().startswith(b"idempotency-key:"))
    return Sent(whole.method, whole.target, lines, whole.has_length, whole.body)


# --- what the upstream answers ----------------------------------------------------


def sse(data: object, event: str = "") -> bytes:
    """A server-sent event."""
    line = f"event: {event}\n" if event else ""
    return f"{line}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def stuck(*events: bytes) -> bytes:
    """The beginning of a stream, as bytes on the wire."""
    return (
        b"HTTP/1.1 200 OK\r\n"
        + SSE
        + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
        + upstream.chunk(b"".join(events))
    )


def torn(events: list[bytes], request: Received) -> Iterable[Step]:
    """A stream in pieces of seven bytes, which cut events and characters."""
    whole = b"".join(events)
    pieces = [whole[at : at + 7] for at in range(0, len(whole), 7)]
    return upstream.chunked(pieces, SSE, b"X-Request-Id: req_1")(request)


def limited(request: Received) -> Iterable[Step]:
    """An error with a header that SDKs read."""
    error = {"error": {"type": "rate_limit_error", "message": "slow down ☂"}}
    yield answer(json.dumps(error).encode(), JSON, b"Retry-After: 7", status=b"429 Too Many Requests")


def openai_chat(request: Received) -> Iterable[Step]:
    """A chat completion, streamed or not."""
    if json.loads(request.body).get("stream"):
        return torn([*openai_events(), b"data: [DONE]\n\n"], request)
    message = {"role": "assistant", "content": "Rain. ☂"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    whole = {"id": "c", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice]}
    return [answer(json.dumps({**whole, "usage": usage}, ensure_ascii=False).encode(), JSON)]


def openai_events() -> list[bytes]:
    """A tool call, its arguments in small pieces."""
    call: dict[str, Any] = {"index": 0, "id": "call_1", "type": "function"}
    parts = [ARGUMENTS[at : at + 5] for at in range(0, len(ARGUMENTS), 5)]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
    deltas.append({"tool_calls": [{**call, "function": {"name": "weather", "arguments": ""}}]})
    deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": part}}]} for part in parts]
    choices: list[dict[str, Any]]
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
    whole = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return [sse({**whole, "choices": [choice]}) for choice in choices]


def anthropic_messages(request: Received) -> Iterable[Step]:
    """A message, streamed or not."""
    if json.loads(request.body).get("stream"):
        return torn(anthropic_events(), request)
    content = [{"type": "text", "text": "Rain. ☂"}]
    whole: dict[str, Any] = {**MESSAGE, "content": content, "stop_reason": "end_turn"}
    return [answer(json.dumps(whole, ensure_ascii=False).encode(), JSON)]


MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": MODEL,
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 9, "output_tokens": 3},
}


def anthropic_events() -> list[bytes]:
    """A text and a tool call, the call's input in small pieces."""
    tool = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
    parts = [ARGUMENTS[at : at + 5] for at in range(0, len(ARGUMENTS), 5)]
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": MESSAGE},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Let me ☂"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": tool},
    ]
    for part in parts:
        delta = {"type": "input_json_delta", "partial_json": part}
        events.append({"type": "content_block_delta", "index": 1, "delta": delta})
    end = {"stop_reason": "tool_use", "stop_sequence": None}
    events.append({"type": "content_block_stop", "index": 1})
    events.append({"type": "message_delta", "delta": end, "usage": {"output_tokens": 20}})
    events.append({"type": "message_stop"})
    return [sse(event, event["type"]) for event in events]
