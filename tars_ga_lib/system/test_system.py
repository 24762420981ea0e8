"""The suite: each check of the running system is one item, named by the check's id."""

from __future__ import annotations

import pytest

from tars_ga_lib.system import words
from tars_ga_lib.system.check import Outcome


def test_system(outcome: Outcome) -> None:
    """See that what was measured keeps its limit."""
    if outcome.verdict == "fail":
        pytest.fail(words.lines(outcome.facts()), pytrace=False)
