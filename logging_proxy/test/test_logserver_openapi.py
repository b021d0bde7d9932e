"""The API's description is true: every address, method, parameter and status of it, and no others."""

from __future__ import annotations

import os
import re
from typing import Any

import jsonschema

from logging_proxy.logserver.web.answers import Problem, Refused, problem_answer
from logging_proxy.logserver.web.openapi import openapi
from logging_proxy.test.web_stage import Reply, ServerTestCase

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
UNKNOWN = "99999999-9999-9999-9999-999999999999"


class OpenAPITests(ServerTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.document = openapi()
        self.paths = {**self.document["paths"], **self.document["x-websockets"]}
        self.known = self.capture(1)

    def target(self, path: str, id: str | None = None) -> str:
        for name, value in (("id", id or self.known), ("spool", "0" * 32), ("offset", "0")):
            path = path.replace(f"{{{name}}}", value)
        return path

    def check(self, path: str, method: str, reply: Reply) -> None:
        """That the description has this answer, with this type of content and this form."""
        responses = self.paths[path][method.lower()]["responses"]
        self.assertIn(str(reply.status), responses, (method, path, reply.body))
        content = responses[str(reply.status)]["content"]
        kind = reply.headers["content-type"].partition(";")[0]
        self.assertIn(kind, content, (method, path))
        schema = content[kind].get("schema")
        if schema is not None:
            jsonschema.validate(reply.json(), {**schema, "components": self.document["components"]})

    def test_served(self) -> None:
        """The server gives its own description."""
        self.assertEqual(self.get("/api/openapi.json"), self.document)
        self.assertEqual(self.document["openapi"], "3.1.0")

    def test_references(self) -> None:
        """Every reference leads somewhere, and every parameter of a path is described."""
        for name in re.findall(r"#/components/schemas/(\w+)", str(self.document)):
            self.assertIn(name, self.document["components"]["schemas"])
        for path, item in self.paths.items():
            described = {p["name"] for p in item.get("parameters", []) if p["in"] == "path"}
            self.assertEqual(set(re.findall(r"{(\w+)}", path)), described, path)

    def test_methods(self) -> None:
        """Each address takes the methods that are described, and HEAD with GET; 405 names them for others."""
        for path, item in self.paths.items():
            described = {name.upper() for name in item if name != "parameters"}
            if "GET" in described and path != "/api/live":
                described.add("HEAD")
            for method in METHODS:
                reply = self.ask(method, self.target(path))
                if method not in described:
                    self.assertEqual(reply.status, 405, (method, path))
                    self.assertEqual(set(reply.headers["allow"].split(", ")), described, path)
                elif method in described:
                    self.assertNotEqual(reply.status, 405, (method, path))

    def test_answers(self) -> None:
        """What comes is what is described: found, not found, with and without parameters that make sense."""
        for path, item in self.paths.items():
            for method in item.keys() - {"parameters"}:
                targets = [self.target(path), self.target(path, UNKNOWN), self.target(path, "..%2f..%2fetc")]
                targets += [f"{targets[0]}?{query}" for query in self.queries(item[method])]
                for target in targets:
                    body = b"GET / HTTP/1.1\r\n\r\n" if method == "put" else b""
                    self.check(path, method, self.ask(method.upper(), target, body))

    def queries(self, operation: dict[str, Any]) -> list[str]:
        names = [p["name"] for p in operation.get("parameters", []) if p["in"] == "query"]
        return [f"{name}={value}" for name in names for value in ("1", "true", "%ff", "x" * 1001, "")]

    def test_parameters(self) -> None:
        """Each filter that is described has an effect, or is refused when it makes no sense."""
        self.assertEqual(len(self.get("/api/exchanges")["exchanges"]), 1)
        parameters = self.document["paths"]["/api/exchanges"]["get"]["parameters"]
        senseless = {"limit": "0", "cursor": "x", "status": "9xx", "since": "x", "until": "x"}
        senseless |= {"route": "nope", "outcome": "foo"}
        for name in (p["name"] for p in parameters):
            reply = self.ask("GET", f"/api/exchanges?{name}={senseless.get(name, 'other')}")
            if name in senseless:
                wanted = (404, "unknown-cursor") if name == "cursor" else (400, "bad-parameter")
                self.assertEqual((reply.status, reply.problem), wanted, name)
            else:
                self.assertEqual(reply.json()["exchanges"], [], name)

    def test_problems(self) -> None:
        """Every problem of the table is an RFC 9457 document with a type of its own."""
        kinds = set()
        for problem in Problem:
            answer = problem_answer(Refused(problem, "why", more=1))
            reply = Reply(answer.status, {"content-type": answer.kind}, answer.body)
            value = reply.json()
            schema = {"$ref": "#/components/schemas/Problem", "components": self.document["components"]}
            jsonschema.validate(value, schema)
            self.assertEqual((value["status"], value["detail"], value["more"]), (problem.status, "why", 1))
            kinds.add(reply.problem)
        self.assertEqual(len(kinds), len(Problem))

    def test_index_in_trouble(self) -> None:
        """Without an index the API says so with 503; health and storing go on."""
        self.index.close()
        reply = self.ask("GET", "/api/exchanges")
        self.assertEqual((reply.status, reply.problem), (503, "index-trouble"))
        self.check("/api/exchanges", "get", reply)
        self.assertEqual(self.ask("GET", "/health").status, 200)
        self.assertNotIn(self.log_dir.encode(), reply.body)
        self.assertTrue(os.path.exists(self.log_dir))
        self.flushLoggedErrors()
