"""Parameters: what is good is read, and whatever is bad is refused in one clear sentence."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tars_ga_lib import evidence_files, grammar, parameters
from tars_ga_lib.grammar import ParametersError, format_duration, format_time, parse_duration
from tests.helpers import CRITERION, KPIS, ROOT, RULE, make_job, run_document, write_run

WAIVER = "waivers: [{release: v1.0.1, criterion: %s, who: me, why: because, until: %s}]"


def refusal(path: Path, *overrides: str, now: float | None = None) -> str:
    """Return the sentences, a line each, with which a run's file is refused."""
    with pytest.raises(ParametersError) as caught:
        parameters.load(path, overrides, now=now)
    text = str(caught.value)
    assert "pydantic" not in text.lower()
    lines = text.splitlines()
    assert len(lines) == len(set(lines)) <= grammar.MOST_PROBLEMS + 1
    for line in lines:
        assert len(line) < 400
        assert re.match(r"(/|--set )", line), line  # the file or the option
    return text


# --- What is good ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["demo", "ga_day"])
def test_our_own_files_are_good(name: str) -> None:
    job = parameters.load(ROOT / "parameters" / f"{name}.yaml")
    assert len(job.rules) == 12
    assert {"availability", "error_rate", "latency_p99"} <= job.criteria.keys()
    assert job.parameters.window.seconds == 86400


def test_examples_of_evidence_are_good(tmp_path: Path) -> None:
    folder = ROOT / "parameters" / "evidence"
    files = {kind: str(folder / f"{kind}.yaml") for kind in evidence_files.EVIDENCE_MODELS}
    text = (ROOT / "parameters" / "waivers.example.yaml").read_text(encoding="utf-8")
    path = write_run(
        tmp_path,
        evidence=files,
        waivers="waivers.yaml",
        criteria_={"latency_p99": {"title": "P99", "kpi": "latency_p99", "target": "< 0.5"}},
        texts={"waivers.yaml": text},
    )
    job = parameters.load(path)
    assert job.evidence.keys() == evidence_files.EVIDENCE_MODELS.keys()
    assert [waiver.criterion for waiver in job.waivers] == ["latency_p99"]


def test_relative_paths_are_relative_to_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_run(
        tmp_path / "here",
        source={"recording": "../recording"},
        baseline={"run": "../earlier"},
        evidence={"rollback": "rollback.yaml"},
        texts={
            "rollback.yaml": "{source: me, release: v1, tested_at: 2026-11-18T15:00:00Z, "
            "successful: true}"
        },
    )
    monkeypatch.chdir("/")
    job = parameters.load(path)
    assert job.parameters.source.recording == tmp_path / "here" / ".." / "recording"
    assert job.parameters.baseline == parameters.BaselineRun(run=tmp_path / "here" / "../earlier")
    assert "rollback" in job.evidence


@pytest.mark.parametrize(
    ("start", "seconds"),
    [
        ("2026-11-20T00:00:00Z", 1_795_132_800),
        ("2026-11-20T01:00:00+01:00", 1_795_132_800),
        ("2026-11-19 19:00:00-05:00", 1_795_132_800),
    ],
)
def test_times_with_a_zone(tmp_path: Path, start: str, seconds: int) -> None:
    window = {"start": start, "duration": "1h", "step": "5m"}
    quoted = parameters.load(write_run(tmp_path, window=window))
    plain = tmp_path / "run.yaml"
    plain.write_text(plain.read_text("utf-8").replace(f"'{start}'", start), encoding="utf-8")
    assert quoted.parameters.window.start == seconds
    assert parameters.load(plain).parameters.window.start == seconds


def test_saved_job_is_the_same_job(tmp_path: Path) -> None:
    job = parameters.load(ROOT / "parameters" / "demo.yaml")
    window = job.parameters.window
    job.save(tmp_path / "parameters", [(window.start - 604800, window.stop - 604800)])
    again = parameters.load(tmp_path / "parameters" / "run.yaml")
    assert again.kpis == job.kpis
    assert again.rules == job.rules
    assert again.criteria == job.criteria
    assert again.evidence == job.evidence
    assert again.parameters.window.stop == window.stop
    assert again.parameters.baseline_intervals()[0].start == window.start - 604800
    assert "recording" in (tmp_path / "parameters" / "run.yaml").read_text("utf-8")


