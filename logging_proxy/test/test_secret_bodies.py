"""Secrets in bodies of any form, and look-alikes: of the ones nothing stays, of the others everything."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.redaction.members import is_secret_member
from logging_proxy.redaction.redact import redact_text
from logging_proxy.understanding.charsets import charset_of
from logging_proxy.understanding.media_types import Form, form_of
from logging_proxy.understanding.redacted import redact_body, redact_bytes, redact_events
from logging_proxy.understanding.text import text_of

CANARY = "c4naryXy01abcDEF"
LONG = CANARY + "zQ7" * 10
"""As long as any key is."""

TEXTS = f"""
sk-proj-{LONG} sk-ant-api03-{LONG} sk-or-v1-{LONG} AIza{LONG} AQ.Ab8{LONG} ya29.{LONG} GOCSPX-{LONG}
pplx-{LONG} nvapi-{LONG} fw_{LONG} r8_{LONG} csk-{LONG} gsk_{LONG} xai-{LONG} hf_{LONG}
tgp_v1_{LONG} lsv2_pt_{LONG} tvly-{LONG} glpat-{LONG} github_pat_{LONG} ghp_{LONG} npm_{LONG}
sk_live_{LONG} rk_test_{LONG} whsec_{LONG} ek_{LONG} sbp_{LONG} 712345678:AA{LONG} SG.{LONG}.{LONG}
xoxb-{LONG} xapp-1-{LONG} hvs.{LONG} eyJhbGciOiJI.eyJ{LONG}.{LONG}
https://hooks.slack.com/services/T0/B0/{LONG} dop_v1_{LONG} pcsk_{LONG} ABSK{LONG}
"""
LINES = f"""
export X_API_KEY="{CANARY}"
GITHUB_TOKEN={CANARY}
DB_PASSWORD=C4nary!{CANARY}
$env:OPENAI_API_KEY = "{CANARY}"
api_key: {CANARY}
  client_secret: '{CANARY}'
