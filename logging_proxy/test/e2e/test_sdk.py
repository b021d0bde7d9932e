"""The SDKs of OpenAI and Anthropic, through the proxy, to a real model."""

from __future__ import annotations

import hashlib
import json

from logging_proxy.demo.captures import Capture
from logging_proxy.demo.conversation import MODEL, TURNS
from logging_proxy.test.e2e.case import EndToEndCase
from logging_proxy.test.e2e.model import model_port, require

QUESTION = "Say hello."
PLAIN = {"temperature": 0}
"""
Always the same words.  When an answer happens to begin with an emoji, which is several tokens,
llama.cpp leaves the `message_start` event out, with and without a proxy.
"""

TOKENS = 8

AT_DONE = ("complete", "client_closed")
"""At "[DONE]" the OpenAI SDK closes the connection, whether or not the last chunk has come."""


class SDKTests(EndToEndCase):
    def setUp(self) -> None:
        super().setUp()
        require("openai", "anthropic")
        self.config = self.configure(model_port())
        self.start_proxy(self.config)
        self.route = f"http://127.0.0.1:{self.config.port}/up/"

    def complete(self, path: str, outcomes: tuple[str, ...] = ("complete",)) -> Capture:
        """The capture of the exchange with this path, which was a whole and successful one."""
        capture = self.capture_of(self.config, path)
        self.assertIn(capture.outcome, outcomes)
        for half in capture.halves:
            self.assertEqual(half.metadata["sha256"], hashlib.sha256(half.body).hexdigest())
        return capture


class OpenAITests(SDKTests):
    def setUp(self) -> None:
        super().setUp()
        import openai

        self.client = openai.OpenAI(base_url=f"{self.route}v1", api_key="x", max_retries=0, timeout=60)
        self.addCleanup(self.client.close)

    def test_chat(self) -> None:
        """A chat completion in one piece; the capture holds the question and the answer that the SDK gave."""
        answer = self.client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": QUESTION}], max_tokens=TOKENS
        )
        text = answer.choices[0].message.content
        self.assertTrue(text)
        capture = self.complete("/v1/chat/completions")
        assert capture.response is not None
        asked, answered = json.loads(capture.request.body), json.loads(capture.response.body)
        self.assertEqual(asked["messages"], [{"role": "user", "content": QUESTION}])
        self.assertEqual(answered["choices"][0]["message"]["content"], text)

    def test_chat_streamed(self) -> None:
        """A streamed chat completion comes in pieces and ends with its usage, also in the capture."""
        chunks = list(
            self.client.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": QUESTION}],
                max_tokens=TOKENS,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        usage = chunks[-1].usage
        assert usage is not None
        self.assertGreater(usage.completion_tokens, 0)
        response = self.complete("/v1/chat/completions", AT_DONE).response
        assert response is not None
        self.assertTrue(response.body.endswith(b"data: [DONE]\n\n"), response.body[-200:])
        self.assertEqual(response.body.count(b"data: {"), len(chunks))
        self.assertGreater(len(response.metadata["pieces"]), 1)

    def test_same_bytes(self) -> None:
        """The bytes that the SDK reads are those of the capture."""
        with self.client.chat.completions.with_streaming_response.create(
            model=MODEL, messages=[{"role": "user", "content": QUESTION}], max_tokens=TOKENS, stream=True
        ) as answer:
            body = b"".join(answer.iter_bytes())
        response = self.complete("/v1/chat/completions").response
        assert response is not None
        self.assertEqual(response.body, body)

    def test_responses_streamed(self) -> None:
        """The responses API streams its events to the last."""
        events = list(
            self.client.responses.create(model=MODEL, input=QUESTION, max_output_tokens=16, stream=True)
        )
        self.assertEqual(events[-1].type, "response.completed")
        self.complete("/v1/responses")

    def test_models(self) -> None:
        """A GET without a body."""
        self.assertEqual(len(list(self.client.models.list())), 1)
        self.assertEqual(self.complete("/v1/models").request.body, b"")

    def test_stream_left(self) -> None:
        """A program that stops reading a stream shows as a client that left."""
        stream = self.client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Count to a thousand."}],
            max_tokens=1000,
            stream=True,
        )
        next(iter(stream))
        stream.close()
        self.assertEqual(self.capture_of(self.config, "/v1/chat/completions").outcome, "client_closed")


class AnthropicTests(SDKTests):
    def setUp(self) -> None:
        super().setUp()
        import anthropic

        base_url = self.route.removesuffix("/")
        self.client = anthropic.Anthropic(base_url=base_url, api_key="x", max_retries=0, timeout=60)
        self.addCleanup(self.client.close)

    def test_message(self) -> None:
        """A message in one piece; the capture holds the text that the SDK gave."""
        message = self.client.messages.create(
            model=MODEL, messages=[{"role": "user", "content": QUESTION}], max_tokens=TOKENS, extra_body=PLAIN
        )
        response = self.complete("/v1/messages").response
        assert response is not None
        answered = json.loads(response.body)
        self.assertEqual(answered["content"][0]["text"], getattr(message.content[0], "text", None))

    def test_message_streamed(self) -> None:
        """A streamed message comes to its stop event, and so does its capture."""
        with self.client.messages.stream(
            model=MODEL, messages=[{"role": "user", "content": QUESTION}], max_tokens=TOKENS, extra_body=PLAIN
        ) as stream:
            text = "".join(stream.text_stream)
            message = stream.get_final_message()
        self.assertEqual(getattr(message.content[0], "text", None), text)
        self.assertGreater(message.usage.output_tokens, 0)
        response = self.complete("/v1/messages").response
        assert response is not None
        self.assertIn(b"event: message_stop\n", response.body)

    def test_count_tokens(self) -> None:
        """Counting tokens is an exchange as any other."""
        counted = self.client.messages.count_tokens(
            model=MODEL, messages=[{"role": "user", "content": QUESTION}]
        )
        response = self.complete("/v1/messages/count_tokens").response
        assert response is not None
        self.assertEqual(json.loads(response.body)["input_tokens"], counted.input_tokens)


class ConversationTests(SDKTests):
    def test_turns(self) -> None:
        """Every question of the demonstration is answered."""
        for turn in TURNS:
            self.assertTrue("".join(turn.ask(self.route, turn.question)).strip(), turn.title)
