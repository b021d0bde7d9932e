"""The commands: each queries a source, renders the results and writes them."""

from __future__ import annotations

import os
import time
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from logging_proxy.cli import rebuilding, render, units
from logging_proxy.cli.choosing import Choice, choose, log_dir_of
from logging_proxy.cli.following import Following, is_wanted
from logging_proxy.cli.matching import Search
from logging_proxy.cli.sources import Document, Source, Trouble
from logging_proxy.cli.statistics import Statistics, statistics_lines
from logging_proxy.cli.tables import EXCHANGES, Layout, exchange_cells, is_short
from logging_proxy.cli.terminal import Progress, Terminal
from logging_proxy.index import BadFilter, parse_filters
from logging_proxy.index.columns import FILTERS, iso_time
from logging_proxy.index.filters import TIMES, read_time
from logging_proxy.service.console import safe

AFTER_GAP = 1000
"""Number of rows to list after the live feed has skipped events."""

REDRAW = 0.1
"""Seconds between two redraws of the exchanges under way."""


def _no_note(text: str) -> None:
    """Discard a note: on pipes there are none."""


@dataclass(frozen=True, slots=True)
class Context:
    """The environment of a command: terminal, environment variables, options."""

    terminal: Terminal
    environ: Mapping[str, str]
    options: Namespace

    @property
    def choice(self) -> Choice:
        given = self.options
        return Choice(*(getattr(given, name, None) for name in ("config", "url", "log_dir")))

    @property
    def json(self) -> bool:
        return getattr(self.options, "json", False)

    def source(self) -> Source:
        note = self.terminal.note if self.terminal.is_terminal else _no_note
        return choose(self.choice, self.environ, note, self.terminal.note)

    def filters(self) -> dict[str, str]:
        """
        The filters in the API's form, with times that do not depend on the zone of the server.

        Raises `BadFilter`.
        """
        now = datetime.now(UTC)
        given = {name: getattr(self.options, name, None) for name in (*FILTERS, *TIMES)}
        filters = {name: value for name, value in given.items() if value is not None}
        for name, value in filters.items():
            if not value.strip() or "\0" in value:
                raise BadFilter(name, "nothing is given" if not value.strip() else "contains a NUL character")
        parse_filters(filters, now)
        for name in TIMES:
            if name in filters:
                filters[name] = iso_time(read_time(name, filters[name], now))
        return filters


def ls(context: Context) -> None:
    """`logging-proxy ls`."""
    filters = context.filters()
    rows = list(islice(context.source().list(filters), context.options.limit))
    if context.json:
        context.terminal.lines(map(render.json_line, rows))
        return
    write_rows(context.terminal, rows)


def write_rows(terminal: Terminal, rows: list[Document]) -> Layout:
    """Print the table of exchanges; return its layout, for further rows."""
    cells = [exchange_cells(row, is_short(terminal.columns)) for row in rows]
    layout = Layout(EXCHANGES, cells, terminal.columns)
    if rows:
        terminal.lines([layout.heading(terminal.paint)])
        terminal.lines(layout.line(each, terminal.paint) for each in cells)
    else:
        terminal.note("no exchanges")
    return layout


# --- search ------------------------------------------------------------------------


def search(context: Context) -> None:
    """`logging-proxy search`."""
    filters = context.filters()
    terminal, text = context.terminal, " ".join(context.options.text)
    found = islice(context.source().search(text, filters), context.options.limit)
    if context.json:
        terminal.lines(
            render.json_line({**each.row, "found_in": each.side, "snippet": each.text}) for each in found
        )
        return
    results = list(found)
    if not results:
        raise Trouble(f"nothing found for {safe(text, 100)}")
    cells = [exchange_cells(each.row, is_short(terminal.columns)) for each in results]
    layout = Layout(EXCHANGES, cells, terminal.columns)
    terminal.lines([layout.heading(terminal.paint)])
    for each, row in zip(results, cells, strict=True):
        terminal.lines([layout.line(row, terminal.paint)])
        if each.text:
            terminal.lines([render.snippet_line(each, Search(text), terminal.paint, terminal.columns)])


