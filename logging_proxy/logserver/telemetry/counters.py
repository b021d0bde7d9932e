"""
The metrics: counts and durations of exchanges, and the state of the server.

Labels are routes, methods, status classes and outcomes, never header values or paths.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from logging_proxy.captures.events import Ended, Event, ResponseStarted
from logging_proxy.captures.exchanges import Exchange, Side, verdict
from logging_proxy.captures.heads import known_head, status_class
from logging_proxy.logserver.ingest.spools import Status
from logging_proxy.logserver.telemetry.prometheus import Counter, Histogram, Labels, gauge, text

METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
"""Label values; any other method, which a client may invent, is counted as `other`."""

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
"""The default buckets of Prometheus, extended to the duration of long model responses."""

P = "logging_proxy"

_CLASSES = {status: f"{status_class(status)}xx" for status in range(1, 1000)}


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes as of the last measurement; None while a value is unknown."""

    log_dir_bytes: int | None = None
    log_dir_files: int | None = None
    index_bytes: int | None = None
    exchanges: int | None = None
    oldest: int | None = None
    """Microseconds since 1970."""


@dataclass(slots=True)
class Deleted:
    """Totals of retention since the start."""

    exchanges: int = 0
    bodies: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """The state of all parts of the server at one moment."""

    storage: Status
    sizes: Sizes
    deleted: Deleted
    in_flight: Mapping[str, int]
    body_bytes: Mapping[str, tuple[int, int]]
    """Of requests and of responses, by route."""
    viewers: int = 0
    index_waiting: int = 0
    index_trouble: str = ""
    indexing: tuple[int, int] | None = None
    """Progress of adding missing captures: files read, and files in all."""
    retention: str = "off"
    """`on`, `off`, or `waiting` until the index has all captures."""
    retention_trouble: str = ""

    @property
    def trouble(self) -> str:
        """The worst present trouble; empty when there is none."""
        if self.storage.reason:
            return self.storage.reason
        if self.index_trouble:
            return f"index: {self.index_trouble}"
        return f"retention: {self.retention_trouble}" if self.retention_trouble else ""


class Telemetry:
    """Counts exchanges.  `take` is called on the storage thread, for every event except pieces."""

    def __init__(self) -> None:
        self._exchanges = Counter(
            f"{P}_exchanges_total", "Exchanges that have ended.", ("route", "method", "status", "outcome")
        )
        self._duration = Histogram(
            f"{P}_exchange_duration_seconds", "From the request's head to the end.", SECONDS, ("route",)
        )
        self._first_byte = Histogram(
            f"{P}_time_to_first_byte_seconds",
            "From the request's head to the response's head.",
            SECONDS,
            ("route",),
        )

    def take(self, event: Event) -> None:
        kind = type(event)
        if kind is ResponseStarted:
            exchange = event[0]
            response = exchange.response
            if response is not None and not response.ours:
                self._first_byte.observe(response.started / 1e9, exchange.opening.route_name)
        elif kind is Ended:
            self._end(event[0])

    def _end(self, exchange: Exchange) -> None:
        opening = exchange.opening
        route, method = opening.route_name, opening.method
        status = known_head(exchange.response.head).status if exchange.response else None
        self._exchanges.add(
            1,
            route,
            method if method in METHODS else "other",
            _CLASSES.get(status, "none") if status is not None else "none",
            verdict(exchange)[0],
        )
        self._duration.observe(exchange.elapsed / 1e9, route)

    def exposition(self, status: ServerStatus, uptime: float, wall_ns: int) -> bytes:
        """All metrics as text."""
        return text(self._lines(status, uptime, wall_ns))

    def _lines(self, status: ServerStatus, uptime: float, wall_ns: int) -> Iterator[str]:
        for metric in (self._exchanges, self._duration, self._first_byte):
            yield from metric.lines()
        passed: dict[Labels, float] = {
            (route, side): float(size)
            for route, sizes in status.body_bytes.items()
            for side, size in zip(Side, sizes, strict=True)
        }
        yield from gauge(f"{P}_body_bytes_total", "Bytes of bodies.", passed, ("route", "side"), "counter")
        flying: dict[Labels, float] = {(route,): float(count) for route, count in status.in_flight.items()}
        yield from gauge(f"{P}_exchanges_in_flight", "Exchanges under way.", flying, ("route",))
        yield from _storage(status.storage, wall_ns)
        yield from _kept(status)
        yield from gauge(f"{P}_live_viewers", "Viewers of the live feed.", status.viewers)
        yield from gauge(f"{P}_uptime_seconds", "Since the logging server started.", uptime)


def behind(status: Status, wall_ns: int) -> float:
    """Age of the oldest backlog in any spool, in seconds."""
    return 0.0 if status.behind_since is None else max(0.0, (wall_ns - status.behind_since) / 1e9)


def _storage(status: Status, wall_ns: int) -> Iterator[str]:
    yield from gauge(f"{P}_spool_backlog_bytes", "Bytes in spools, not read yet.", status.backlog)
    yield from gauge(
        f"{P}_spool_backlog_seconds", "Age of the oldest bytes in spools.", behind(status, wall_ns)
    )
    yield from gauge(f"{P}_spools", "Spools that are read.", status.spools)
    yield from gauge(f"{P}_storage_trouble", "1 while captures cannot be stored.", int(bool(status.trouble)))
    yield from gauge(
        f"{P}_recording_trouble", "1 while a proxy cannot write its spool.", int(bool(status.unwritten))
    )
    for name, help, value in (
        ("captures_stored", "Exchanges whose files are on disk.", status.stored),
        ("captures_lost", "Exchanges that proxies could not record in full.", status.lost_exchanges),
        ("capture_bytes_lost", "Bytes that proxies could not record.", status.lost_bytes),
        ("spool_damages", "Places in spools that could not be read.", status.damages),
    ):
        yield from gauge(f"{P}_{name}_total", help, value, kind="counter")


def _kept(status: ServerStatus) -> Iterator[str]:
    sizes, deleted = status.sizes, status.deleted
    for name, help, size in (
        ("log_dir_bytes", "Bytes of the captures' files.", sizes.log_dir_bytes),
        ("log_dir_files", "Files of captures.", sizes.log_dir_files),
        ("index_bytes", "Bytes of the index.", sizes.index_bytes),
        ("index_exchanges", "Exchanges in the index.", sizes.exchanges),
    ):
        if size is not None:
            yield from gauge(f"{P}_{name}", help, size)
    yield from gauge(f"{P}_index_waiting", "Exchanges on their way to the index.", status.index_waiting)
    yield from gauge(
        f"{P}_index_trouble", "1 while the index cannot be written.", int(bool(status.index_trouble))
    )
    yield from gauge(
        f"{P}_retention_trouble",
        "1 while old captures cannot be deleted.",
        int(bool(status.retention_trouble)),
    )
    for name, help, value in (
        ("deleted_exchanges", "Exchanges that retention has deleted.", deleted.exchanges),
        ("deleted_bodies", "Exchanges whose bytes retention has deleted.", deleted.bodies),
        ("deleted_bytes", "Bytes of files that retention has deleted.", deleted.bytes),
    ):
        yield from gauge(f"{P}_{name}_total", help, value, kind="counter")
