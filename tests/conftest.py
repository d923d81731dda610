"""What holds for every test."""

import gc
from collections import Counter
from pathlib import PurePosixPath

import pytest
from hypothesis import HealthCheck, settings

# Until all tests are imported, torch and Ray with them: the collector would look at that again and again, and find no
# garbage.
gc.disable()

# Whether a property holds does not depend on how busy the machine is.
settings.register_profile("modelwright", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("modelwright")


def pytest_collection_finish() -> None:
    """Let the collector work, on what the tests themselves leave behind."""
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what each part took, on all processes together."""
    took: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                took[PurePosixPath(report.nodeid).parts[1]] += round(report.duration * 1000)
    for part, milliseconds in took.most_common():
        terminalreporter.write_line(f"{milliseconds / 1000:7.0f} s  {part}")
