"""The README's configurations are configurations."""

from __future__ import annotations

import re

import yaml
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from logging_proxy.configuration import load_configuration, read_configuration
from logging_proxy.test.e2e.case import ROOT

BLOCK = re.compile(r"^```ya?ml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def yaml_blocks() -> list[str]:
    """The YAML blocks of the README; none without a README."""
    readme = ROOT / "README.md"
    return BLOCK.findall(readme.read_text("utf-8")) if readme.exists() else []


class ReadmeTests(SynchronousTestCase):
    def test_configurations(self) -> None:
        """Every YAML block is a configuration, or a part of one, without a mistake."""
        blocks = yaml_blocks()
        if not blocks:
            raise SkipTest("README.md shows no configuration")
        for block in blocks:
            # A block that shows one section is read with the shipped file's others.
            part = yaml.safe_load(block)
            shipped = yaml.safe_load((ROOT / "config.yaml").read_text("utf-8"))
            text = block if "routes" in part else yaml.safe_dump({**shipped, **part})
            read_configuration(text, "README.md", {"LOGGING_PROXY_TOKEN": "x" * 32})

    def test_shipped(self) -> None:
        """The shipped configuration has no mistake."""
        names = [route.name for route in load_configuration(str(ROOT / "config.yaml"), {}).routes]
        self.assertIn("lmstudio", names)