def test_baseline_is_repeated_into_the_past(tmp_path: Path) -> None:
    baseline = {"start": "2026-11-13T00:00:00Z", "duration": "24h", "repeat": "7d x 2"}
    found = parameters.load(write_run(tmp_path, baseline=baseline)).parameters.baseline_intervals()
    assert [format_time(each.start) for each in found] == [
        "2026-11-13T00:00:00Z",
        "2026-11-06T00:00:00Z",
    ]
    assert {each.seconds for each in found} == {86400}


def test_several_baselines(tmp_path: Path) -> None:
    several = [{"start": f"2026-11-{day}T00:00:00Z", "duration": "24h"} for day in (13, 12)]
    found = parameters.load(write_run(tmp_path, baseline=several)).parameters.baseline_intervals()
    assert [each.start for each in found] == [1_794_528_000, 1_794_441_600]


# --- Overrides ------------------------------------------------------------------------------------


def test_overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_run(tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    found = parameters.load(
        path,
        [
            "window.step=1m",
            "regions=[north, east]",
            "source={prometheus: 'http://127.0.0.1:1', timeout: 9s}",
            "labels.region=dc",
            "simulated=true",
        ],
    ).parameters
    assert found.window.step == 60
    assert found.window.seconds == 86400  # the rest of the mapping stays
    assert found.regions == ["north", "east"]
    assert (found.source.prometheus, found.source.timeout) == ("http://127.0.0.1:1", 9)
    assert found.labels.region == "dc"
    assert found.simulated


def test_overridden_paths_are_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_run(tmp_path / "there")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mine.yaml").write_bytes((tmp_path / "there/criteria.yaml").read_bytes())
    monkeypatch.chdir(tmp_path / "here")
    found = parameters.load(path, ["source.recording=rec", "criteria=mine.yaml"]).parameters
    assert found.source.recording == tmp_path / "here" / "rec"
    assert found.source.prometheus is None  # the one replaces the other
    assert found.criteria == (tmp_path / "here" / "mine.yaml",)
    back = parameters.load(path, ["source.recording=rec", "source.prometheus='http://127.0.0.1'"])
    assert back.parameters.source.recording is None


# --- What is refused ------------------------------------------------------------------------------

WINDOW = {"start": "2026-11-20T00:00:00Z", "duration": "24h", "step": "5m"}
BASELINE = {"start": "2026-11-13T00:00:00Z", "duration": "24h"}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"widow": 1}, "unknown key 'widow'; did you mean 'window'?"),
    ({"xyzzy": 1}, "unknown key 'xyzzy'; take it out"),
    ({"window": WINDOW | {"stepp": "5m"}}, "unknown key 'window.stepp'; did you mean 'step'?"),
    ({"source": {"recordings": "x"}}, "unknown key 'source.recordings'; did you mean 'recording'?"),
    ({"baseline": BASELINE | {"stat": 1}}, "unknown key 'baseline.stat'; did you mean 'start'?"),
    ({"cost": {"usd_core": 1}}, "unknown key 'cost.usd_core'"),
    ({"evidence": {"rollbak": "x"}}, "evidence"),
    ({"services": None}, "the key 'services' is missing; add it"),
    ({"window": {"start": WINDOW["start"], "duration": "24h"}}, "'window.step' is missing; add it"),
    ({"release": {"name": "T", "version": 1.0}}, "must be a valid string, not 1.0; put it"),
    ({"release": {"name": "T", "version": ""}}, "release.version"),
    ({"release": {"name": "T", "version": "1", "digest": "sha256:12"}}, "release.digest"),
    ({"regions": "east"}, "regions: must be a valid list, not 'east'"),
    ({"regions": []}, "regions"),
    ({"regions": ["east", False]}, "regions.1: must be a valid string, not False"),
    ({"regions": ["east", "west", "east"]}, "regions: 'east' is there twice; name each once"),
    ({"services": ["api", "api"]}, "services: 'api' is there twice; name each once"),
    ({"primary_region": "nort"}, "primary_region 'nort' is not one of the regions (east, west)"),
    ({"simulated": "yes"}, "simulated: must be a valid boolean, not 'yes'"),
    ({"window": WINDOW | {"duration": None, "end": "2026-11-20T00:00:00Z"}}, "is not after"),
    ({"window": WINDOW | {"duration": None, "end": "2026-11-19T00:00:00Z"}}, "is not after"),
    ({"window": WINDOW | {"duration": None}}, "give exactly one of 'duration' and 'end'"),
    ({"window": WINDOW | {"step": "7m"}}, "the step 7m does not divide the window of 24h; choose"),
    ({"window": WINDOW | {"step": 300}}, "window.step: 300 is not a duration; write it like 24h"),
    ({"window": WINDOW | {"step": "0m"}}, "'0m' is an empty duration"),
    ({"window": WINDOW | {"step": "-5m"}}, "'-5m' is not a duration"),
    ({"window": WINDOW | {"step": "5 m"}}, "'5 m' is not a duration"),
    ({"window": WINDOW | {"duration": "99999999w"}}, "window"),
    ({"window": WINDOW | {"duration": "9" * 5000 + "s"}}, "window.duration"),
    ({"window": WINDOW | {"start": "2026-11-20T00:00:00"}}, "has no time zone; end it with Z"),
    ({"window": WINDOW | {"start": "2026-11-20"}}, "window.start"),
    ({"window": WINDOW | {"start": "yesterday"}}, "window.start: 'yesterday' is not a time; write"),
    ({"window": WINDOW | {"start": 1_795_132_800}}, "window.start: 1795132800 is not a time"),
    ({"window": WINDOW | {"start": "2026-11-20T00:00:00.5Z"}}, "has parts of a second"),
    ({"window": WINDOW | {"start": "0001-01-01T00:00:00+23:59"}}, "window"),
    ({"window": "24h"}, "window: must be a mapping of keys to values, not '24h'"),
    ({"baseline": BASELINE | {"start": "2026-11-19T00:00:01Z"}}, "overlaps the window"),
    ({"baseline": BASELINE | {"duration": "23h59m"}}, "the step 5m does not divide the baseline"),
    ({"baseline": BASELINE | {"repeat": "7d"}}, "'7d' is not a repetition of up to 100; write it"),
    ({"baseline": BASELINE | {"repeat": "7d x 0"}}, "is not a repetition"),
    ({"baseline": BASELINE | {"repeat": "7d x 999999999"}}, "baseline.repeat"),
    ({"baseline": BASELINE | {"repeat": "1h x 2"}}, "baseline"),
    ({"baseline": []}, "baseline: give 'start' and 'duration', or 'run', or a list of intervals"),
    ({"baseline": "7d"}, "baseline: give 'start' and 'duration', or 'run'"),
    ({"baseline": [BASELINE, {"duration": "24h"}]}, "start' is missing; add it"),
    ({"baseline": {"run": 7}}, "baseline.run: must be a path, not 7"),
    ({"source": {}}, "source: give exactly one of 'prometheus' and 'recording'"),
    ({"source": {"prometheus": "http://a", "recording": "b"}}, "give exactly one of 'prometheus'"),
    ({"source": {"prometheus": "127.0.0.1:9090"}}, "is not a URL; write it like http://127.0.0.1"),
    ({"source": {"prometheus": "ftp://127.0.0.1"}}, "is not a URL"),
    ({"source": {"prometheus": "http://127.0.0.1:ninety"}}, "source.prometheus"),
    ({"source": {"prometheus": "http://127.0.0.1:99999"}}, "source.prometheus"),
    ({"source": {"prometheus": "http://["}}, "source.prometheus"),
    ({"source": {"prometheus": "http://a", "connections": 0}}, "source.connections"),
    ({"source": {"prometheus": "http://a", "connections": "2"}}, "source.connections"),
    ({"kpis": "nowhere.yaml"}, "nowhere.yaml: there is no such file; check the name"),
    ({"criteria": "."}, "cannot be read"),
    ({"kpis": None}, "the key 'kpis' is missing; add it"),
    ({"evidence": {"rollback": "gone.yaml"}}, "gone.yaml: there is no such file"),
    ({"cost": {"usd_per_core_hour": "x"}}, "usd_per_core_hour: must be a valid number"),
    ({"cost": {"usd_per_core_hour": float("nan")}}, "cost.usd_per_core_hour"),
    ({"cost": {"usd_per_gib_hour": float("inf")}}, "cost.usd_per_gib_hour"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "said"), BAD, ids=[f"{n}" for n in range(len(BAD))])
