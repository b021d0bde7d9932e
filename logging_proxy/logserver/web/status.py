"""`GET /health` and `GET /metrics`: how the server stands, without anything of what was captured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.web.server import Request

from logging_proxy.logserver.store import gather
from logging_proxy.logserver.telemetry.counters import Standing, Telemetry, behind
from logging_proxy.logserver.telemetry.prometheus import CONTENT_TYPE
from logging_proxy.logserver.web.answers import Answer, ProblemResource, give, json_answer
from logging_proxy.net import shortcut


class Health(ProblemResource):
    """200 while captures can be stored, else 503; `reason` says what is wrong, there or elsewhere."""

    def __init__(
        self, seconds: Callable[[], float], wall_ns: Callable[[], int], standing: Callable[[], Standing]
    ) -> None:
        super().__init__()
        self._seconds = seconds
        self._began = seconds()
        self._wall_ns = wall_ns
        self._standing = standing

    def render_GET(self, request: Request) -> bytes:
        standing = self._standing()
        trouble = standing.trouble
        value: dict[str, Any] = {
            "status": "trouble" if trouble else "ok",
            "uptime_seconds": round(self._seconds() - self._began, 3),
            **_storage(standing, self._wall_ns()),
            **_kept(standing),
            "compiled": {"shortcut": shortcut.compiled, "modules": not gather.__file__.endswith(".py")},
        }
        if trouble:
            value["reason"] = trouble
        return give(request, json_answer(value, 503 if standing.status.reason else 200))


def _storage(standing: Standing, wall_ns: int) -> dict[str, Any]:
    status = standing.status
    return {
        "exchanges_stored": status.stored,
        "exchanges_open": status.open,
        "exchanges_lost": status.lost_exchanges,
        "bytes_lost": status.lost_bytes,
        "spools": status.spools,
        "spool_backlog_bytes": status.backlog,
        "spool_backlog_seconds": round(behind(status, wall_ns), 3),
        "spool_damages": status.damages,
        "viewers": standing.viewers,
    }


def _kept(standing: Standing) -> dict[str, Any]:
    sizes, deleted = standing.sizes, standing.deleted
    return {
        "log_dir": {"bytes": sizes.log_dir_bytes, "files": sizes.log_dir_files},
        "index": {
            "exchanges": sizes.exchanges,
            "bytes": sizes.index_bytes,
            "waiting": standing.index_waiting,
            "trouble": standing.index_trouble or None,
            "adding": None
            if standing.indexing is None
            else dict(zip(("done", "total"), standing.indexing, strict=True)),
        },
        "retention": {"state": standing.retention, "trouble": standing.retention_trouble or None},
        "deleted": {"exchanges": deleted.exchanges, "bodies": deleted.bodies, "bytes": deleted.bytes},
    }


class Metrics(ProblemResource):
    """What Prometheus collects."""

    def __init__(
        self,
        seconds: Callable[[], float],
        wall_ns: Callable[[], int],
        telemetry: Telemetry,
        standing: Callable[[], Standing],
    ) -> None:
        super().__init__()
        self._seconds = seconds
        self._began = seconds()
        self._wall_ns = wall_ns
        self._telemetry = telemetry
        self._standing = standing

    def render_GET(self, request: Request) -> bytes:
        uptime = self._seconds() - self._began
        body = self._telemetry.exposition(self._standing(), uptime, self._wall_ns())
        return give(request, Answer(200, CONTENT_TYPE, body))
