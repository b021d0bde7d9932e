"""`GET /health` and `GET /metrics`: the state of the server, without any captured content."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.web.server import Request

from logging_proxy.logserver.store import gather
from logging_proxy.logserver.telemetry.counters import ServerStatus, Telemetry, behind
from logging_proxy.logserver.telemetry.prometheus import CONTENT_TYPE
from logging_proxy.logserver.web.answers import Answer, ProblemResource, give, json_answer
from logging_proxy.net import shortcut


class Health(ProblemResource):
    """`GET /health`: 200 while captures can be stored, else 503; `reason` is the worst trouble."""

    def __init__(
        self, seconds: Callable[[], float], wall_ns: Callable[[], int], status: Callable[[], ServerStatus]
    ) -> None:
        super().__init__()
        self._seconds = seconds
        self._began = seconds()
        self._wall_ns = wall_ns
        self._status = status

    def render_GET(self, request: Request) -> bytes:
        status = self._status()
        trouble = status.trouble
        value: dict[str, Any] = {
            "status": "trouble" if trouble else "ok",
            "uptime_seconds": round(self._seconds() - self._began, 3),
            **_storage(status, self._wall_ns()),
            **_kept(status),
            "compiled": {"shortcut": shortcut.compiled, "modules": not gather.__file__.endswith(".py")},
        }
        if trouble:
            value["reason"] = trouble
        return give(request, json_answer(value, 503 if status.storage.reason else 200))


def _storage(status: ServerStatus, wall_ns: int) -> dict[str, Any]:
    storage = status.storage
    return {
        "exchanges_stored": storage.stored,
        "exchanges_open": storage.open,
        "exchanges_lost": storage.lost_exchanges,
        "bytes_lost": storage.lost_bytes,
        "spools": storage.spools,
        "spool_backlog_bytes": storage.backlog,
        "spool_backlog_seconds": round(behind(storage, wall_ns), 3),
        "spool_damages": storage.damages,
        "viewers": status.viewers,
    }


def _kept(status: ServerStatus) -> dict[str, Any]:
    sizes, deleted = status.sizes, status.deleted
    return {
        "log_dir": {"bytes": sizes.log_dir_bytes, "files": sizes.log_dir_files},
        "index": {
            "exchanges": sizes.exchanges,
            "bytes": sizes.index_bytes,
            "waiting": status.index_waiting,
            "trouble": status.index_trouble or None,
            "adding": None
            if status.indexing is None
            else dict(zip(("done", "total"), status.indexing, strict=True)),
        },
        "retention": {"state": status.retention, "trouble": status.retention_trouble or None},
        "deleted": {"exchanges": deleted.exchanges, "bodies": deleted.bodies, "bytes": deleted.bytes},
    }


class Metrics(ProblemResource):
    """`GET /metrics`, in the Prometheus text format."""

    def __init__(
        self,
        seconds: Callable[[], float],
        wall_ns: Callable[[], int],
        telemetry: Telemetry,
        status: Callable[[], ServerStatus],
    ) -> None:
        super().__init__()
        self._seconds = seconds
        self._began = seconds()
        self._wall_ns = wall_ns
        self._telemetry = telemetry
        self._status = status

    def render_GET(self, request: Request) -> bytes:
        uptime = self._seconds() - self._began
        body = self._telemetry.exposition(self._status(), uptime, self._wall_ns())
        return give(request, Answer(200, CONTENT_TYPE, body))