def test_bad_runs(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    text = refusal(write_run(tmp_path, **changes))
    assert said in text
    assert str(tmp_path) in text  # the file


def test_future_window(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    end = 1_795_132_800 + 86400
    assert "2026-11-21T00:00:00Z, which is in the future; wait" in refusal(path, now=end - 1)
    assert parameters.load(path, now=end)
    ahead = {"start": "2999-11-13T00:00:00Z", "duration": "24h"}
    assert "future" in refusal(write_run(tmp_path, baseline=ahead))


CATALOGUES: list[tuple[str, dict[str, Any], str]] = [
    ("kpis.yaml", {"kpis_": {}}, "kpis"),
    ("kpis.yaml", {"kpis_": KPIS | {"x": {"kind": "ratio"}}}, "kpis.x"),
    ("kpis.yaml", {"kpis_": KPIS | {"x": KPIS["memory"] | {"kind": "guage"}}}, "kpis.x.kind"),
    ("kpis.yaml", {"kpis_": KPIS | {"x": KPIS["memory"] | {"increase": "y"}}}, "gauge has no key"),
    ("kpis.yaml", {"kpis_": KPIS | {"x": KPIS["latency_p99"] | {"quantile": 99.0}}}, "x.quantile"),
    ("kpis.yaml", {"kpis_": KPIS | {"x": KPIS["memory"] | {"by": ["service"]}}}, "'by' is []"),
    ("kpis.yaml", {"kpis_": KPIS | {"x": KPIS["memory"] | {"acros": "max"}}}, "mean 'across'?"),
    ("kpis.yaml", {"alerts_": {"firing": "x"}}, "'alerts.evaluations' is missing"),
    ("drift_rules.yaml", {"rules_": {"x": RULE | {"kpi": "memry"}}}, "did you mean 'memory'?"),
    ("drift_rules.yaml", {"rules_": {"x": RULE | {"kpi": ["memory", "zz"]}}}, "'zz' is not in"),
    ("drift_rules.yaml", {"rules_": {"x": RULE | {"kpi": "memory", "warning": 0}}}, "above 0"),
    ("drift_rules.yaml", {"rules_": {"x": RULE | {"kpi": "memory", "critical": 0.01}}}, "above"),
    ("drift_rules.yaml", {"rules_": {"x": RULE | {"kpi": "memory", "critical": None}}}, "both"),
    (
        "drift_rules.yaml",
        {"rules_": {"x": RULE | {"kpi": "memory", "critical": float("inf")}}},
        "rules.x.critical",
    ),
    (
        "drift_rules.yaml",
        {"rules_": {"x": RULE | {"kpi": "memory", "measure": "exact"}}},
        "an exact rule has no limits",
    ),
    ("criteria.yaml", {"criteria_": {"x": CRITERION | {"kpi": "avail"}}}, "'avail' is not in"),
    ("criteria.yaml", {"criteria_": {"x": CRITERION | {"kpi": "availabilty"}}}, "'availability'?"),
    ("criteria.yaml", {"criteria_": {"x": CRITERION | {"mandatory": False}}}, "no criterion is"),
    ("criteria.yaml", {"criteria_": {"x": CRITERION | {"drift": "worst_adverse"}}}, "exactly one"),
    ("criteria.yaml", {"criteria_": {"x": CRITERION | {"target": 0.999}}}, "0.999 is not a limit"),
    ("criteria.yaml", {"criteria_": {"x": CRITERION | {"target": "=> 0.999"}}}, "is not a limit"),
    ("criteria.yaml", {"criteria_": {"x": CRITERION | {"target": ">= lots"}}}, "is not a number"),
    ("criteria.yaml", {"criteria_": {"x": CRITERION | {"target": ">= nan"}}}, "is not a number"),
    ("criteria.yaml", {"criteria_": {"x": CRITERION | {"target": ">= -inf"}}}, "is not a number"),
    ("criteria.yaml", {"criteria_": {"x": CRITERION | {"warning": "< 1"}}}, "point the same way"),
    ("criteria.yaml", {"criteria_": {"x": CRITERION | {"warning": ">= 0.9"}}}, "is looser than"),
    ("criteria.yaml", {"criteria_": {"x": CRITERION | {"weight": 0}}}, "criteria.x.weight"),
    ("criteria.yaml", {"criteria_": {"x": CRITERION | {"weight": float("inf")}}}, "x.weight"),
    ("criteria.yaml", {"criteria_": {"x": CRITERION | {"min_coverage": 95}}}, "x.min_coverage"),
    ("criteria.yaml", {"criteria_": {}}, "criteria"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "changes", "said"), CATALOGUES, ids=[f"{n}" for n in range(len(CATALOGUES))]
)
def test_bad_catalogues(tmp_path: Path, file: str, changes: dict[str, Any], said: str) -> None:
    text = refusal(write_run(tmp_path, **changes))
    assert said in text
    assert text.startswith(str(tmp_path / file))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (WAIVER % ("availabilty", "2999-01-01T00:00:00Z"), "names the criterion 'availabilty'"),
        (WAIVER % ("availability", "2026-11-20T23:59:59Z"), "expired at 2026-11-20T23:59:59Z"),
        (WAIVER % ("availability", "2026-12-01"), "is not a time"),
        ("waivers: {}", "waivers: must be a valid list"),
        (
            "waivers: [{release: v1.0.1, criterion: availability, who: me, "
            "until: 2999-01-01T00:00:00Z}]",
            "why' is",
        ),
    ],
)  # fmt: skip
def test_bad_waivers(tmp_path: Path, text: str, said: str) -> None:
    path = write_run(tmp_path, waivers="waivers.yaml", texts={"waivers.yaml": text})
    found = refusal(path)
    assert said in found
    assert found.startswith(str(tmp_path / "waivers.yaml"))


