"""Outages: one truth for the story, the fields and the charts."""

from __future__ import annotations

from typing import Any

import numpy as np

from tars_ga_lib.outages import Outage, recovery


def outage(start: int, end: int, ended: Any = "recovered", spent: float | None = 2.0) -> Outage:
    return Outage("east", start, end, 0.5, 60.0, spent, ended)


def test_recovery_is_of_what_recovered_and_no_dip() -> None:
    ends = recovery(
        [outage(0, 600), outage(1000, 1900), outage(2000, 9000, "lasts"),
         outage(3000, 3300, "unknown"), outage(4000, 9999, spent=0.1)]
    )  # fmt: skip
    assert (ends.recovered, ends.lasting, ends.unknown, ends.dips) == (2, 1, 1, 1)
    assert ends.seconds == 750
    assert ends.slowest == outage(1000, 1900)


def test_what_never_recovered_has_no_time_to_recovery() -> None:
    ends = recovery([outage(0, 600, "lasts")])
    assert (ends.seconds, ends.slowest) == (None, None)
    assert recovery([]).seconds is None


def test_without_a_target_any_miss_counts() -> None:
    assert not outage(0, 1, spent=None).dip
    assert outage(0, 1, spent=None).tone == "warning"
    assert outage(0, 1, spent=0.49).tone == "info"
    assert outage(0, 1, spent=np.inf).tone == "critical"
