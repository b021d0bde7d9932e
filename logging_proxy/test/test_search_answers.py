"""Index and files give the same answer to the same words, and a word is found in any spelling."""

from __future__ import annotations

import json
import os
import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from logging_proxy.captures.reader import CaptureReader
from logging_proxy.cli.directory import DirectorySource
from logging_proxy.cli.matching import Search
from logging_proxy.index import Filters, SqliteIndex
from logging_proxy.index.folding import fold
from logging_proxy.index.inner_words import inner_words
from logging_proxy.index.rebuild import rebuild
from logging_proxy.index.sqlite import FILE
from logging_proxy.index.unindexed import UnindexedSearch
from logging_proxy.test.index_stage import IndexTestCase, entry, write_capture

DECOMPOSED = unicodedata.normalize("NFD", "café über データ 데이터베이스에서")

FOUND: tuple[tuple[str, str], ...] = (
    ("The rate-limit was reached", "rate"),
    ("The rate-limit was reached", "RATE-LIMIT"),
    ("The rate-limit was reached", '"limit was"'),
    ("The rate-limit was reached", "“limit was”"),
    ("The rate-limit was reached", "rea* -other"),
    ("anything at all", "-other"),
    # Accents, case and letters with two forms.
    ("Café à la naïveté", "cafe NAIVETE"),
    ("cafe", "Café"),
    ("Straße", "STRASSE"),
    ("STRASSE", "straße"),
    ("DİYARBAKIR'da", "diyarbakir"),
    ("diyarbakır", "DIYARBAKIR"),
    ("Łódź, Ødegård", "lodz odegard"),
    ("Ὀδυσσεύς ἦλθεν", "ΟΔΥΣΣΕΥΣ"),
    ("Ο ΟΔΥΣΣΕΥΣ", "οδυσσευς"),
    ("λόγος", "λογοσ"),
    ("съёмка Москвой", "СЪЕМКА москвой"),
    ("مَكْتَبَة", "مكتبة"),
    ("Việt Nam", "viet"),
    # Forms for compatibility, composed and decomposed.
    ("the ﬁle of oﬃces", "file"),
    ("the ﬁle of oﬃces", "offices"),
    ("ＡＰＩ　ｋｅｙ", '"api key"'),
    ("api key", "ＡＰＩ"),
    ("ﾃﾞｰﾀﾍﾞｰｽに接続", "データベース"),
    ("データベース", "ﾃﾞｰﾀ"),
    (DECOMPOSED, "café"),
    (DECOMPOSED, "über"),
    (DECOMPOSED, "データ"),
    (DECOMPOSED, "데이터"),
    (unicodedata.normalize("NFD", "これがデータガ"), "これがデータガ"),
    ("café", unicodedata.normalize("NFD", "café")),
    ("mc² ①", "mc2 1"),
    ("data\xadbase zero\u200bwidth", "database zerowidth"),
    ("done\U0001fae1ok", "done"),
    # Scripts without spaces, and Hangul, whose words grow at their ends.
    ("日本語の勉強", "日本"),
    ("请连接失败的数据库", "数据库 连接失败"),
    ("데이터베이스에서 오류가", "데이터베이스"),
    ("데이터베이스에서 오류가", "오류"),
    ("데이터베이스에서 오류가", "데이*"),
    ("API를 호출", "api 호출"),
    ("ที่นี่ภาษาไทย", "ภาษา"),
    # Identifiers.
    ("call getUserName(x)", "user"),
    ("call getUserName(x)", "getUserName"),
    ("call getUserName(x)", "getusername"),
    ("call getUserName(x)", "getUser*"),
    ("call getUserName(x)", "Nam*"),
    ("call getUserName(x)", '"user name"'),
    ("call getUserName(x)", "get_user_name"),
    ("call getUserName(x)", '"call getUserName x"'),
    ("new HTTPServer, XMLHttpRequest", "server request"),
    ("get_user_name", "user"),
    ("get_user_name", "get_user_name"),
    ("get_user_name", '"user_name"'),
    ("MAX_RETRY_COUNT", "retry"),
    ("userID iPhone", "id phone"),
    # Paths and addresses.
    ("open /src/main.py please", "/src/main.py"),
    ("open /src/main.py please", "main.py"),
    ("open /src/main.py please", "main"),
    ("at https://api.example.com/v1/chat?x=1", "api.example.com/v1"),
    ("at https://api.example.com/v1/chat?x=1", "https://api.example.com/v1/chat"),
    ("at https://api.example.com/v1/chat?x=1", "example.com"),
    ("write to joe.doe@example.com", "joe.doe@example.com"),
    ("GET /q?name=hello%20world%2C%E6%97%A5%E6%9C%AC", "world 日本"),
    (r"C:\Users\new\table.txt", r"C:\Users\new\table.txt"),
    (r"C:\Users\new\table.txt", "new table"),
    ("run with --log-dir /tmp", "--log-dir"),
    # Escapes that were left in a text.
    (r"print(\"first\nsecond\tthird\")", "second third first"),
    (r"caf\u00e9 \u6570\u636e\u5e93", "café 数据"),
    (r"caf\\u00e9", "cafe"),
)