INCIDENT = "{id: I, severity: sev1, title: t, start: 2026-11-20T02:00:00Z, end: %s}"


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("rollback", "{source: me, release: v1, successful: true}", "'tested_at' is missing"),
        ("rollback", "{release: v1, successful: 1, tested_at: 2026-11-18T15:00:00Z}", "source"),
        (
            "rollback",
            "{source: me, release: v1, successful: yes please, tested_at: 2026-11-18T15:00:00Z}",
            "successful: must be a valid boolean",
        ),
        ("rollback", "[]", "must be"),
        ("incidents", "{source: me, release: v1.0.1, incidents: []}", "'covers' is missing"),
        (
            "incidents",
            "{source: me, release: v1, covers: {start: 2026-11-20T00:00:00Z, duration: 24h}, "
            "incidents: [" + INCIDENT % "2026-11-19T03:00:00Z" + "]}",
            "incidents.0",  # an incident that ends before it starts would fall out of the window
        ),
        ("sign_off", "{source: me, release: v1, sign_offs: []}", "sign_offs"),  # nobody has signed
        (
            "security_scan",
            "{source: s, release: v, scanner: s, scanned_at: 2026-11-19T12:00:00Z, critical: -1, "
            "high: 0}",
            "critical",
        ),
        (
            "customer",
            "{source: s, release: v1, support_tickets: 1, "
            "covers: {start: 2026-11-20T00:00:00Z, duration: 24h}, "
            "escalated: 0, satisfaction: 96}",
            "satisfaction",
        ),
    ],
)
def test_bad_evidence(tmp_path: Path, kind: str, text: str, said: str) -> None:
    path = write_run(tmp_path, evidence={kind: "facts.yaml"}, texts={"facts.yaml": text})
    found = refusal(path)
    assert said in found
    assert found.startswith(str(tmp_path / "facts.yaml"))


