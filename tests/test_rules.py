"""Rules: a real promtool finds them good, and they fire when the certification says they would."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tars_ga_lib import parameters, rules, slo
from tars_ga_lib.grammar import ParametersError
from tars_ga_lib.kpis import Kpis
from tars_ga_lib.parameters import Job
from tests import servers
from tests.helpers import ROOT, START, STEP, make_job, make_span, tars_ga
from tests.test_objectives import indicator, metric, ratio, threshold, write
from tests.test_objectives import slo as document
from tests.test_slo import OBJECTIVES

MINUTES = 8 * 60
ERRORS = document(
    indicator=indicator(
        {"ratioMetric": {"counter": True, "bad": metric('requests_total{code="500"}'),
                         "total": metric("requests_total")}}
    )
)  # fmt: skip


def job_of(folder: Path, *documents: Any, **changes: Any) -> Job:
    folder.mkdir(parents=True, exist_ok=True)
    return make_job(
        folder, slos=str(write(folder, *documents)), **{"steps": MINUTES // 5} | changes
    )


def promtool(*arguments: object) -> str:
    done = subprocess.run(
        [servers.program("promtool"), *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def alerts(job: Job) -> list[dict[str, Any]]:
    return [each for group in rules.groups(job) for each in group["rules"] if "alert" in each]


# --- what promtool says ---------------------------------------------------------------------------


def test_our_own_rules_are_good(tmp_path: Path) -> None:
    job = parameters.load(ROOT / "parameters" / "demo.yaml")
    rules.write(job, tmp_path / "rules.yaml")
    assert "111 rules found" in promtool("check", "rules", tmp_path / "rules.yaml")


@pytest.mark.parametrize("case", OBJECTIVES)
def test_rules_of_every_kind_are_good(tmp_path: Path, case: str) -> None:
    job = job_of(tmp_path, OBJECTIVES[case])
    rules.write(job, tmp_path / "rules.yaml")
    said = promtool("check", "rules", tmp_path / "rules.yaml")
    assert "SUCCESS" in said
    assert "duplicate" not in said


def series(bad_share: dict[str, Any]) -> dict[str, Any]:
    """Bad requests of each minute by region, of 100 that each service answers."""
    return {
        region: np.broadcast_to(np.asarray(share, dtype=float) * 100, (MINUTES,))
        for region, share in bad_share.items()
    }


def inputs(bad: dict[str, Any], minutes: int = MINUTES) -> list[dict[str, str]]:
    """Return the counters of promtool's unit tests, a sample a minute."""
    found = []
    for region, values in bad.items():
        for service in ("api", "web"):
            for code, events in (("500", values), ("200", 100 - values)):
                counter = np.concatenate([[0], np.cumsum(events)])[: minutes + 1]
                name = f'requests_total{{region="{region}",service="{service}",code="{code}"}}'
                found.append({"series": name, "values": " ".join(f"{x:g}" for x in counter)})
    return found


def unit_test(folder: Path, job: Job, *tests: dict[str, Any]) -> str:
    rules.write(job, folder / "rules.yaml")
    content = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}
    file = folder / "unit.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return promtool("test", "rules", file)


def evaluated(job: Job, bad: dict[str, Any]) -> dict[str, Any]:
    """Evaluate the same requests ourselves."""
    answers: dict[str, list[tuple[dict[str, str], Any]]] = {
        "slo:errors.numerator": [],
        "slo:errors.denominator": [],
    }
    for region, values in bad.items():
        for service in ("api", "web"):
            labels = {"region": region, "service": service}
            answers["slo:errors.numerator"].append((labels, values.reshape(-1, 5).sum(axis=1)))
            answers["slo:errors.denominator"].append((labels, 500.0))
    found = slo.evaluate(Kpis(job, make_span(job, answers)), job.slos)
    facts: dict[str, Any] = found["objectives"]["errors"]
    return facts