NOT_FOUND: tuple[tuple[str, str], ...] = (
    ("The rate-limit was reached", '"limit rate"'),
    ("The rate-limit was reached", "rat"),
    ("The rate-limit was reached", "rate -limit"),
    ("日本語の勉強", "本日"),
    ("데이터베이스", "터이"),
    ("getUserName", '"name get"'),
    ("getUserName parseFile", '"name parse"'),
    ("getUserName", "-user"),
    ("getUserName", "sername"),
    ("word", "..."),
    ("word", '"'),
)


class AnswersTests(IndexTestCase):
    def check(self, text: str, q: str, wanted: bool) -> None:
        index = self.make()
        index.add([entry(1, text)])
        self.assertEqual(bool(self.found(index, q)), wanted, ("the index", text, q))
        with UnindexedSearch(q) as search:
            self.assertEqual(search.matches(text), wanted, ("the files", text, q))
            self.assertEqual(search.matches("", text), wanted, ("the files", text, q))

    def test_found(self) -> None:
        """A word is found in any of its spellings, by the index and without it."""
        for text, q in FOUND:
            self.check(text, q, True)

    def test_not_found(self) -> None:
        """Other words, other orders and what is excluded are not found."""
        for text, q in NOT_FOUND:
            self.check(text, q, False)

    def test_shown(self) -> None:
        """A text that was found has a place that can be shown."""
        for text, q in FOUND:
            if not q.startswith("-"):
                self.assertTrue(Search(q).snippet(text), (text, q))

    def test_deleted(self) -> None:
        """An entry leaves nothing behind in the full text, whatever its letters."""
        index = self.make()
        index.add([entry(number, text) for number, (text, _) in enumerate(FOUND)])
        index.delete([entry(number).row.id for number in range(len(FOUND))])
        index._connection.execute("INSERT INTO words (words) VALUES ('integrity-check')")
        index._connection.execute("CREATE VIRTUAL TABLE temp.v USING fts5vocab('main', 'words', 'row')")
        self.assertEqual(index._connection.execute("SELECT term FROM temp.v").fetchall(), [])

    def test_any_text(self) -> None:
        """Whatever the text and the search, both answer alike."""
        index = self.make()
        pieces = st.sampled_from(
            [
                "rate",
                "getName",
                "Café",
                "x_y",
                "ß",
                "日本",
                "it's",
                "ﬁ",
                "데이",
                "ﾃﾞ",
                "\\n",
                "%20",
                "ς",
                "İ",
                " ",
                "-",
                '"',
                "*",
            ]
        )
        texts = st.one_of(st.lists(pieces, max_size=8).map("".join), st.text(max_size=20))

        @settings(max_examples=150, deadline=None)
        @given(texts, texts, texts)
        def check(request: str, response: str, q: str) -> None:
            index.add([entry(1, request, response)])
            with UnindexedSearch(q) as search:
                found = search.matches(request, response)
            self.assertEqual(bool(index.list(Filters(q=q)).rows), found)

        check()

    def test_directory(self) -> None:
        """Over a whole directory of bodies, both find the same exchanges and show the same places."""
        log_dir = self.mktemp()
        os.makedirs(log_dir)
        for number, (text, _) in enumerate(FOUND):
            inner = json.dumps({"text": text, "line": "one\ntwo"})
            write_capture(log_dir, number, json.dumps({"input": [{"output": inner}]}).encode(), b"{}")
        wanted = [[*DirectorySource(log_dir).search(q, {})] for _, q in FOUND[::6]]
        index = SqliteIndex(os.path.join(log_dir, FILE))
        for _ in rebuild(CaptureReader(log_dir), index):
            pass
        index.mark_whole(True)
        index.close()
        for found, (text, q) in zip(wanted, FOUND[::6], strict=True):
            self.assertEqual([*DirectorySource(log_dir).search(q, {})], found, (text, q))
            self.assertTrue(found)

    def test_phrases_end_with_a_body(self) -> None:
        """A phrase does not go on from the request to the response."""
        index = self.make()
        index.add([entry(1, "one", "two")])
        self.assertEqual(self.found(index, '"one two"'), [])
        with UnindexedSearch('"one two"') as search:
            self.assertFalse(search.matches("one", "two"))

    def test_long_marks(self) -> None:
        """Marks without end, of which all belong to one letter, are folded in pieces."""
        self.assertEqual(fold("a" + "\u0315\u0300" * 10_000 + " b")[-2:], " b")

    def test_random_letters(self) -> None:
        """Ids of random letters and very long words are not taken apart."""
        self.assertEqual(inner_words("toolu_01AbCdEfGh9XyZ " + "aB" * 100), [])

    def test_secret_behind_an_escape(self) -> None:
        """A key whose prefix was escaped is redacted when the escape is read."""
        for text in (r"\u0073k-ant-api03-" + "a1" * 30, "%73k-ant-api03-" + "a1" * 30):
            self.assertNotIn("a1a1", "".join(inner_words(text)))