# --- Text that is not what it should be -----------------------------------------------------------

DEEP = "[" * 3000 + "]" * 3000
LAUGHS = "\n".join(
    ["a0: &a0 [ha, ha]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
)
MERGES = "\n".join(
    ["a0: &a0 {x: 1}"]
    + [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 9)]
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"release: {name: a\nwindow: b", "line 2"),
        (b"a: 1\na: 2\n", "line 2: the key 'a' is there twice; correct the YAML"),
        (b"window: {step: 5m, step: 1m}", "the key 'step' is there twice"),
        (b"\xff\xfe\x00", "is not UTF-8 text; save it as UTF-8"),
        ("release: {name: Zürich}".encode("latin-1"), "is not UTF-8 text"),
        (b"a: \x00", "correct the YAML"),
        (b"", "must be"),
        (b"just words", "must be"),
        (b"a: 1\n---\nb: 2\n", "but found another document"),
        (b"a: !!python/object/apply:os.system ['true']", "asks for more than data"),
        (b"a: &a {b: *a}", "recursive"),
        (b"? [a, b]\n: c", "a key must be a plain name"),
        (b"? !!set {a}\n: c", "a key must be a plain name"),
        (b"1: 2", "1"),
        (b"window: {start: 2026-13-45T00:00:00Z}", "month must be in 1..12"),
        (DEEP.encode(), "run.yaml"),
        (LAUGHS.encode(), "a0"),
        (MERGES.encode(), "a0"),
    ],
    ids=lambda value: value[:30] if isinstance(value, bytes) else "",
)
def test_bad_text(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    text = refusal(path)
    assert text.startswith(str(path))
    assert said in text


def test_missing_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.yaml").endswith("no.yaml: there is no such file; check the name")
    assert "cannot be read" in refusal(tmp_path)


# --- Credentials ----------------------------------------------------------------------------------

SECRET = "hunter2secret"


@pytest.mark.parametrize(
    "source",
    [
        {"prometheus": f"http://user:{SECRET}@127.0.0.1:9090"},
        {"prometheus": f"http://{SECRET}@127.0.0.1:9090"},
        {"prometheus": f"http://127.0.0.1:9090/?token={SECRET}"},
        {"prometheus": f"http://127.0.0.1:9090/#{SECRET}"},
        {"prometheus": f"ftp://user:{SECRET}@127.0.0.1:9090"},
        {"prometheus": f"user:{SECRET}@127.0.0.1:9090"},
        {"prometheus": f"http://user:x/{SECRET}@127.0.0.1"},
        {"prometheus": [f"http://user:{SECRET}@127.0.0.1"]},
        {"prometheus": "http://127.0.0.1", "bearer_token": SECRET},
        f"http://user:{SECRET}@127.0.0.1:9090",
        {"prometheus": "http://127.0.0.1", "org_id": [SECRET]},
    ],
    ids=range(11),
)
def test_credentials_are_refused_and_not_repeated(tmp_path: Path, source: Any) -> None:
    assert SECRET not in refusal(write_run(tmp_path, source=source))


def test_credentials_say_where_they_belong(tmp_path: Path) -> None:
    text = refusal(write_run(tmp_path, source={"prometheus": f"http://u:{SECRET}@127.0.0.1"}))
    assert "TARS_GA_BEARER_TOKEN" in text
    assert "source.prometheus" in text


# --- Single values --------------------------------------------------------------------------------


@given(st.integers(1, 400 * 86400))
def test_durations_round_trip(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("24h", 86400), ("5m", 300), ("30s", 30), ("1h30m", 5400), ("7d", 604800), ("2w", 1209600)],
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


def test_a_day_reads_as_hours() -> None:
    assert format_duration(86400) == "24h"
    assert format_duration(30 * 86400) == "30d"
    assert format_duration(5400) == "1h30m"


@given(st.text(max_size=12))
def test_no_other_duration(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert seconds > 0
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.datetimes(datetime(1970, 1, 1), datetime(2999, 1, 1)))
def test_times_round_trip(moment: datetime) -> None:
    seconds = int(moment.replace(tzinfo=UTC).timestamp())
    assert grammar.parse_time(format_time(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        (">= 0.999", 0.999, True),
        (">= 0.999", 0.9989999, False),
        ("< 0.5", 0.5, False),
        ("<= 0.5", 0.5, True),
        ("== true", 1.0, True),
        ("== 0", 1e-300, False),
        ("> 1", float("nan"), False),
        ("< 1", float("nan"), False),
    ],
)
def test_limits(text: str, value: float, holds: bool) -> None:
    assert grammar.parse_limit(text).holds(value) is holds


@pytest.mark.parametrize("text", [">= 0.9999999", "< 12345678", "== 0", "<= 0.1", "> 1.5"])
def test_limits_are_written_as_they_were_read(text: str) -> None:
    assert str(grammar.parse_limit(text)) == text


@given(st.dictionaries(st.text(max_size=8), st.one_of(st.none(), st.integers(), st.text())))
def test_random_documents_are_refused_in_one_sentence(document: dict[str, Any]) -> None:
    with pytest.raises(ParametersError) as caught:
        grammar.check(parameters.Parameters, run_document() | {"x": 1} | document, "run.yaml")
    assert str(caught.value).startswith("run.yaml: ")


def test_a_query_with_an_unknown_mark(tmp_path: Path) -> None:
    from tars_ga_lib.queries import requests

    job = make_job(tmp_path, kpis_=KPIS | {"memory": KPIS["memory"] | {"value": "x{$macth}"}})
    with pytest.raises(ParametersError, match=r"'macth'.*use \$match, \$by, \$step"):
        requests(job)


def test_yaml_numbers_are_not_changed(tmp_path: Path) -> None:
    """A digest or a version that looks like a number stays text or is refused, never rewritten."""
    path = write_run(tmp_path)
    document = yaml.safe_load(path.read_text("utf-8"))
    document["release"]["version"] = "1.10"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    assert parameters.load(path).parameters.release.version == "1.10"
