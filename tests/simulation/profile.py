"""How hard hypothesis looks: MODELWRIGHT_HYPOTHESIS=thorough takes many minutes, and finds more."""

import os

from hypothesis import HealthCheck, Phase, settings

THOROUGH = os.environ.get("MODELWRIGHT_HYPOTHESIS", "modest") == "thorough"
TIMEOUT = 7200 if THOROUGH else 300
"""Seconds for one test."""
PROFILE = settings(
    max_examples=5000 if THOROUGH else 100,
    deadline=None,
    # Not Phase.explain: it traces every line.
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
)
"""For every property of the simulation; not loaded for the whole run, whose other properties have their own."""
