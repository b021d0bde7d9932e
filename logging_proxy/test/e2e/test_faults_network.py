"""A bad network between proxy and upstream: what a relay does to the bytes, and how exchanges end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.test.stress.peers import Answer, Connection, Request, Upstream, call, response
from logging_proxy.test.stress.relay import Relay, Toxics
from logging_proxy.test.stress.stage import Stage, captures

BODY = bytes(range(256)) * 400


@dataclass(frozen=True, slots=True)
class Ended:
    """How an exchange ended: for the client, and for the capture."""

    answer: Answer
    outcome: str
    kept: bytes


async def echo(request: Request, connection: Connection) -> None:
    """The request's body, as the response's."""
    await connection.send(response(request.body))


async def through(stage: Stage, back: Toxics, patience: float) -> Ended:
    """One exchange through a relay that does `back` to the response, and a proxy with this patience."""
    async with Upstream(echo) as upstream, Relay(upstream.port) as relay:
        relay.back = back
        setup = stage.configure(
            {"up": relay.url}, http_client={"head_timeout": patience, "stream_timeout": patience}
        )
        await asyncio.to_thread(stage.start, setup)
        answer = await call(setup.port, "POST", "/up/", body=BODY)
        (capture,) = await asyncio.to_thread(captures, setup.log_dir, 1)
    assert capture.response is not None
    return Ended(answer, capture.outcome, capture.response.body)


class NetworkTests(SynchronousTestCase):
    def end(self, patience: int = 60, **toxics: float) -> Ended:
        """How an exchange ends whose response passes such a network; the proxy waits `patience` seconds."""
        with Stage() as stage:
            return asyncio.run(through(stage, Toxics(**toxics), patience))  # type: ignore[arg-type]

    def assert_whole(self, ended: Ended) -> None:
        self.assertEqual((ended.outcome, ended.answer.whole), ("complete", True))
        self.assertEqual((bytes(ended.answer.body), ended.kept), (BODY, BODY))

    def assert_cut(self, ended: Ended, outcome: str) -> None:
        self.assertEqual((ended.outcome, ended.answer.whole), (outcome, False))
        self.assertEqual(ended.kept, bytes(ended.answer.body))
        self.assertTrue(BODY.startswith(ended.kept))

    def test_slow(self) -> None:
        """A slow and narrow network that slices what it carries changes nothing."""
        self.assert_whole(self.end(latency=0.05, bandwidth=300_000, slicer=999, slow_close=0.1))

    def test_cut(self) -> None:
        """A response that the network cuts is cut for the client, and its outcome says so."""
        self.assert_cut(self.end(limit_data=50_000), "upstream_closed")

    def test_reset(self) -> None:
        """So is one that the network resets in the middle."""
        self.assert_cut(self.end(bandwidth=100_000, reset_peer=0.3), "upstream_reset")

    def test_silent(self) -> None:
        """A network that swallows the response is an upstream that does not answer in time."""
        ended = self.end(patience=1, timeout=60)
        self.assertEqual((ended.answer.status, ended.outcome), (504, "upstream_timeout"))
