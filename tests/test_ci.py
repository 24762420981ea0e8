"""What a pipeline shows of a decision: nothing unknown passes, and names are data."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from tars_ga_lib import ci

WAIVER = {"criterion": "x", "who": "A. One", "why": "because", "until": "2999-01-01T00:00:00Z"}


def certification(*outcomes: dict[str, Any]) -> dict[str, Any]:
    every = [
        {
            "name": f"c{number}", "title": "Error rate", "unit": "ratio", "value": 0.0011,
            "target": "< 0.001", "warning": None, "verdict": "pass", "mandatory": True,
            "waiver": None, "reason": "", "weight": 1,
        } | outcome
        for number, outcome in enumerate(outcomes)
    ]  # fmt: skip
    return {
        "release": {"name": "T|A", "version": "v1"}, "decision": "NOT CERTIFIED",
        "because": "it is so", "binding_criterion": "c0", "simulated": False,
        "window": {"start": "2026-11-20T00:00:00Z", "end": "2026-11-21T00:00:00Z"},
        "criteria": every,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("outcome", "tag"),
    [
        ({}, "system-out"),
        ({"verdict": "warn"}, "system-out"),
        ({"verdict": "fail"}, "failure"),
        ({"verdict": "fail", "mandatory": False}, "failure"),
        ({"verdict": "fail", "waiver": WAIVER}, "skipped"),
        ({"verdict": "no_data", "value": None, "reason": "no samples"}, "error"),
        ({"verdict": "no_data", "value": None, "mandatory": False}, "skipped"),
    ],
)
def test_junit(outcome: dict[str, Any], tag: str) -> None:
    root = ElementTree.fromstring(ci.junit(certification(outcome, {})))
    (suite,) = root
    assert [child.tag for child in suite[0]] == [tag]
    counts = {key: int(suite.get(key, "")) for key in ("tests", "failures", "errors", "skipped")}
    assert counts == {
        "tests": 2, "failures": tag == "failure", "errors": tag == "error",
        "skipped": tag == "skipped",
    }  # fmt: skip
    told = suite[0][0].get("message") or suite[0][0].text or ""
    assert "Error rate: " in told
    assert outcome.get("reason", "") in told


def test_names_are_data() -> None:
    name = "</testcase>\x00|<b>&"
    document = certification({"title": name, "verdict": "fail"})
    root = ElementTree.fromstring(ci.junit(document))
    assert "</testcase>" in (root[0][0][0].get("message") or "")
    lines = ci.summary(document).splitlines()
    assert lines[0] == "## T\\|A v1: NOT CERTIFIED"
    (row,) = [line for line in lines if "testcase" in line and line.startswith("|")]
    assert row.replace("\\|", "").count("|") == 5
    assert "<b>" not in row.replace("\\<", "")
