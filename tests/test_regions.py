"""Regions compared: differences, who stands out, how far a shift reaches, who has the traffic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tars_ga_lib import regions
from tars_ga_lib.kpis import Kpis
from tests.helpers import GAUGE, KPIS, make_job, make_span

NAMES = ("east", "west", "north")
DAY = 288


def rows(levels: tuple[Any, ...], seed: int) -> Any:
    """Return a noisy series for each region; None leaves one out."""
    dice = np.random.default_rng(seed)
    return [
        (
            {"region": region, "service": service},
            level * (1 + 0.01 * dice.standard_normal(DAY)),
        )
        for region, level in zip(NAMES, levels, strict=True)
        if level is not None
        for service in ("api", "web")
    ]


def compare(
    folder: Path,
    before: tuple[Any, ...],
    after: tuple[Any, ...],
    key: str = "memory.value",
    **changes: Any,
) -> dict[str, Any]:
    days = {"start": "2026-11-13T00:00:00Z", "duration": "24h", "repeat": "7d x 5"}
    job = make_job(folder, steps=DAY, regions=list(NAMES), baseline=days, **changes)
    window = make_span(job, {key: rows(after, 1)})
    baselines = [make_span(job, {key: rows(before, n + 1)}, f"baseline_{n}") for n in range(1, 6)]
    found = regions.compare(Kpis(job, window), [Kpis(job, day) for day in baselines])
    json.dumps(found, allow_nan=False)
    assert found["primary_region"] == "east"
    return found


SAME = (1e9, 1e9, 1e9)


def test_differences(tmp_path: Path) -> None:
    found = compare(tmp_path, (1e9, 2e9, 4e9), (1e9, 2e9, 4e9))["kpis"]["memory"]["regions"]
    assert found["east"]["value"] == pytest.approx(2e9, rel=0.01)
    assert found["east"]["from_primary"] == {"absolute": 0.0, "relative": 0.0}
    assert found["west"]["from_primary"]["relative"] == pytest.approx(1, abs=0.01)
    assert found["west"]["from_others"]["relative"] == pytest.approx(4 / 5 - 1, abs=0.01)
    assert found["north"]["from_others"]["absolute"] == pytest.approx(5e9, rel=0.01)
    assert found["north"]["coverage"] == 1.0


def test_regions_that_differ_but_did_not_move(tmp_path: Path) -> None:
    found = compare(tmp_path, (1e9, 2e9, 4e9), (1e9, 2e9, 4e9))["kpis"]["memory"]
    assert (found["shifted"], found["stand_out"], found["scope"]) == ([], [], "none")


def test_one_region_moved(tmp_path: Path) -> None:
    found = compare(tmp_path, SAME, (1e9, 1.2e9, 1e9))["kpis"]["memory"]
    assert (found["shifted"], found["stand_out"]) == (["west"], ["west"])
    assert found["scope"] == "local"
    shift = found["regions"]["west"]["shift"]
    assert shift["relative"] == pytest.approx(0.2, abs=0.02)
    assert shift["adjusted_p"] < 0.05
    assert found["regions"]["north"]["shift"]["adjusted_p"] > 0.05


def test_all_regions_moved(tmp_path: Path) -> None:
    found = compare(tmp_path, SAME, (1.2e9, 1.2e9, 1.2e9))["kpis"]["memory"]
    assert found["shifted"] == list(NAMES)
    assert (found["stand_out"], found["scope"]) == ([], "global")


def test_small_but_sure_is_not_worth_a_readers_time(tmp_path: Path) -> None:
    found = compare(tmp_path, SAME, (1e9, 1.02e9, 1e9))["kpis"]["memory"]
    assert found["regions"]["west"]["shift"]["adjusted_p"] < 0.05
    assert found["shifted"] == []


def test_missing_region(tmp_path: Path) -> None:
    found = compare(tmp_path, SAME, (1e9, None, 1e9))["kpis"]["memory"]
    west = found["regions"]["west"]
    assert (west["value"], west["coverage"]) == (None, 0.0)
    assert west["from_primary"] == {"absolute": None, "relative": None}
    assert west["shift"]["reason"]
    assert west["shift"]["effect"] is west["shift"]["adjusted_p"] is None
    assert found["shifted"] == found["stand_out"] == []
    assert found["regions"]["north"]["from_others"]["relative"] == pytest.approx(0, abs=0.01)


def test_missing_primary(tmp_path: Path) -> None:
    found = compare(tmp_path, SAME, (None, 1e9, 1.2e9))["kpis"]["memory"]["regions"]
    assert found["west"]["from_primary"] == {"absolute": None, "relative": None}
    assert found["west"]["from_others"]["relative"] == pytest.approx(-1 / 6, abs=0.01)


def test_nothing_at_all(tmp_path: Path) -> None:
    found = compare(tmp_path, (None, None, None), (None, None, None))
    for kpi in found["kpis"].values():
        assert kpi["shifted"] == kpi["stand_out"] == []
        assert all(region["value"] is None for region in kpi["regions"].values())
    assert found["request_share"]["reason"] == "a region was not seen"
    assert all(r["share"] is None for r in found["request_share"]["regions"].values())


def test_only_one_region(tmp_path: Path) -> None:
    job = make_job(tmp_path, steps=DAY, regions=["east"])
    spans = [
        make_span(job, {"memory.value": rows((1e9, None, None), n)}, name)
        for n, name in enumerate(("window", "baseline_1"))
    ]
    found = regions.compare(Kpis(job, spans[0]), [Kpis(job, spans[1])])
    json.dumps(found, allow_nan=False)
    east = found["kpis"]["memory"]["regions"]["east"]
    assert east["against_others"] is None
    assert east["from_others"] == {"absolute": None, "relative": None}


def test_kpis_that_have_no_region_are_left_out(tmp_path: Path) -> None:
    kpis = KPIS | {"whole": GAUGE | {"value": "x", "by": []}}
    found = compare(tmp_path, SAME, SAME, kpis_=kpis)
    assert set(found["kpis"]) == set(KPIS)


# --- Traffic --------------------------------------------------------------------------------------


def test_request_share(tmp_path: Path) -> None:
    found = compare(tmp_path, (100, 100, 200), (100, 200, 100), "requests.increase")
    shares = found["request_share"]
    assert shares["reason"] == ""
    assert shares["regions"]["west"]["share"] == pytest.approx(0.5, abs=0.01)
    assert shares["regions"]["west"]["change"] == pytest.approx(0.25, abs=0.01)
    assert sum(r["share"] for r in shares["regions"].values()) == pytest.approx(1)
    assert sum(r["change"] for r in shares["regions"].values()) == pytest.approx(0)


def test_a_gap_favours_no_other_region(tmp_path: Path) -> None:
    half = np.where(np.arange(DAY) < 144, 100.0, np.nan)
    found = compare(tmp_path, (100, 100, 100), (100, half, 100), "requests.increase")
    shares = found["request_share"]["regions"]
    assert shares["west"]["share"] == pytest.approx(1 / 3, abs=0.01)


def test_a_share_needs_every_region(tmp_path: Path) -> None:
    found = compare(tmp_path, SAME, (100, None, 100), "requests.increase")["request_share"]
    assert found["reason"] == "a region was not seen"
    assert [region["share"] for region in found["regions"].values()] == [None] * 3


@pytest.mark.parametrize("steps", [12, 24])
def test_short_windows_and_other_hours(tmp_path: Path, steps: int) -> None:
    baseline = {"start": "2026-11-19T21:00:00Z", "duration": "2h"}
    job = make_job(tmp_path, steps=steps, baseline=baseline, regions=list(NAMES))
    window = [(labels, v[:steps]) for labels, v in rows(SAME, 1)]
    before = [(labels, v[:24]) for labels, v in rows(SAME, 2)]
    found = regions.compare(
        Kpis(job, make_span(job, {"memory.value": window})),
        [Kpis(job, make_span(job, {"memory.value": before}, "baseline_1"))],
    )
    json.dumps(found, allow_nan=False)
    assert found["kpis"]["memory"]["regions"]["east"]["value"] is not None