# --- tail --------------------------------------------------------------------------


def tail(context: Context) -> None:
    """`logging-proxy tail`."""
    filters = context.filters()
    wanted = parse_filters(filters)
    source = context.source()
    rows = list(islice(source.list(filters), max(context.options.limit, 50)))
    following = Following()
    following.start_with(rows, time.monotonic())
    ended = [row for row in rows if row.get("outcome") is not None][: context.options.limit]
    ended.reverse()
    view = _TailView(context, ended)
    drawn = 0.0
    for event in source.live():
        now = time.monotonic()
        done = [*following.due(now), *(following.take(event, now) if event else ())]
        if event is not None and event.get("type") == "gap":
            done += following.after_gap(islice(source.list(filters), AFTER_GAP), now)
        shown = [row for row in done if is_wanted(row, wanted)]
        if shown or event is None or now - drawn > REDRAW:
            under_way = [row for row in following.under_way(now) if is_wanted(row, wanted)]
            view.show(shown, under_way)
            drawn = now


class _TailView:
    """Finished rows, and below them, on a terminal, the rows under way, which are redrawn."""

    def __init__(self, context: Context, rows: list[Document]) -> None:
        self._terminal = context.terminal
        self._json = context.json
        cells = [self._cells(row) for row in rows]
        self._layout = Layout(EXCHANGES, cells, self._terminal.columns)
        if not self._json:
            self._terminal.line(self._layout.heading(self._terminal.paint))
        self.show(rows, [])

    def show(self, ended: list[Document], under_way: list[Document]) -> None:
        if self._json:
            for row in ended:
                self._terminal.line(render.json_line(row))
            return
        self._terminal.change(map(self._line, ended), [self._line(row) for row in under_way])

    def _line(self, row: Document) -> str:
        return self._layout.line(self._cells(row), self._terminal.paint)

    def _cells(self, row: Document) -> list[tuple[str, str]]:
        return exchange_cells(row, is_short(self._terminal.columns))


# --- stats and reindex ---------------------------------------------------------------


def stats(context: Context) -> None:
    """`logging-proxy stats`."""
    filters = context.filters()
    statistics = Statistics()
    progress = Progress(context.terminal.err, "reading")
    for number, row in enumerate(context.source().list(filters)):
        statistics.add(row)
        if number % 1000 == 999:
            progress.show(number + 1, None, f"{number + 1:,} exchanges")
    progress.clear()
    if context.json:
        context.terminal.lines([render.json_line(statistics.document())])
    else:
        context.terminal.lines(statistics_lines(statistics, context.terminal.paint, context.terminal.columns))


def reindex(context: Context) -> None:
    """`logging-proxy reindex`."""
    log_dir = log_dir_of(context.choice)
    if not os.path.isdir(log_dir):
        raise Trouble(f"{log_dir}: no such directory; select it with --config or --log-dir")
    if getattr(context.options, "url", None) is not None:
        raise Trouble("reindex needs access to the files: use --config or --log-dir instead of --url")
    missing = context.options.missing
    began = time.monotonic()
    bar = Progress(context.terminal.err, "indexing")
    added = total = 0
    unreadable = ""
    try:
        for step in rebuilding.add_missing(log_dir) if missing else rebuilding.rebuild_index(log_dir):
            added, total = step.added, step.total
            if step.unreadable:
                unreadable = f"{step.unreadable} files could not be read: {step.example}"
            bar.show(step.done, step.total, f"{step.added:,} exchanges")
    finally:
        bar.clear()
    seconds = time.monotonic() - began
    if unreadable:
        context.terminal.note(safe(unreadable))
    if context.json:
        value = {"log_dir": log_dir, "files": total, "added": added, "seconds": round(seconds, 3)}
        context.terminal.lines([render.json_line(value)])
        return
    words = "added to the index of" if missing else "in the new index of"
    context.terminal.lines([f"{added:,} exchanges {words} {log_dir}, in {units.duration(seconds * 1000)}."])
