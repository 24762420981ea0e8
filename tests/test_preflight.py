"""Preflight: which queries answer, and what exactly the others miss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from demo import simulate
from tars_ga_lib import catalogues, preflight, queries
from tars_ga_lib.grammar import ParametersError
from tars_ga_lib.parameters import Job
from tars_ga_lib.prometheus import SourceError
from tests import servers
from tests.helpers import ROOT, SMALL, make_job, small_job, tars_ga


def problems(job: Job) -> dict[str, str]:
    """Problems of preflight by request."""
    return {each.request.id: each.problem for each in preflight.preflight(job) if not each.ok}


def test_preflight_finds_nothing_wrong(small_server: str) -> None:
    assert problems(small_job(small_server)) == {}


def test_preflight_is_cheap(small_server: str) -> None:
    with servers.faulty(small_server, "pass") as server:
        count = len(list(preflight.preflight(small_job(server.url))))
    asked = len([q for q in server.asked if "query_range" in q])
    assert asked == count + 4  # targets and scrapes, over the window and the baseline
    assert count > 30


def test_preflight_says_what_is_missing(small_server: str, tmp_path: Path) -> None:
    text = (ROOT / "parameters" / "kpis.yaml").read_text("utf-8")
    text = text.replace("process_resident_memory_bytes", "process_memory_bytes")
    text = text.replace("redis_connected_clients{$match}", "redis_connected_clients{x='y',$match}")
    changed = tmp_path / "kpis.yaml"
    changed.write_text(text, "utf-8")
    found = problems(
        small_job(
            small_server,
            f"kpis={changed}",
            "regions=[us-east-1, us-west-2, mars]",
            "labels.service=svc",
        )
    )
    assert found["memory.value"] == "no metric process_memory_bytes in the window"
    assert found["requests.increase"].startswith(
        "the metric http_requests_total has no label 'svc'; it has code, instance, job, region, "
    )
    assert found["redis_memory.value"] == "no samples for the region mars"
    assert found["redis_clients.value"].startswith(
        "the metric redis_connected_clients has no label 'x'; it has "
    )
    only_mars = problems(small_job(small_server, "regions=[mars]", "primary_region=mars"))
    assert (
        "none of the regions asked for, but us-east-1, us-west-2"
        in (only_mars["redis_memory.value"])
    )


def test_preflight_of_an_empty_and_a_dead_server(empty_server: str) -> None:
    found = problems(small_job(empty_server))
    assert len(found) > 30
    assert "baseline 1, us-east-1; us-west-2: no scrape" in found.values()
    assert all("no metric" in text or "no scrape" in text for text in found.values())
    assert queries.FIRING not in found  # no alert is a good answer
    assert queries.EVALUATIONS in found
    with pytest.raises(SourceError, match="cannot be reached"):
        problems(small_job(f"http://127.0.0.1:{servers.free_port()}"))


def test_preflight_passes_on_warnings_and_errors(small_server: str) -> None:
    with servers.faulty(small_server, "warnings", "error", "pass") as server:
        found = problems(small_job(server.url))
    assert sorted(found.values()) == [
        "HTTP 422: simulated failure", "the server warns: simulated: not whole",
    ]  # fmt: skip


def test_only_what_a_decision_rests_on_is_needed(small_server: str, tmp_path: Path) -> None:
    found = {each.request.id: each for each in preflight.preflight(small_job(small_server))}
    assert found["availability.numerator"].needed  # of a mandatory criterion
    assert found["memory_usage.value"].needed  # of a drift rule
    assert found["errors.increase"].needed  # of an objective too
    assert not found["redis_clients.value"].needed
    job = make_job(
        tmp_path,
        criteria_={
            "a": {"title": "A", "kpi": "availability", "target": ">= 0.9"},
            "b": {"title": "B", "kpi": "replicas", "target": "== 3", "mandatory": False},
        },
    )
    assert preflight.needed(job) == set(job.kpis["availability"].queries().values())


@pytest.mark.parametrize(("broken", "code"), [("up{", 4), ("redis_connected_clients{", 0)])
def test_preflight_fails_only_for_what_is_needed(
    small_server: str, tmp_path: Path, broken: str, code: int
) -> None:
    text = (ROOT / "parameters" / "kpis.yaml").read_text("utf-8")
    (tmp_path / "kpis.yaml").write_text(text.replace(broken, f"no_such_{broken}"), "utf-8")
    assignments = [*SMALL, f"source.prometheus={small_server}", f"kpis={tmp_path / 'kpis.yaml'}"]
    given = [part for each in assignments for part in ("--set", each)]
    done = tars_ga("preflight", ROOT / "parameters" / "ga_day.yaml", *given)
    assert done.returncode == code, done.stdout
    assert ("would be INCONCLUSIVE" in done.stdout) is (code == 4)
    assert "that no decision rests on" in done.stdout


# --- Servers that are nearly right ----------------------------------------------------------------


def _after(hours: float) -> int:
    """Seconds of the window's start and of so many hours after it."""
    return simulate.GA_DAY + 12 * simulate.HOUR + int(hours * simulate.HOUR)