password = "my {CANARY}"
apiKey: "{CANARY}",
os.environ["API_KEY"] = "{CANARY}"
api_key: str = "{CANARY}"
client.setApiKey("{CANARY}")
headers.set("Authorization", "Bearer {CANARY}")
curl -H 'x-api-key: {CANARY}' https://h.example
curl -u bob:{CANARY} https://h.example
tool --api-key {CANARY} --verbose
tool --token={CANARY}
Authorization: Bearer {CANARY}
authorization: BASIC {CANARY}==
Cookie: sid={CANARY}
X-Auth-Key: {CANARY}
postgres://bob:{CANARY}@db.example/x
https://{CANARY}@h.example/x
https://h.example/v1?key={CANARY}&a=1
Server=h;Password={CANARY};User=bob
AccountName=a;AccountKey={CANARY}==;EndpointSuffix=x
<password>{CANARY}</password>
<add key="password" value="{CANARY}"/>
<input type="hidden" name="csrf_token" value="{CANARY}">
machine h login bob password {CANARY}
{{'api_key': '{CANARY}'}}
"""

SECRETS = [
    *TEXTS.split(),
    *(
        f"-----BEGIN {kind}PRIVATE KEY-----\n{LONG}\n{LONG}\n-----END {kind}PRIVATE KEY-----"
        for kind in ("", "RSA ", "OPENSSH ")
    ),
    *LINES.strip().split("\n"),
]

NAMED = [text for text in SECRETS if "=" in text and "@" not in text and "value=" not in text]
"""Those that are known before their end."""

MEMBERS: list[Any] = [
    {"api_key": CANARY},
    {"apiKeys": [CANARY, {"a": CANARY}]},
    {"password": {"current": CANARY, "new": f"a {CANARY}"}},
    {"passphrase": f"correct {CANARY} staple"},
    {"key": CANARY},
    {"token": CANARY, "tokens": [CANARY]},
    {"authorization": f"Bearer {CANARY}"},
    {"auth": {"username": "bob", "value": CANARY}},
    {"client_secret": CANARY, "clientSecret": CANARY},
    {"credentials": {"user": "bob", "parts": [[CANARY]]}},
    {"signature": CANARY, "sig": CANARY},
    {"cookie": f"sid={CANARY}; theme=dark"},
    {"cookies": [{"name": "sid", "value": CANARY}]},
    {"jwt": CANARY, "otp": CANARY},
    {"headers": [{"name": "Authorization", "value": CANARY}]},
    {"headers": [["X-Api-Key", CANARY]]},
    {"env": [{"key": "DB_PASSWORD", "value": f"a b {CANARY}"}]},
    {"attributes": [{"key": "http.request.header.authorization", "value": {"stringValue": CANARY}}]},
    {"GITHUB_TOKEN": CANARY, "aws_secret_access_key": CANARY},
    {"webhook_url": f"https://bob:{CANARY}@h.example/"},
    {"properties": {"api_key": {"type": "string", "default": CANARY}}},
    {"properties": {"api_key": CANARY}},
    {"x-portkey-config": json.dumps({"api_key": CANARY})},
    {"private_key": f"-----BEGIN PRIVATE KEY-----\n{LONG}\n-----END PRIVATE KEY-----\n"},
    {f"sk-proj-{LONG}": 1},
]

HARMLESS_LINES = """
max_tokens: 4096, total_tokens=12345 token_count: 99
password: str, secret: Optional[str] = None, api_key: string
api_key = os.environ["API_KEY"]
api_key=settings.api_key, token=token, key=lambda x: x[1]
API_KEY=${API_KEY} TOKEN=$(gh auth token) KEY=$KEY
password = getpass.getpass("Password: ")
"key": "Enter", key="ArrowDown" key: 'ctrl+c'
The key: a value. Token: the unit. Password: required. Secret: none.
public_key = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ"
<div class="sk-estimator-doc-link fitted">, sk-toggleable-control-label
Authorization: Bearer <token>, Authorization: Bearer $TOKEN
Basic authentication and bearer tokens: see Bearer-authentication
session_id: 0123abcd-0123-0123-0123-0123456789ab
x-request-token-limit: 12345
author: Bob7 Smith, authority=example.com:8443
sorted(x, key=itemgetter(1)), primary_key=True, foreign_key="users.id"
the monkey: 12 bananas; turkey=4; design: v2; signal: SIGTERM9
"api_key": "Your API key", password: "Enter your password"
password_hash_algorithm: bcrypt2b, token_type: bearer, key_length=2048
signature: def foo(a: int) -> str
https://user:password@host.example/ http://x.example/?sort_key=created_at1
compass: north12 bypass=true passed: 12 tests, pass: 99%
sk-learn sk-1234 task-0123456789abcdef0 risk-averse-disk-jockeys
tokenizer: cl100k_base, token_ids: [1,2]
if token == "end": return
cache_key="user:123:profile9" idempotency_key: abc123def456
--max-tokens 4096 --api-key flag and --token-limit 55555
git clone ssh://git@github.com/x/y.git; mail bob@example.com
claude-sonnet-4-20250514 gpt-4o-realtime-preview-2024-12-17
commit 3f2a9c1b7d5e8f0a1b2c3d4e5f60718293a4b5c6
"""
HARMLESS_MEMBERS: list[Any] = [
    {"max_tokens": 5, "maxTokens": 5, "total_tokens": 7, "usage": {"prompt_tokens": 3}},
    {"tokens": ["Hello", " world"], "token": "Hello", "key": "Enter"},
    {"token_count": "12", "token_type": "Bearer", "key_points": ["One point", "Another point"]},
    {"session_id": "0123abcd-0123-0123-0123-0123456789ab", "sessionId": "a1b2c3d4e5f6"},
    {"session": {"id": "sess_abc123XYZ98", "model": "gpt-4o-realtime-preview-2024-12-17"}},
    {"properties": {"api_key": {"type": "string", "description": "The key 4711"}}},
    {
        "parameters": {
            "properties": {"credentials": {"type": "object", "properties": {"user": {"type": "string"}}}}
        }
    },
    {"required": ["password", "token"], "enum": ["api_key", "oauth2"]},
    {"type": "thinking", "thinking": "Hm", "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrzLoky3dl1pki"},
    {"delta": {"type": "signature_delta", "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrzLo"}},
    {"thoughtSignature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrzLoky3dl1pki"},
    {"public_key": "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ", "cache_key": "a1b2c3d4e5f6a7b8"},
    {"primary_key": "id", "sort_key": "a1b2c3d4e5f6a7b8", "prompt_cache_key": "0123abcd4567ef89"},
    {"password": "", "api_key": None, "secret": False, "authorized": "yes", "author": "Bob"},
    {"key": "PROJ-1234", "keys": ["ctrl", "alt"], "signature": "def f(x: int) -> str"},
    {"api_key": "${API_KEY}", "token": "<token>", "password": "********"},
    {"logprobs": {"content": [{"token": "Hello", "logprob": -0.1, "bytes": [72]}]}},
    {"monkey": "c4n4ry01234567", "keyboard": "a1b2c3d4e5f6g7", "tokenizer": "cl100k_base12345"},
    {"name": "get_token", "value": "Hello there"},
    {"eos_token": "</s>", "bos_token": "<s>", "next_token": "abc123def456ghi"},
]


def in_pieces(text: str, size: int = 7) -> Iterator[dict[str, Any]]:
    for at in range(0, len(text), size):
        piece = text[at : at + size]
        call = {"index": 0, "function": {"arguments": piece}}
        yield {"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}


def sse(values: Iterator[Any] | list[Any]) -> str:
    return "".join(f"data: {json.dumps(value)}\n\n" for value in values)


def escaped_all(text: str) -> str:
    """JSON of `text` with escapes for all signs."""
    return '"' + "".join(c if c.isalnum() else f"\\u{ord(c):04x}" for c in text) + '"'


def places(text: str) -> Iterator[tuple[str, bytes]]:
    """Content types and bodies that have `text` in them."""
    message = {"model": "m", "messages": [{"role": "tool", "content": text}]}
    yield "application/json", json.dumps(message).encode()
    yield "application/json", json.dumps({"a": json.dumps({"b": json.dumps(message)})}).encode()
    yield "application/json", f'{{"a": {escaped_all(text)}}}'.encode()
    yield "application/json", json.dumps(message)[:-4].encode()
    yield "application/json", json.dumps([message, [text]], indent=2).encode("utf-16")
    yield "application/json", json.dumps(json.dumps(message)).encode()
    yield "application/x-ndjson", (json.dumps(message) + "\n" + json.dumps(message)).encode()
    yield "text/event-stream", sse([message, {"type": "x", "delta": text}]).encode()
    yield "text/event-stream", sse([{"type": "x", "delta": part} for part in parts_of(text)]).encode()
    yield "text/event-stream", sse(in_pieces(json.dumps({"note": text}))).encode()
    yield "text/plain", f"before\n{text}\nafter".encode()
    yield "application/x-www-form-urlencoded", f"a=1&text={quote(text)}&b=2".encode()
    head = '--x7\r\nContent-Disposition: form-data; name="text"\r\n\r\n'
    yield "multipart/form-data; boundary=x7", f"{head}{text}\r\n--x7--\r\n".encode()
    yield "", f"{text}\n".encode()


def parts_of(text: str, size: int = 5) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def redacted(content_type: str, body: bytes) -> tuple[bytes, list[str]]:
    form = form_of(content_type, body)
    pieces, found = redact_bytes([body], form, charset_of(content_type, body))
    return b"".join(pieces), found


def seen(body: bytes) -> str:
    """All that can be read of a body: as it is, without its escapes, and with its pieces joined."""
    text = body.decode("utf-16" if body[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", "replace")
    pieces = []
    for line in text.split("\n"):
        if line.startswith("data: {"):
            value = json.loads(line[6:].replace("\r", ""))
            calls = [call for each in value.get("choices", ()) for call in each["delta"]["tool_calls"]]
            pieces += [value.get("delta", ""), *(call["function"]["arguments"] for call in calls)]
    plain = text
    for _ in range(4):
        plain = plain.replace("\\u0063", "c").replace("\\\\", "\\")
    return f"{text}\n{''.join(pieces)}\n{plain}"


class SecretTests(SynchronousTestCase):
    def assertHidden(self, content_type: str, body: bytes) -> None:
        shown, found = redacted(content_type, body)
        self.assertNotIn(CANARY, seen(shown), (content_type, body[:200]))
        self.assertTrue(found, (content_type, body[:200]))
        self.assertNotIn(CANARY, repr(found))
        self.assertNotIn(CANARY, text_of(body, content_type), (content_type, body[:200]))

    def test_texts(self) -> None:
        """Whatever a text has is hidden, wherever it stands: whole, escaped, nested, cut and in pieces."""
        self.assertGreater(len(SECRETS), 60)
        for text in SECRETS:
            for content_type, body in places(text):
                self.assertHidden(content_type, body)

    def test_members(self) -> None:
        """So is what the members of JSON name, below them and beside them too."""
        for value in MEMBERS:
            for text in (
                json.dumps(value),
                json.dumps([{"x": value}], indent=1),
                json.dumps({"x": json.dumps(value)}),
            ):
                self.assertHidden("application/json", text.encode())
            self.assertHidden("text/event-stream", sse([value]).encode())
            self.assertHidden("text/event-stream", sse(in_pieces(json.dumps(value))).encode())

    def test_numbers(self) -> None:
        """A number is a password where one is named, and the JSON stays JSON."""
        text = json.dumps({"password": 123456, "a": json.dumps({"pwd": 987654}), "max_tokens": 4096})
        shown = json.loads(redact_body(text, Form.JSON).text)
        self.assertEqual(shown, {"password": "REDACTED", "a": '{"pwd": "REDACTED"}', "max_tokens": 4096})

    def test_forms_and_parts(self) -> None:
        """Fields of forms and parts are hidden by their names."""
        for text, form in (
            (f"a=1&api_key={CANARY}&user%5Bpassword%5D={CANARY}&b=2", Form.FIELDS),
            (
                f'--x\r\nContent-Disposition: form-data; name="token"\r\n\r\na {CANARY}\r\n--x--',
                Form.MULTIPART,
            ),
            (
                '--x\r\nContent-Disposition: form-data; name="f"; filename="a.json"\r\n'
                f'Content-Type: application/json\r\n\r\n{{"password":"a {CANARY}"}}\r\n--x--',
                Form.MULTIPART,
            ),
        ):
            self.assertNotIn(CANARY, redact_body(text, form).text)

    def test_places(self) -> None:
        """It is told where something was hidden: the path of a member, and the name of a field."""
        text = json.dumps({"messages": [{"content": json.dumps({"api_key": CANARY})}], "secret": CANARY})
        self.assertEqual(redact_body(text, Form.JSON).places, ["messages[].content.api_key", "secret"])

    def test_events(self) -> None:
        """A secret that is spread over events goes from all of them, and the others stay."""
        events = [json.dumps({"delta": part}) for part in parts_of(f"it is sk-proj-{LONG}, keep it")]
        shown, found = redact_events(events)
        self.assertEqual("".join(json.loads(event)["delta"] for event in shown), "it is REDACTED, keep it")
        self.assertEqual((len(shown), len(found)), (len(events), 1))


class HarmlessTests(SynchronousTestCase):
    def test_lines(self) -> None:
        """Counts, types, names in code, references and classes of a page stay, wherever they stand."""
        lines = HARMLESS_LINES.strip().split("\n")
        self.assertGreater(len(lines) + len(HARMLESS_MEMBERS), 40)
        for line in lines:
            self.assertEqual(redact_text(line), line)
            for content_type, body in places(line):
                self.assertEqual(redacted(content_type, body), (body, []), line)

    def test_members(self) -> None:
        """Members that only look so stay, and so do schemas of secrets and the signatures of thoughts."""
        for value in HARMLESS_MEMBERS:
            for text in (
                json.dumps(value),
                json.dumps([{"x": value}], indent=1),
                json.dumps({"x": json.dumps(value)}),
            ):
                self.assertEqual(redact_body(text, Form.JSON), (text, []))
            self.assertEqual(redact_body(sse([value]), Form.EVENTS), (sse([value]), []))

    def test_parsed(self) -> None:
        """The judgement of parsed members is the same as that of their text."""
        for values, wanted in ((MEMBERS, True), (HARMLESS_MEMBERS, False)):
            for value in values:
                for name, member in value.items() if "thinking" not in value else ():
                    text = json.dumps({name: member})
                    if is_secret_member(name, member):
                        self.assertTrue(wanted, (name, member))
                        self.assertTrue(redact_body(text, Form.JSON).places, (name, member))


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20) | st.just(CANARY),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=6) | st.sampled_from(["password", "token", "type"]), inner, max_size=4
        )
    ),
    max_leaves=20,
)


class PropertyTests(SynchronousTestCase):
    @given(JSON, st.sampled_from([None, 1]), st.booleans())
    def test_nothing_else(self, value: Any, indent: int | None, ascii: bool) -> None:
        """JSON stays JSON, of the same structure, and only strings change."""
        text = json.dumps(value, indent=indent, ensure_ascii=ascii)
        shown = json.loads(redact_body(text, Form.JSON).text)
        self.assertSame(value, shown)

    def assertSame(self, before: Any, after: Any) -> None:
        if isinstance(before, dict):
            for (name, member), (_, shown) in zip(before.items(), after.items(), strict=True):
                self.assertSame(member, shown) if name else None
        elif isinstance(before, list):
            self.assertEqual(len(before), len(after))
            for item, shown in zip(before, after, strict=True):
                self.assertSame(item, shown)
        elif not isinstance(before, str):
            self.assertEqual(before, after)

    @settings(max_examples=200)
    @given(st.sampled_from(NAMED), st.integers(0, 13), st.data())
    def test_any_cut(self, text: str, place: int, data: st.DataObject) -> None:
        """A body that is cut anywhere never raises, and tells no more than the whole of it."""
        content_type, body = list(places(text))[place]
        end = data.draw(st.integers(0, len(body)))
        shown, _ = redacted(content_type, body[:end])
        self.assertNotIn(CANARY.encode(), shown)

    @given(st.binary(max_size=300), st.sampled_from(list(Form)))
    def test_any_bytes(self, body: bytes, form: Form) -> None:
        """Any bytes can be given, of any form, and without a word of a secret they stay."""
        pieces, found = redact_bytes([body], form, "utf-8")
        if not found:
            self.assertEqual(b"".join(pieces), body)

    def test_hostile(self) -> None:
        """Bodies made to cost much cost no more than others of their size."""
        began = time.process_time()
        for text in (
            "[" * 100_000,
            '{"a":' * 100_000,
            '{"token":[' * 50_000,
            '"\\"' * 50_000,
            '{"secret":"a"},' * 20_000,
            '{"type":"thinking","signature":"a1b2c3d4",' * 5_000,
            '["key","v",' * 20_000,
            "key=" * 20_000,
            "-----BEGIN PRIVATE KEY-----" * 5_000,
            "\\" * 100_000,
        ):
            for form in (Form.JSON, Form.EVENTS, Form.TEXT):
                redact_body(text, form)
        self.assertLess(time.process_time() - began, 60)
