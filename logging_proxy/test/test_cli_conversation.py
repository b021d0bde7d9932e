"""A conversation as text."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.cli.conversation import conversation_lines, cost_words, usage_words
from logging_proxy.cli.paint import Paint


def part(role: str, kind: str = "text", **more: Any) -> dict[str, Any]:
    return {"role": role, "kind": kind, "text": "", **more}


UNDERSTOOD: dict[str, Any] = {
    "dialect": "openai-chat",
    "provider": "openai",
    "model": {"asked": "gpt-5", "answered": "gpt-5-2026"},
    "sentence": "The model called `Edit` (tool_calls) after 7.90 s.",
    "class": "ok",
    "usage": {"input_tokens": 49_626, "cached_tokens": 48_112, "output_tokens": 310, "reasoning_tokens": 120},
    "cost": {"nanodollars": 12_345_678, "source": "list", "partial": False, "billed": True},
    "timing": {"first_token_ms": 352.0, "first_text_ms": 900.0, "tokens_per_second": 74.0},
}


class ConversationTests(SynchronousTestCase):
    def lines(self, *parts: dict[str, Any], answer: Any = None, columns: int | None = None) -> list[str]:
        said = {"request": {"parts": list(parts), "settings": {"temperature": 0.7}}, "answer": answer}
        return list(conversation_lines(said, UNDERSTOOD, Paint(), columns))

    def test_facts(self) -> None:
        """Sentence, models, settings, tokens, cost and times stand at the top."""
        lines = self.lines()
        self.assertEqual(lines[0], UNDERSTOOD["sentence"])
        text = "\n".join(lines)
        for wanted in (
            "gpt-5 → gpt-5-2026 (openai-chat · openai)",
            "temperature 0.7",
            "in 49,626 (48,112 cached) · out 310 (120 reasoning)",
            "$0.0123 (list price)",
            "first token 352 ms · first text 900 ms · 74 tokens/s",
        ):
            self.assertIn(wanted, text)

    def test_new_parts(self) -> None:
        """What the model has seen before is counted; what is new to it is shown, and so is its answer."""
        lines = self.lines(
            part("system", text="Be brief."),
            part("user", text="old question"),
            part("assistant", text="old answer"),
            part("tool", "tool_result", text="exit 1", failed=True),
            part("user", text="new question"),
            answer={
                "parts": [part("assistant", "thinking", text="hm"), part("assistant", text="new answer")]
            },
        )
        text = "\n".join(lines)
        self.assertIn("[2 earlier parts of the conversation]", lines)
        self.assertIn("tool result, failed", lines)
        for shown in ("Be brief.", "exit 1", "new question", "hm", "new answer"):
            self.assertIn(f"  {shown}", lines)
        self.assertNotIn("old", text.replace("older", ""))

    def test_tool_call(self) -> None:
        """The arguments of a tool call stand by field, with their line ends."""
        call = part("assistant", "tool_call", name="Edit", arguments={"path": "a.py", "new": "x\ny", "n": 3})
        lines = self.lines(answer={"parts": [call]})
        self.assertEqual(lines[-5:], ["tool call Edit", "  path: a.py", "  new: x", "    y", "  n: 3"])

    def test_folded(self) -> None:
        """Of a long text the beginning and the end are shown, and how much is left out."""
        lines = self.lines(part("system", text="\n".join(f"line {number}" for number in range(100))))
        self.assertIn("  [… 91 lines …]", lines)
        self.assertEqual(lines[-1], "  line 99")

    def test_untrusted(self) -> None:
        """Nothing in a conversation acts on a terminal."""
        evil = "\x1b[31mred\r\nnext\x07"
        call = part("assistant", "tool_call", name=evil, arguments={evil: evil})
        lines = self.lines(part("user", text=evil), part(evil), answer={"parts": [call]})
        for line in lines:
            self.assertTrue(line.isprintable(), line)

    def test_words(self) -> None:
        """What is not known is left out; an estimate, a part and a plan are named."""
        self.assertEqual(usage_words({"usage": None}), "")
        self.assertEqual(
            usage_words({"usage": {"input_tokens": None, "output_tokens": 6, "estimated": True}}),
            "in - · out 6, estimated",
        )
        self.assertEqual(cost_words(None), "")
        cost = {"nanodollars": 2_500_000_000, "source": "list", "partial": True, "billed": False}
        self.assertEqual(cost_words(cost), "$2.50+ (list price, not billed)")