def _between(start: float, end: float, *marks: str) -> Callable[[str, float], str | None]:
    """Lose the samples of series with all of these marks between two hours of the window."""
    return lambda line, time: (
        None
        if _after(start) <= time < _after(end) and all(mark in line for mark in marks)
        else line
    )


NEARLY_RIGHT: dict[str, tuple[Callable[[str, float], str | None], tuple[str, ...]]] = {
    "the code of an answer has another label": (
        lambda line, time: line.replace(",code=", ",status="),
        ("the metric http_requests_total has no label 'code'; it has instance, job, region, "
         "service, status",),
    ),
    "four of five scrapes are missing": (
        lambda line, time: line if time % 300 <= 60 else None,
        ("window, us-east-1; us-west-2: 20.0% of its scrapes were seen",),
    ),
    "a region was not scraped for half an hour": (
        _between(1, 1.5, 'region="us-west-2"'),
        ("window, us-west-2: 75.0% of its scrapes were seen",),
    ),
    "a service vanished": (
        _between(1.25, 9, 'region="us-east-1"', "hypersync"),
        ("window, us-east-1 / hypersync: 62.5% of its scrapes were seen, none since "
         "2026-11-20T13:15:00Z",),
    ),
    "a service never was in a region": (
        _between(-9, 9, 'region="us-west-2"', "dashboard-api"),
        ("window, us-west-2 / dashboard-api: no scrape",
         "no samples for us-west-2 / dashboard-api"),
    ),
}  # fmt: skip


def _damaged(source: Path, target: Path, change: Callable[[str, float], str | None]) -> None:
    """Write text of OpenMetrics again, line by line as `change` has it."""
    with source.open(encoding="utf-8") as old, target.open("w", encoding="utf-8") as new:
        for line in old:
            if line.startswith("#"):
                new.write(line)
            elif (changed := change(line, float(line.rpartition(" ")[2]))) is not None:
                new.write(changed)


@pytest.mark.parametrize("case", NEARLY_RIGHT)
def test_preflight_names_what_a_nearly_right_server_lacks(case: str, tmp_path: Path) -> None:
    change, expected = NEARLY_RIGHT[case]
    for day in ("baseline", "ga"):
        simulate.write(tmp_path / f"{day}.whole", simulate.small(), only=day)
    (tmp_path / "baseline.whole").rename(tmp_path / "baseline.om")
    _damaged(tmp_path / "ga.whole", tmp_path / "ga.om", change)
    servers.backfill(tmp_path / "data", tmp_path / "baseline.om", tmp_path / "ga.om")
    with servers.prometheus(tmp_path / "data") as url:
        findings = [one for one in preflight.preflight(small_job(url)) if not one.ok]
    needed = [one.problem for one in findings if one.needed]
    for sentence in expected:
        assert any(text.startswith(sentence) for text in needed), needed


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (
            'sum by (a, b) (increase(x_total{l=~"y{z}[5m]"}[5m])) / rate(z:w[5m])',
            ["x_total", "z:w"],
        ),
        ("up", []),
        ('x{a="\\"", b="c{d}"} or y{}', ["x", "y"]),
    ],
)
def test_metric_names(query: str, names: list[str]) -> None:
    assert catalogues.metric_names(query) == names


def test_source_is_needed(tmp_path: Path) -> None:
    job = make_job(tmp_path, source={"recording": "x"})
    with pytest.raises(ParametersError, match="needs 'prometheus'"):
        list(preflight.preflight(job))
