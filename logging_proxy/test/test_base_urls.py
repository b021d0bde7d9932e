"""What clients set to reach each destination through the proxy."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.configuration import read_configuration
from logging_proxy.configuration.base_urls import base_path, base_urls, variables_of

CASES = [
    # pattern, destination, base URL below the proxy's, variables
    ("/openai/", "https://api.openai.com/", "/openai/v1", "OPENAI_BASE_URL"),
    ("/openai/", "https://api.openai.com", "/openai/v1", "OPENAI_BASE_URL"),
    ("/openai/v1/", "https://api.openai.com/v1/", "/openai/v1", "OPENAI_BASE_URL"),
    ("/openai/", "https://api.openai.com/v1", "/openai", "OPENAI_BASE_URL"),
    ("/", "https://api.openai.com/", "/v1", "OPENAI_BASE_URL"),
    ("/", "https://api.openai.com/v1/", "", "OPENAI_BASE_URL"),
    ("/anthropic/", "https://api.anthropic.com/", "/anthropic", "ANTHROPIC_BASE_URL"),
    ("/", "https://api.anthropic.com/", "", "ANTHROPIC_BASE_URL"),
    ("/a/v1/", "https://api.anthropic.com/v1/", "/a", "ANTHROPIC_BASE_URL"),
    ("/a/", "https://api.anthropic.com/v1/", "/a", ""),
    ("/api/v1/", "https://openrouter.ai/api/v1/", "/api/v1", "OPENROUTER_BASE_URL"),
    ("/or/", "https://OpenRouter.ai./", "/or/api/v1", "OPENROUTER_BASE_URL"),
    ("/ollama/", "http://127.0.0.1:11434/", "/ollama", "OLLAMA_HOST"),
    ("/ollama/", "http://ollama.example:11434/", "/ollama", ""),
    ("/lmstudio/", "http://localhost:1234/", "/lmstudio/v1", "OPENAI_BASE_URL"),
    ("/llama/", "http://[::1]:8000/v1/", "/llama", "OPENAI_BASE_URL"),
    ("/other/", "https://llm.example/v1/", "/other", ""),
    ("/openai", "https://api.openai.com/", "/openai", ""),
    ("POST /v1/messages", "https://api.anthropic.com/v1/messages", "/v1/messages", ""),
]


def configured(*routes: tuple[str, str], server: str = "{}") -> str:
    lines = [f"  r{n}: {{pattern: '{p}', destination: '{d}'}}" for n, (p, d) in enumerate(routes)]
    return "\n".join([f"server: {server}", "routes:", *lines])


class BaseURLTests(SynchronousTestCase):
    def urls(self, text: str, port: int | None = None) -> list[tuple[str, str, tuple[str, ...]]]:
        configuration = read_configuration(text, "config.yaml", {})
        return [(url.route.name, url.url, url.variables) for url in base_urls(configuration, port)]

    def test_routes(self) -> None:
        """The path that a provider's SDKs expect in a base URL leads to that path at the destination."""
        for pattern, destination, path, variables in CASES:
            expected = [("r0", f"http://localhost:5601{path}", tuple(variables.split()))]
            self.assertEqual(self.urls(configured((pattern, destination))), expected, (pattern, destination))

    def test_local_server_beside_openai(self) -> None:
        """A local server is taken for one with OpenAI's API unless a route leads to OpenAI itself."""
        local, openai = ("/lm/", "http://127.0.0.1:1234/"), ("/openai/", "https://api.openai.com/")
        for routes in ((local, openai), (openai, local)):
            found = {url: variables for _, url, variables in self.urls(configured(*routes))}
            self.assertEqual(
                found,
                {
                    "http://localhost:5601/lm/v1": (),
                    "http://localhost:5601/openai/v1": ("OPENAI_BASE_URL",),
                },
            )

    def test_listener(self) -> None:
        """The address is one that clients on this machine can use."""
        cases = {
            "{host: 0.0.0.0}": "http://localhost:5601/x",
            "{host: '::', port: 80}": "http://localhost:80/x",
            "{host: '::1'}": "http://[::1]:5601/x",
            "{host: proxy.example, port: 0}": "http://proxy.example:7/x",
        }
        for server, expected in cases.items():
            text = configured(("/x/", "http://up.example/"), server=server)
            port = 7 if "port: 0" in server else None
            text += "\nlogging_server: {port: 9}"
            self.assertEqual([url for _, url, _ in self.urls(text, port)], [expected], server)

    def test_pattern_with_a_host(self) -> None:
        """A pattern's host is the host of its base URL."""
        found = self.urls(configured(("ai.example/", "https://api.openai.com/")))
        self.assertEqual(found, [("r0", "http://ai.example:5601/v1", ("OPENAI_BASE_URL",))])

    def test_variables(self) -> None:
        """A variable is set once, to the first of the routes that name it."""
        text = configured(
            ("/a/", "https://api.openai.com/"),
            ("/b/", "https://api.openai.com/"),
            ("/c/", "https://api.anthropic.com/"),
        )
        found = list(variables_of(base_urls(read_configuration(text, "config.yaml", {}))))
        self.assertEqual(
            found,
            [
                ("OPENAI_BASE_URL", "http://localhost:5601/a/v1"),
                ("ANTHROPIC_BASE_URL", "http://localhost:5601/c"),
            ],
        )

    def test_base_path_leads_to_the_base(self) -> None:
        """What an SDK appends to the base URL arrives at the provider's base."""
        for pattern in ("", "/p", "/p/v1"):
            for destination in ("", "/v1", "/api/v1", "/api"):
                for base in ("", "/v1", "/api/v1"):
                    path = base_path(pattern, destination, base)
                    if path is not None:
                        asked = f"{path}/v1/messages" if base == "" else f"{path}/messages"
                        wanted = "/v1/messages" if base == "" else f"{base}/messages"
                        if asked.startswith(f"{pattern}/"):
                            self.assertEqual(destination + asked.removeprefix(pattern), wanted)