def firing(facts: dict[str, Any]) -> dict[tuple[str, str], Any]:
    """Whether each alert fires at the end of each step, by region and severity with its window."""
    found = {}
    for region, place in facts["regions"].items():
        for alert in place["alerts"]:
            state = np.zeros(MINUTES // 5 + 1, dtype=bool)
            for each in alert["fired"]:
                times = [np.datetime64(each[key][:-1], "s").astype(int) for key in ("start", "end")]
                first, last = ((int(t) - START) // STEP for t in times)
                state[first : last + each["ongoing"]] = True
            found[region, alert["id"]] = state
    return found


def test_they_fire_when_the_certification_says(tmp_path: Path) -> None:
    """An outage in the east and a slow burn in the west: the same alerts at the same times.

    Both are known to the step, so at the edges of an alert nothing is compared.
    """
    job = job_of(tmp_path, ERRORS)
    minutes = np.arange(MINUTES)
    bad = series(
        {
            "east": np.where((minutes >= 420) & (minutes < 440), 0.5, 0.0),
            "west": np.where(minutes >= 180, 0.01, 0.0),
        }
    )
    states = firing(evaluated(job, bad))
    assert {key for key, state in states.items() if state.any()} == {
        ("east", "page_1h"), ("east", "page_6h"), ("west", "page_6h")
    }  # fmt: skip
    names = {"page_1h": ("1h", "page"), "page_6h": ("6h", "page"), "ticket_3d": ("3d", "ticket")}
    tests = []
    compared = 0
    for (region, name), state in states.items():
        long, severity = names[name]
        labels = f'{{alertname="ErrorsBudgetBurn",alertstate="firing",level="region",long="{long}"'
        expression = f'count by (severity) (ALERTS{labels},region="{region}"}})'
        if name == "ticket_3d":
            continue  # a young server judges by what it has; we do not
        for step in range(1, MINUTES // 5):
            if state[step - 1] == state[step] == state[step + 1]:
                samples = [{"labels": f'{{severity="{severity}"}}', "value": 1}]
                compared += bool(state[step])
                tests.append(
                    {"expr": expression, "eval_time": f"{5 * step}m",
                     "exp_samples": samples if state[step] else []}
                )  # fmt: skip
    assert compared > 15
    whole = {"interval": "1m", "input_series": inputs(bad), "promql_expr_test": tests}
    assert "SUCCESS" in unit_test(tmp_path, job, whole)


def test_what_the_pager_reads(tmp_path: Path) -> None:
    """Ten minutes into an outage of half of the east: 500 of 6000 bad in the hour, 83 times."""
    runbook = {"annotations": {"tars-ga/runbook": "https://example.com/runbook"}}
    named = ERRORS | {"metadata": {"name": "errors", "displayName": "Errors {{ 1 }}"} | runbook}
    job = job_of(tmp_path, named)
    minutes = np.arange(MINUTES)
    bad = series({"east": np.where((minutes >= 420) & (minutes < 440), 0.5, 0.0), "west": 0.0})
    description = (
        "Over the last 1h, and over the last 5m, more than 14.4 times as much was bad as the "
        "target of 99.9\xa0% allows. At this rate the whole budget of 28d is spent in "
        "1\xa0d\xa023\xa0h."
    )
    expected = [
        {
            "exp_labels": {"severity": "page", "slo": "errors", "level": level, "long": "1h",
                           "short": "5m", **region},
            "exp_annotations": {
                "summary": f"Errors {{{{ 1 }}}}{where}: its error budget burns {times} times as "
                "fast as it may",
                "description": description,
                "runbook_url": "https://example.com/runbook",
            },
        }
        for level, region, where, times in (
            ("region", {"region": "east"}, " in east", "83.33"),
            ("global", {}, "", "41.67"),
        )
    ]  # fmt: skip
    fires = {"eval_time": "430m", "alertname": "ErrorsBudgetBurn", "exp_alerts": expected}
    calm = {"eval_time": "415m", "alertname": "ErrorsBudgetBurn", "exp_alerts": []}
    unit_test(
        tmp_path, job,
        {"interval": "1m", "input_series": inputs(bad), "alert_rule_test": [calm, fires]},
    )  # fmt: skip


def test_quiet_data_raise_nothing_and_no_data_are_told(tmp_path: Path) -> None:
    """At half of the allowed errors nothing fires; without a sample, somebody is told."""
    job = job_of(tmp_path, ERRORS)
    quiet = {
        "interval": "1m",
        "input_series": inputs(series({"east": 0.0005, "west": 0.0005}), 200),
        "promql_expr_test": [
            {"expr": 'count(ALERTS{alertstate="firing"})', "eval_time": f"{at}m", "exp_samples": []}
            for at in range(20, 200, 10)
        ],
    }
    alert = {
        "exp_labels": {"severity": "ticket", "level": "global", "slo": "errors"},
        "exp_annotations": {
            "summary": "errors: no data",
            "description": "Nothing of this objective was seen in the last 1h, so nobody knows "
            "what its budget does.",
        },
    }
    gone = {
        "interval": "1m",
        "input_series": [{"series": "up", "values": "1x60"}],
        "alert_rule_test": [
            {"eval_time": "10m", "alertname": "ErrorsNoData", "exp_alerts": []},
            {"eval_time": "20m", "alertname": "ErrorsNoData", "exp_alerts": [alert]},
        ],
    }
    assert "SUCCESS" in unit_test(tmp_path, job, quiet, gone)


def test_a_unit_test_can_fail(tmp_path: Path) -> None:
    """The tests above mean something: promtool refuses a wrong expectation."""
    job = job_of(tmp_path, ERRORS)
    wrong = {
        "interval": "1m",
        "input_series": inputs(series({"east": 0.5, "west": 0.5})),
        "promql_expr_test": [
            {"expr": 'count(ALERTS{alertstate="firing"})', "eval_time": "90m", "exp_samples": []}
        ],
    }
    with pytest.raises(AssertionError, match="FAILED"):
        unit_test(tmp_path, job, wrong)


def test_time_slices_fire_too(tmp_path: Path) -> None:
    """In the east every slice from 07:00 on is bad, by a little more than it may: burning 100×."""
    spec = {
        "budgetingMethod": "Timeslices",
        "objectives": [{"target": 0.99, "timeSliceTarget": 0.9, "timeSliceWindow": "5m"}],
    }
    job = job_of(tmp_path, document(**ERRORS["spec"] | spec))
    bad = series({"east": np.where(np.arange(MINUTES) >= 420, 0.101, 0.0999), "west": 0.0})
    pages = 'count by (region) (ALERTS{alertstate="firing",level="region",long="1h"})'
    burn = 'region:slo_burn_rate:ratio1h{slo="errors"}'
    unit_test(tmp_path, job, {
        "interval": "1m",
        "input_series": inputs(bad),
        "promql_expr_test": [
            {"expr": pages, "eval_time": "415m", "exp_samples": []},
            {"expr": pages, "eval_time": "445m",
             "exp_samples": [{"labels": '{region="east"}', "value": 1}]},
            # Six of the hour's twelve slices.
            {"expr": f'{burn} and on (region) label_replace(vector(0), "region", "east", "", "")',
             "eval_time": "450m",
             "exp_samples": [{"labels": 'region:slo_burn_rate:ratio1h{region="east",slo="errors"}',
                              "value": 50}]},
        ],
    })  # fmt: skip


def test_slices_without_traffic_are_not_recorded(tmp_path: Path) -> None:
    """The west's counters stand still: its slices are neither good nor bad."""
    spec = {
        "budgetingMethod": "Timeslices",
        "objectives": [{"target": 0.99, "timeSliceTarget": 0.9, "timeSliceWindow": "5m"}],
    }
    job = job_of(tmp_path, document(**ERRORS["spec"] | spec))
    values = {"east": "0+100x60", "west": "100x60"}
    unit_test(tmp_path, job, {
        "interval": "1m",
        "input_series": [
            {"series": f'requests_total{{region="{region}",service="api",code="200"}}',
             "values": text}
            for region, text in values.items()
        ],
        "promql_expr_test": [
            {"expr": "region:slo_bad_slice:bool", "eval_time": "30m",
             "exp_samples": [{"labels": 'region:slo_bad_slice:bool{region="east",slo="errors"}',
                              "value": 0}]},
        ],
    })  # fmt: skip


# --- what is in the file --------------------------------------------------------------------------


def test_names_labels_and_levels(tmp_path: Path) -> None:
    job = job_of(tmp_path, ERRORS, labels={"region": "dc"})
    (group,) = rules.groups(job)
    assert "interval" not in group
    records = [each["record"] for each in group["rules"] if "record" in each]
    assert all(record.count(":") == 2 for record in records)
    assert len(set(records)) == len(records) == 5 * 2 * 3
    assert "sum by (dc) (" in group["rules"][0]["expr"]
    found = alerts(job)
    assert [each["labels"]["severity"] for each in found] == ["page"] * 4 + ["ticket"] * 3
    assert [each["for"] for each in found] == ["2m", "2m", "15m", "15m", "3h", "3h", "15m"]
    assert "in {{ $labels.dc }}" in found[0]["annotations"]["summary"]
    assert not any("runbook_url" in each["annotations"] for each in found)


def test_one_service_alone_is_asked_for(tmp_path: Path) -> None:
    job = job_of(tmp_path, OBJECTIVES["one service"])
    assert 'service=~"web"' in rules.text(job)
    assert "api" not in rules.text(job)


def test_alerts_that_cannot_be_are_left_out(tmp_path: Path) -> None:
    """At a target of 90 % nothing burns more than 10 times; slices of 10 minutes know no 5."""
    loose = document(**ERRORS["spec"] | {"objectives": [{"target": 0.9}]})
    assert {each["labels"].get("long") for each in alerts(job_of(tmp_path / "a", loose))} == {
        "6h", "3d", None
    }  # fmt: skip
    spec = {
        "budgetingMethod": "Timeslices",
        "objectives": [{"target": 0.99, "timeSliceTarget": 0.9, "timeSliceWindow": "10m"}],
    }
    coarse = job_of(tmp_path / "b", document(**ERRORS["spec"] | spec))
    assert {each["labels"].get("long") for each in alerts(coarse)} == {"6h", "3d", None}
    assert rules.groups(coarse)[0]["interval"] == "10m"


def test_without_dimensions(tmp_path: Path) -> None:
    job = job_of(tmp_path, document(indicator=indicator(ratio("x", "y"), by="none")))
    assert {each["labels"]["level"] for each in alerts(job)} == {"global"}
    plain = document(
        indicator=indicator(threshold("max(x)")),
        objectives=[{"target": 0.99, "op": "lt", "value": 3}],
    )
    groups = rules.groups(job_of(tmp_path / "b", plain))
    assert [group["interval"] for group in groups] == ["5m", "5m"]
    assert groups[0]["rules"][0]["record"] == "global:slo_bad_sample:bool"


# --- the command ----------------------------------------------------------------------------------


def test_the_command(tmp_path: Path) -> None:
    """Rules are for the days to come: a window in the future is no obstacle."""
    future = "--set=window={start: 2030-01-01T00:00:00Z, duration: 24h, step: 5m}"
    demo = ROOT / "parameters" / "demo.yaml"
    printed = tars_ga("rules", demo, future)
    assert printed.returncode == 0, printed.stderr
    file = tmp_path / "rules.yaml"
    done = tars_ga("rules", demo, future, "--output", file)
    assert done.returncode == 0
    assert file.read_text(encoding="utf-8") == printed.stdout
    assert "3 objectives" in done.stderr
    gone = tars_ga("rules", demo, "--output", tmp_path / "gone" / "rules.yaml")
    assert gone.returncode == 2
    assert "cannot be written" in gone.stderr


def test_without_objectives(tmp_path: Path) -> None:
    with pytest.raises(ParametersError, match="the run has no objectives"):
        rules.text(make_job(tmp_path))
