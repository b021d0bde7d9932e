"""Of a conversation beyond the limit, what is new is always indexed, and its history not again."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable
from typing import Any

from logging_proxy.captures.reader import CaptureReader
from logging_proxy.index import Entry, Filters, IndexTrouble, Texts
from logging_proxy.index.adding import Adder, EntryMaker
from logging_proxy.index.rebuild import rebuild
from logging_proxy.test.index_stage import IndexTestCase, id_of, stored, write_capture
from logging_proxy.understanding.clean_text import HEAD_SHARE, TEXT_LIMIT
from logging_proxy.understanding.conversation import WITH_HISTORY, chain_of
from logging_proxy.understanding.text import Content, read_content

JSON = "application/json"


def filler(size: int) -> str:
    return "word " * (size // 5)


def turn(number: int, size: int) -> list[dict[str, Any]]:
    """A message of `size` characters with words of its own at the start, in the middle and at the end."""
    text = f"start{number} {filler(size // 2)} middle{number} {filler(size // 2)} end{number}"
    return [{"role": "user", "content": text}, {"role": "assistant", "content": f"answer{number}"}]


def words_of(number: int) -> list[str]:
    return [f"{place}{number}" for place in ("start", "middle", "end", "answer")]


def request(*turns: list[dict[str, Any]], place: str = "messages", **others: Any) -> bytes:
    return json.dumps({place: [message for each in turns for message in each], **others}).encode()


def read(body: bytes, known: int = 0) -> Content:
    return read_content(body, JSON, known=lambda chain: known)


class ChainTests(IndexTestCase):
    def test_continues(self) -> None:
        """A conversation that goes on has the hashes of the one before as its first."""
        one, two = turn(1, 100), turn(2, 100)
        self.assertEqual(chain_of([*one, *two])[:2], chain_of(one))
        self.assertNotEqual(chain_of([*two, *one])[:2], chain_of(one))
        self.assertEqual(len(set(chain_of(one * 20))), 40)

    def test_canonical(self) -> None:
        """Marks of caches, the order of members and the form of a text make no difference."""
        plain = {"role": "user", "content": "hello"}
        block = {"text": "hello", "type": "text", "cache_control": {"type": "ephemeral"}}
        for other in (
            {"content": "hello", "role": "user"},
            {"role": "user", "content": [block]},
            {**plain, "cache_control": {"type": "ephemeral"}},
        ):
            self.assertEqual(chain_of([other]), chain_of([plain]))
        self.assertNotEqual(chain_of([{**plain, "role": "system"}]), chain_of([plain]))

    def test_anything(self) -> None:
        """Messages may be anything."""
        self.assertEqual(len(chain_of([None, 1, "a", [], {}, {"content": [1, None]}, {"content": {}}])), 7)


class KeptTests(IndexTestCase):
    def assertKept(self, text: str, *words: str) -> None:
        for word in words:
            self.assertIn(word, text.split())

    def test_whole(self) -> None:
        """Up to the limit a text is kept whole, and nothing is asked."""
        body = request(*(turn(number, 90_000) for number in range(11)))
        content = read_content(body, JSON, known=self.fail)
        self.assertFalse(content.cut)
        for number in range(11):
            self.assertKept(content.text, *words_of(number))

    def test_new(self) -> None:
        """Beyond it, what is new is kept whole, then the instructions, then the messages before."""
        turns = [turn(number, 300_000) for number in range(5)]
        body = request(*turns, tools=[{"description": "sometool"}], system="somesystem")
        content = read(body, known=8)
        self.assertTrue(content.cut)
        self.assertKept(content.text, *words_of(4), "answer3", "sometool", "somesystem")
        self.assertNotIn("start0", content.text)
        self.assertLess(len(content.text), 300_000 + HEAD_SHARE + 1000)

    def test_small_new(self) -> None:
        """The history is kept as far as there is room for."""
        content = read(request(*(turn(number, 100_000) for number in range(12)), turn(12, 100)), known=24)
        self.assertKept(content.text, *words_of(12), *words_of(11), "end10")
        self.assertNotIn("start9", content.text)
        self.assertLessEqual(len(content.text), WITH_HISTORY + 10)

    def test_first_seen(self) -> None:
        """Of a conversation that continues nothing, instructions, start and end are kept."""
        turns = [turn(number, 300_000) for number in range(6)]
        for place in ("messages", "input", "contents"):
            content = read(request(*turns, place=place, tools=["sometool", filler(600_000)]))
            self.assertTrue(content.cut)
            self.assertKept(content.text, "sometool", "start0", *words_of(4), *words_of(5))
            self.assertLessEqual(len(content.text), TEXT_LIMIT + 10)

    def test_all_new(self) -> None:
        """What is new may be beyond the limit by itself."""
        content = read(request(turn(0, 10), turn(1, 2 * TEXT_LIMIT)), known=2)
        self.assertKept(content.text, "start1", "end1", "answer1")
        self.assertLessEqual(len(content.text), TEXT_LIMIT + 10)

    def test_other_bodies(self) -> None:
        """A text that is no conversation, and a body of which a part is missing, are said to be cut."""
        self.assertTrue(read_content(filler(TEXT_LIMIT + 10).encode(), "text/plain").cut)
        self.assertTrue(read_content(json.dumps([filler(TEXT_LIMIT + 10)]).encode(), JSON).cut)
        self.assertTrue(read_content(b'{"a": "b', JSON, cut=True).cut)
        self.assertFalse(read_content(b'{"a": "b"}', JSON).cut)


class IndexTests(IndexTestCase):
    """Ten turns, of which the later ones are beyond the limit."""

    TURNS = 10

    def setUp(self) -> None:
        self.log_dir = self.mktemp()
        os.makedirs(self.log_dir)
        turns = [turn(number, 200_000) for number in range(self.TURNS)]
        self.bodies = [request(*turns[: number + 1]) for number in range(self.TURNS)]
        for number, body in enumerate(self.bodies):
            write_capture(self.log_dir, number, body, b"{}")

    def texts(self, path: str) -> list[Texts | None]:
        index = self.make(path)
        return [index.texts(id_of(number)) for number in range(self.TURNS)]

    def rebuilt(self) -> str:
        index = self.make()
        for _ in rebuild(CaptureReader(self.log_dir), index):
            pass
        return index.path

    def test_each_turn(self) -> None:
        """Every turn is found where it was new, and the histories are not indexed again in full."""
        path = self.rebuilt()
        index = self.make(path)
        for number in range(self.TURNS):
            for word in words_of(number):
                self.assertIn(id_of(number), self.found(index, word), word)
        sizes = [len(texts.request) for texts in self.texts(path) if texts]
        self.assertGreater(sizes[4], 1_000_000)
        self.assertTrue(all(size < 300_000 for size in sizes[5:]), sizes)
        marked = [row.text_cut for row in index.list(Filters()).rows]
        self.assertEqual(marked, [True] * 5 + [False] * 5)

    def test_as_stored(self) -> None:
        """A rebuild gives what was indexed when the exchanges were stored, in one batch or in several."""
        wanted = self.texts(self.rebuilt())
        for batch in (1, self.TURNS):
            index = self.make()
            for at in range(0, self.TURNS, batch):
                maker, adder = EntryMaker(CaptureReader(self.log_dir), index), Adder(index)
                for number in range(at, at + batch):
                    adder.take(maker.of_stored(stored(number, self.bodies[number], b"{}")))
                adder.flush()
            self.assertEqual(self.texts(index.path), wanted)

    def test_index_in_trouble(self) -> None:
        """An index that cannot be asked is in trouble: the exchange is not indexed without its text."""
        index = self.make()
        maker = EntryMaker(CaptureReader(self.log_dir), index)
        index.close()
        self.assertRaises(IndexTrouble, maker.of_stored, stored(6, self.bodies[6], b"{}"))

    def test_without_text(self) -> None:
        """An exchange that is indexed without its text has not what the next one leaves out."""
        index = self.make()
        maker = EntryMaker(CaptureReader(self.log_dir), index)
        entry = maker.of_stored(stored(5, self.bodies[5], b"{}"))
        assert entry is not None
        self.assertNotEqual(entry.tail, 0)
        add = index.add

        def fails_with_text(entries: Iterable[Entry]) -> None:
            entries = list(entries)
            if any(each.texts.request for each in entries):
                raise IndexTrouble("no text") from sqlite3.DataError()
            add(entries)

        self.patch(index, "add", fails_with_text)
        adder = Adder(index)
        adder.take(entry)
        adder.flush()
        self.assertEqual(index.texts(id_of(5)), Texts())
        self.assertEqual(index.tails([entry.tail]), set())

    def test_deleted(self) -> None:
        """When the exchange before was deleted, its words are found in the next one that is indexed."""
        index = self.make(self.rebuilt())
        index.delete([id_of(number) for number in range(self.TURNS)])
        entry = EntryMaker(CaptureReader(self.log_dir), index).of_stored(stored(6, self.bodies[6], b"{}"))
        assert entry is not None
        index.add([entry])
        self.assertEqual(self.found(index, "middle3"), [id_of(6)])
