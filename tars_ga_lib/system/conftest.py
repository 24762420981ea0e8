"""Nothing of the suite is collected unless it is asked for: a plain pytest connects nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the suite out without `--ga-mode`."""
    return None if config.getoption("ga_mode", False) else True
