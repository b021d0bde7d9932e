"""The model and the streaming that a URL tells."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.understanding.urls import Called, called

VERTEX = "/v1/projects/p/locations/us-east5/publishers"
BEDROCK = "/model/anthropic.claude-3-5-sonnet-20241022-v2%3A0"

STREAMED = {
    "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse&key=x": "gemini-2.5-pro",
    "/v1beta/models/gemini-2.5-pro%3AstreamGenerateContent": "gemini-2.5-pro",
    "/v1beta/models/gemini-2.5-flash:generateContent?alt=sse": "gemini-2.5-flash",
    "/v1beta/tunedModels/mine-7:streamGenerateContent": "mine-7",
    f"{VERTEX}/anthropic/models/claude-sonnet-4@20250514:streamRawPredict": "claude-sonnet-4@20250514",
    f"{VERTEX}/google/models/gemini-2.5-pro:serverStreamingPredict": "gemini-2.5-pro",
    f"{BEDROCK}/invoke-with-response-stream": "anthropic.claude-3-5-sonnet-20241022-v2:0",
    "/bedrock/model/us.amazon.nova-pro-v1%3A0/converse-stream": "us.amazon.nova-pro-v1:0",
}
WHOLE = {
    "/v1beta/models/gemini-2.5-flash:generateContent": "gemini-2.5-flash",
    "/v1beta/models/gemini-embedding-001:batchEmbedContents": "gemini-embedding-001",
    f"{VERTEX}/anthropic/models/claude-sonnet-4@20250514:rawPredict": "claude-sonnet-4@20250514",
    f"{BEDROCK}/invoke": "anthropic.claude-3-5-sonnet-20241022-v2:0",
    "/model/arn:aws:bedrock:us-east-1:1:inference-profile/us.m-v1:0/converse": (
        "arn:aws:bedrock:us-east-1:1:inference-profile/us.m-v1:0"
    ),
    "/model/arn%3Aaws%3Abedrock%3Aeu%3A1%3Aprompt-router%2Fx/invoke": "arn:aws:bedrock:eu:1:prompt-router/x",
    "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21": "my-gpt",
    "/openai/deployments/my%20gpt/embeddings": "my gpt",
    "/openai/realtime?api-version=1&deployment=rt": "rt",
    "/v1/realtime?model=gpt-realtime": "gpt-realtime",
    "/v1/realtime?intent=x&model=gpt%2Drealtime#f": "gpt-realtime",
    "/client/v4/accounts/a/ai/run/@cf/meta/llama-3.1-8b-instruct": "@cf/meta/llama-3.1-8b-instruct",
    "/v1/models/meta/meta-llama-3-8b/predictions": "meta/meta-llama-3-8b",
}
NONE = (
    *("", "/", "?", "/v1/chat/completions", "/models/x.gguf", "/v1/models", "/v1/models/gpt-5"),
    *("/v1/models/llama3:latest", "/models/llama3:8b", "/model/x", "/model/invoke", "/model//invoke"),
    *("/a/model/x/invoke/more", "/openai/deployments", "/cars?model=fiat", "/v1beta/models/:generateContent"),
)


class UrlTests(SynchronousTestCase):
    def test_streamed(self) -> None:
        """Methods that stream, and `alt=sse`."""
        for path, model in STREAMED.items():
            self.assertEqual(called(f"https://h:1{path}"), Called(model, True), path)
            self.assertEqual(called(path), Called(model, True), path)

    def test_whole(self) -> None:
        """Methods that do not stream, or leave it to the body."""
        for path, model in WHOLE.items():
            self.assertEqual(called(f"https://h{path}"), Called(model, False), path)

    def test_none(self) -> None:
        """Other addresses name no model: neither files nor lists of models."""
        for path in NONE:
            self.assertEqual(called(f"https://h{path}"), Called(), path)
        self.assertEqual(called("https://h/v1internal:streamGenerateContent?alt=sse"), Called(None, True))

    @given(st.text(st.sampled_from("/:?&=%@.amodelsinvk2"), max_size=40) | st.text())
    def test_anything(self, url: str) -> None:
        """Any text is read, and a model is never empty."""
        self.assertNotEqual(called(url).model, "")

    def test_long(self) -> None:
        """The time does not grow with the square of the length."""
        for piece in ("/model/", "/models/x:", "/models/a/", "&model", "/model/x/invoke"):
            called(piece * 1_000_000)
