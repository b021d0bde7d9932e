"""A logging server that is away, and a proxy at its limits, in small; `make stress` does it at full size."""

from __future__ import annotations

from logging_proxy.test.e2e.faults import FaultCase
from logging_proxy.test.stress import clock_steps, descriptor_flood, process_limits, server_down


class ServiceTests(FaultCase):
    def test_server_down(self) -> None:
        """What passes while the logging server is away arrives later, once; what does not fit is counted."""
        self.hold(server_down)

    def test_process_limits(self) -> None:
        """Without descriptors the proxy lives on; SIGTERM fails nobody; a bad file changes nothing."""
        self.hold(process_limits)

    def test_clock_steps(self) -> None:
        """A wall clock that is set cuts no stream, holds up no capture and deletes none."""
        self.hold(clock_steps)

    def test_descriptor_flood(self) -> None:
        """Connections that want nothing, however many, keep nothing from being recorded and stored."""
        self.hold(descriptor_flood)
