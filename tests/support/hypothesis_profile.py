"""Hypothesis for this repository: new examples in every run, and how to repeat a failing one."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "quotabell",
    deadline=None,  # the machine is shared, and examples talk to a database
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=False,  # by default it is true under CI=true, and CI would find nothing new
    print_blob=True,
)
settings.load_profile("quotabell")
