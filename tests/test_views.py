"""What the notebooks show is what the library found: of small runs, of wide ones, of odd ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tars_ga_lib import drift, fingerprint, parameters, report, views
from tars_ga_lib.display import quantity
from tars_ga_lib.evidence_files import EVIDENCE_MODELS
from tars_ga_lib.grammar import ParametersError, parse_time
from tars_ga_lib.report.blocks import blocks
from tars_ga_lib.run import Run
from tars_ga_lib.tables import TABLE_MIME, written
from tars_ga_lib.views.drift import like_hours
from tars_ga_lib.wording import value_text
from tests import executed, packages, wide
from tests.helpers import ROOT, dump
from tests.test_report import assert_within_margins, squeezed, text_of

Finished = Callable[..., Run]
CRITERIA = {
    "availability": {"title": "Availability", "kpi": "availability", "target": ">= 0.999"},
    "worst": {
        "title": "Worst region", "kpi": "availability", "target": ">= 0.999",
        "scope": "worst_region",
    },
    "requests": {"title": "Requests", "kpi": "requests", "target": ">= 1000"},
    "oom_kills": {"title": "OOM kills", "kpi": "oom_kills", "target": "== 0"},
    "drift": {"title": "Drift", "drift": "worst_adverse", "target": "<= 0.1"},
}  # fmt: skip


def finished(folder: Path, regions: int, services: int, *overrides: str) -> Run:
    criteria = dump(folder / "criteria.yaml", {"criteria": CRITERIA})
    chosen = [*wide.FOUR_HOURS, f"criteria={criteria}", *overrides]
    wide.write(folder / "run", wide.regions(regions), wide.services(services), chosen)
    packages.finish(folder / "run")
    return Run(folder / "run")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return finished(tmp_path_factory.mktemp("views"), 5, 4)


@pytest.fixture(scope="module")
def certification(run: Run) -> dict[str, Any]:
    return run.read("certification_metadata.json")


def cells(table: pd.DataFrame, title: str) -> list[Any]:
    facts = written(table)
    place = [column["title"] for column in facts["columns"]].index(title)
    return [row[place] for row in facts["rows"]]


# --- the first page ---


def test_failures_stand_first_among_the_criteria(certification: dict[str, Any]) -> None:
    table = views.criteria_table(certification)
    order = ["fail", "no_data", "warn", "pass"]
    optional = [title.endswith("(optional)") for title in cells(table, "Criterion")]
    assert optional == sorted(optional)
    mandatory = [v for v, late in zip(cells(table, "Verdict"), optional, strict=True) if not late]
    assert mandatory == sorted(mandatory, key=order.index)
    measured = dict(zip(cells(table, "Criterion"), cells(table, "Measured"), strict=True))
    for outcome in certification["criteria"]:
        (shown,) = [
            v for k, v in measured.items() if k.removesuffix(" (optional)") == outcome["title"]
        ]
        assert shown == value_text(outcome)


def test_the_first_page_names_who_what_when_and_the_fingerprint(
    run: Run, certification: dict[str, Any]
) -> None:
    banner = views.banner(run, certification).to_json()
    assert banner["fingerprint"] == fingerprint.of(certification)
    told = views.identity(run, certification)
    facts = dict(told.facts)
    assert facts["Signed"] == "nobody has approved yet; 7 signatures missing"
    assert facts["Fingerprint"] == banner["fingerprint"]
    assert certification["derived_from"]["parameters"] in told.proof


@pytest.fixture(scope="module")
def demo() -> tuple[Run, dict[str, Any]]:
    run = Run.__new__(Run)
    run.folder = ROOT / "demo" / "recording"
    run.job = parameters.load(ROOT / "parameters" / "demo.yaml")
    return run, drift.analyse(run.kpis, run.baseline_kpis)


def prose_of(shown: Any) -> str:
    return re.sub(r"\\(?=[^\w\s])", "", str(shown.data)).replace("\xa0", " ")


def test_how_bad_for_whom_and_since_when(demo: tuple[Run, dict[str, Any]]) -> None:
    run, analysis = demo
    said = re.sub(r"\\(?=[^\w\s])", "", str(views.impact(run, analysis).data)).replace("\xa0", " ")
    incident, leak = [
        line for line in said.splitlines() if "us-west-2," in line or "Memory" in line
    ][:2]
    (found,) = [i for i in analysis["incidents"] if i["region"] == "us-west-2"]
    assert "13:10–13:40 UTC" in incident
    assert "all 8 services" in incident
    first, last = (
        (parse_time(found[key]) - run.recording.window.start) // run.recording.window.step
        for key in ("began", "ended")
    )
    failed = run.kpis.during("error_rate", int(first), int(last), "us-west-2")
    assert (
        f"{quantity(failed, 'ratio', digits=2)} of its requests failed".replace("\xa0", " ")
        in incident
    )
    assert "eu-central-1 / policy-learner" in leak
    assert "an hour, +19.6 % against the baseline" in leak


def test_what_was_not_seen_is_named(demo: tuple[Run, dict[str, Any]]) -> None:
    run, _ = demo
    outcomes = [{"title": "OOM kills", "verdict": "no_data"}, {"title": "A", "verdict": "pass"}]
    said = (
        str(views.certainty(run, {"criteria": outcomes}).data)
        .replace("\xa0", " ")
        .replace("\\", "")
    )
    assert "Not seen at all: eu-central-1, 03:20–03:40 UTC (20 min)." in said
    assert said.endswith("Not known for want of data: OOM kills.")


def test_services_of_one_finding_are_one_line_that_the_appendix_opens(
    demo: tuple[Run, dict[str, Any]],
) -> None:
    _, analysis = demo
    rows = written(views.findings_table(analysis))["rows"]
    (line,) = [row for row in rows if row[1] == "Error rate"]
    assert line[2] == "us-west-2, all 8 services"
    every = [row for row in written(views.drift_table(analysis))["rows"] if row[1] == "Error rate"]
    assert len(every) == 8
    assert set(line[5].split(" to ")) <= {row[5] for row in every}


# --- signatures ---

SIGNED = {
    "source": "Release tool",
    "release": "v1.0.1",
    "sign_offs": [
        {"role": "SRE_Lead", "name": "A. One", "approved": True, "at": "2026-11-21T08:00:00Z"},
        {"role": "PM", "name": "B. Two", "approved": False, "at": "2026-11-21T09:30:00Z"},
        {"role": "Security", "name": "C. Three", "approved": True, "at": "2026-11-21T10:00:00Z"},
    ],
}


def signed(run: Run, **changes: Any) -> Run:
    """Return the run with a sign-off file."""
    from tars_ga_lib.evidence_files import SignOffs

    given = SignOffs.model_validate(SIGNED | changes)
    other = Run(run.folder)
    other.job.evidence["sign_off"] = given
    return other


def test_each_role_has_a_line_and_those_who_signed_are_on_it(run: Run) -> None:
    table = views.sign_off_table(signed(run))
    rows = {row[0]: row[1:4] for row in written(table)["rows"]}
    assert list(rows) == [
        "Engineering lead", "Release manager", "QA lead", "DevOps lead", "SRE lead",
        "Product manager", "VP Engineering", "Security",
    ]  # fmt: skip
    assert rows["SRE lead"] == ["A. One", "approved", "2026-11-21 08:00 UTC"]
    assert rows["Product manager"] == ["B. Two", "refused", "2026-11-21 09:30 UTC"]
    assert rows["Security"] == ["C. Three", "approved", "2026-11-21 10:00 UTC"]
    assert rows["QA lead"] == ["", "not_signed", ""]
    assert "Release tool" in table.attrs["note"]


def test_a_refusal_stands_first_on_the_first_page(run: Run, certification: dict[str, Any]) -> None:
    facts = dict(views.identity(signed(run), certification).facts)
    assert facts["Signed"] == (
        "REFUSED by Product manager; approved by SRE lead, Security; 5 signatures missing"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"release": "v1.0.0"}, "is for v1.0.0: nobody signed this one"),
        ({"simulated": True}, "says that it is simulated"),
    ],
)
def test_signatures_for_something_else_sign_nothing(
    run: Run, changes: dict[str, Any], said: str
) -> None:
    other = signed(run, **changes)
    real = other.job.parameters.model_copy(update={"simulated": False})
    object.__setattr__(other.job, "parameters", real)
    table = views.sign_off_table(other)
    assert set(cells(table, "Decision")) == {"not_signed"}
    assert "A. One" not in table.to_string()
    assert said in table.attrs["note"]


# --- charts against the recording ---


def test_each_line_of_a_chart_is_the_recordings(run: Run) -> None:
    analysis = run.read("drift_analysis.json")
    primary, step = wide.regions(5)[0], run.recording.window.step
    # a chart's axis is in the unit that is read
    for chart, divisor, wanted in [
        (views.kpi_chart(run, "availability", analysis), 0.01,
         [run.kpis.series("availability", r) for r in wide.regions(5)]),
        (views.outage_chart(run, analysis), 1,
         [(1 - run.kpis.series("availability", r)) * step for r in wide.regions(5)]),
        (views.latency_chart(run, analysis), 0.001,
         [run.kpis.series(f"latency_p{q}", r) for q in (50, 95, 99) for r in wide.regions(5)]),
        (views.delta_chart(run, "error_rate", analysis), 0.01,
         [run.kpis.series("error_rate", r) - run.kpis.series("error_rate", primary)
          for r in wide.regions(5)[1:]]),
    ]:  # fmt: skip
        lines = [
            np.asarray(line.get_ydata(), dtype=float)
            for axes in chart.axes
            for line in axes.get_lines()
        ]
        for values in wanted:
            assert any(
                line.shape == values.shape
                and np.allclose(line * divisor, values, equal_nan=True, atol=1e-12)
                for line in lines
            )


def test_a_baseline_is_laid_on_like_hours() -> None:
    step = np.timedelta64(300, "s")
    ends = np.datetime64("2026-11-20T00:00", "s") + np.arange(1, 289) * step
    hours = np.arange(1.0, 289)  # a value that is the time of the day
    week = np.timedelta64(7, "D")
    assert (like_hours(ends, ends - week, hours, 300) == hours).all()
    late = ends + np.timedelta64(6, "h")
    assert (like_hours(late, ends - week, hours, 300) == np.roll(hours, -72)).all()
    short = like_hours(ends, ends[:10] - week, hours[:10], 300)
    assert np.isnan(short[10:]).all()


def test_many_alerts_of_one_outage_share_a_row(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    few = views.timeline(run)
    assert f"HighErrorRate {wide.regions(5)[2]} / engine-01" in few.alt
    monkeypatch.setattr("tars_ga_lib.views.happenings._MOST_ROWS", 3)
    many = views.timeline(run)
    assert f"HighErrorRate {wide.regions(5)[2]} (of 4 services)" in many.alt
    assert "critical: 2" in many.alt
    assert "warning: 2" in many.alt


# --- look further ---


def test_all_evaluations_of_a_place_not_only_the_findings(run: Run) -> None:
    analysis = run.read("drift_analysis.json")
    region = wide.regions(5)[1]
    table = views.drift_table(analysis, "memory_usage", region)
    wanted = [
        e for e in analysis["evaluations"] if e["kpi"] == "memory_usage" and e["region"] == region
    ]
    assert len(table) == len(wanted) == 4
    order = ["fail", "warn", "no_data", "pass"]
    verdicts = cells(table, "Verdict")
    assert sorted(verdicts, key=order.index) == verdicts
    assert views.drift_table(analysis, "nonsense").empty


# --- whole reports ---


def report_of(run: Run) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        return executed.execute("05_certification", run.folder, patch)


@pytest.fixture(scope="module")
def notebook(run: Run) -> Any:
    return report_of(run)


@pytest.mark.parametrize("part", ["report", "appendix"])
def test_all_reports_hold_the_figures_of_the_documents(
    run: Run, notebook: Any, certification: dict[str, Any], tmp_path: Path, part: Any
) -> None:
    pdf = squeezed(text_of(report.to_pdf(notebook, part=part), tmp_path, "-raw"))
    page = report.to_html(notebook, part=part)
    html = squeezed(re.sub(r"<[^>]*>", "", page).replace("&lt;", "<"))
    markdown = report.to_markdown(notebook, part=part)[0]
    texts = (pdf, html, squeezed(re.sub(r"\\(?=[^\w\s])", "", markdown)))
    wanted = [certification["decision"]]
    if part == "report":
        wanted += [fingerprint.of(certification), "Engineering lead", "not signed"]
        wanted += [text(o) for o in certification["criteria"] for text in (value_text, title_of)]
    else:
        wanted += [
            quantity(run.kpis.figure(name).value, run.job.kpis[name].unit)
            for name in views.main_kpis(run)
        ]
    for said in wanted:
        for where in texts:
            assert squeezed(said) in where, said
    for where in texts:
        assert not re.search(r"\bnan\b|\bNaN\b|\bNone\b|\{\{", where)
        assert "Lookfurther" not in where  # what is for analysts only stays out


def title_of(outcome: dict[str, Any]) -> str:
    return str(outcome["title"])


def test_no_table_shows_more_than_four_digits(notebook: Any) -> None:
    """But where fewer would round across a limit or 100 %."""
    seen = 0
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if TABLE_MIME not in output["data"]:
                continue
            facts = output["data"][TABLE_MIME]
            if facts["caption"] == "Criteria":
                continue
            for row in facts["rows"]:
                for column, text in zip(facts["columns"], row, strict=True):
                    if column["align"] != "right" or not isinstance(text, str):
                        continue
                    for number in re.findall(r"\d[\d,]*\.\d+", text):
                        seen += 1
                        digits = number.replace(",", "").replace(".", "").lstrip("0")
                        near = number.startswith(("99.9", "100.0"))
                        assert len(digits) <= 4 or near, (facts["caption"], row)
    assert seen > 50


def test_twelve_regions_and_sixty_services_fit(tmp_path: Path) -> None:
    run = finished(tmp_path, 12, 60)
    notebook = report_of(run)
    mark = fingerprint.of(run.read("certification_metadata.json"))
    for paper in ("a4", "us-letter"):
        made = report.to_pdf(notebook, paper="us-letter" if paper == "us-letter" else "a4")
        assert_within_margins(made, tmp_path)
        pages = [squeezed(page) for page in text_of(made, tmp_path).split("\f")[:-1]]
        assert len(pages) < 14
        for part in ("NOTCERTIFIED", "Criteria", "Worstregion", mark):
            assert part in pages[0]
        assert min(map(len, pages[:-1])) > 300  # none but the last is nearly empty
    appendix = report.to_pdf(notebook, part="appendix")
    assert_within_margins(appendix, tmp_path)
    alts = [block["alt"] for block in blocks(notebook) if block["kind"] == "figure"]
    (by_region,) = [alt for alt in alts if "(9 of 12, the worst)" in alt and "down for" in alt]
    assert f"{wide.regions(12)[2]}: lowest" in by_region


# --- looking further: a mistyped name, a place, and one chart an event ---


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("latency_p9", None, None), "no KPI named 'latency_p9'; did you mean 'latency_p99'"),
        (("availability", "us-east-11", None), "no region named 'us-east-11'; did you mean"),
        (
            ("availability", None, "engine-1"),
            "named 'engine-1'; did you mean 'engine-01'",
        ),
        (("cluster_memory", "mars", None), "no region named 'mars'; there are "),
        (("zzz", None, None), "no KPI named 'zzz'; there are availability, "),
    ],
)
@pytest.mark.parametrize("view", [views.kpi_chart, views.overlay])
def test_a_mistyped_name_draws_nothing_and_names_the_nearest(
    run: Run, view: Any, names: tuple[str, str | None, str | None], said: str
) -> None:
    kpi, region, service = names
    with pytest.raises(ParametersError, match=re.escape(said)):
        view(run, kpi, region=region, service=service)


def test_a_kpi_that_a_notebook_names_may_be_missing(run: Run) -> None:
    """The report of a catalogue without it says so."""
    named = set()
    for file in (ROOT / "notebooks").glob("*.ipynb"):
        source = file.read_text("utf-8")
        named |= set(re.findall(r'kpi(?:, region, service)? = \\"(\w+)\\"', source))
        named |= set(re.findall(r'_chart\(run, \\"(\w+)\\"', source))
    assert len(named) > 3
    other = Run(run.folder)
    for name in named:
        other.job.kpis.pop(name, None)
        alt = views.kpi_chart(other, name).caption
        assert f"no KPI named '{name}'" in alt


def test_a_chart_of_one_place(run: Run) -> None:
    region, service = wide.regions(5)[1], wide.services(4)[2]
    everything = views.kpi_chart(run, "request_rate").alt
    assert all(name in everything for name in wide.regions(5))
    one = views.kpi_chart(run, "request_rate", region=region).alt
    assert region in one
    assert wide.regions(5)[0] not in one
    both = views.kpi_chart(run, "request_rate", region=region, service=service).alt
    assert f"{region} / {service}" in both
    assert both != one
    assert service in views.kpi_chart(run, "request_rate", service=service).alt


def test_one_chart_a_rule_and_the_deciding_one_first(demo: tuple[Run, dict[str, Any]]) -> None:
    charts = views.worst_overlays(*demo)
    assert charts[0].alt.startswith("Line chart: Memory use of policy-learner in eu-central-1 grew")
    assert "window: lowest" in charts[0].alt
    assert len({chart.name for chart in charts}) == len(charts) == 3


# --- facts of evidence files ---

INCIDENT = {"id": "I", "severity": "sev1", "title": "t", "start": "2026-11-20T02:00:00Z"}
WINDOW = {"start": "2026-11-20T00:00:00Z", "duration": "24h"}


@pytest.mark.parametrize(
    ("kind", "facts", "said"),
    [
        (
            "security_scan",
            {"scanner": "s", "scanned_at": "2026-11-19T12:00:00Z",
             "critical": 0, "high": 1, "patched": 5},
            "critical: 0; high: 1; patched: 5",
        ),
        ("incidents", {"incidents": [INCIDENT]}, "1 incident"),
        ("incidents", {"incidents": [INCIDENT, INCIDENT]}, "2 incidents"),
        ("incidents", {"incidents": []}, "0 incidents"),
        ("deployments", {"deployments": [{"at": "2026-11-20T01:00:00Z", "kind": "rollout",
                                          "title": "t"}]}, "1 deployment"),
        (
            "rollback",
            {"tested_at": "2026-11-19T12:00:00Z", "successful": True},
            "successful: yes",
        ),
        ("customer", {"support_tickets": 1, "escalated": 0, "satisfaction": 1},
         "support tickets: 1; escalated: 0; satisfaction: 100"),
        (
            "canary",
            {"start": "2026-11-19T12:00:00Z", "duration": "1h", "traffic": 0.05,
             "decision": "promoted", "compared": [
                 {"title": "t", "before": 1, "after": 1, "unit": "count"}]},
            "traffic: 5\u00a0%; decision: promoted; 0 gates; 1 comparison",
        ),
    ],
)  # fmt: skip
def test_facts_read_as_what_they_are(run: Run, kind: Any, facts: dict[str, Any], said: str) -> None:
    """A count of 0 or 1 is no word, a share is read in percent, and one of something is one."""
    model = EVIDENCE_MODELS[kind]
    covers = {"covers": WINDOW} if "covers" in model.model_fields else {}
    other = Run(run.folder)
    other.job.evidence[kind] = model.model_validate(
        {"source": "s", "release": "v1"} | covers | facts
    )
    rows = dict(zip(cells(views.evidence_table(other), "Evidence"),
                    cells(views.evidence_table(other), "What it says"), strict=True))  # fmt: skip
    assert said in rows[kind]
