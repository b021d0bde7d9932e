"""
Tests of logging_proxy.

Property tests try the same examples in every run, so that a run says the same
wherever it is made; `HYPOTHESIS_PROFILE=search` looks for new ones.
"""

from __future__ import annotations

import os

try:
    from hypothesis import HealthCheck, settings
except ImportError:
    pass  # the tests that need it are skipped, or fail, by themselves
else:
    patient = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=patient)
    settings.register_profile("search", deadline=None, suppress_health_check=patient)
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
