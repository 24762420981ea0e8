"""The validation suite: how a check is run and judged, and the suite as users start it."""

from __future__ import annotations

import html
import json
import math
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pytest

from tars_ga_lib import cli
from tars_ga_lib.cli import console
from tars_ga_lib.criteria import evaluate
from tars_ga_lib.grammar import Limit, ParametersError, read_yaml
from tars_ga_lib.measured import read as read_results
from tars_ga_lib.run import Run
from tars_ga_lib.system import measuring, results, tables, test_kpis
from tars_ga_lib.system.checks import (
    Cause,
    Check,
    NotMeasured,
    Outcome,
    Place,
    Reading,
    Runner,
    Scope,
    clean,
    part,
    run_check,
)
from tars_ga_lib.tables import written
from tars_ga_lib.targets import SPECIFIED, ValidationTargets
from tars_ga_lib.views import validation_failures, validation_summary, validation_table
from tests import checking, grafana
from tests.helpers import ROOT, digests, dump, make_job, tars_ga, write_run
from tests.servers import hanging

SECRET = "s3cr3t-value"
ENV = {"TARS_GA_GRAFANA_TOKEN": grafana.TOKEN}


def make_check(
    read: Callable[[], Reading] | float | None = 0.01, name: str = "a.check", **more: Any
) -> Check:
    facts: dict[str, Any] = {
        "title": "A check",
        "group": "database",
        "measure": None,
        "region": "east",
        "target": "db.example.com",
        "query": "SELECT 1",
        "unit": "s",
        "limit": Limit("<", 0.05),
        "warning": None,
        "place": Place(address="db.example.com", secrets=more.pop("secrets", ())),
    }
    asked = read if callable(read) else lambda: Reading(read)  # type: ignore[arg-type]
    return Check(id=name, read=asked, **facts | more)


def raising(error: BaseException) -> Callable[[], Reading]:
    def read() -> Reading:
        raise error

    return read


# --- one check -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reading", "warning", "verdict"),
    [
        (Reading(0.01), None, "pass"),
        (Reading(0.05), None, "fail"),
        (Reading(0.06), None, "fail"),
        (Reading(0.04), Limit("<", 0.03), "warn"),
        (Reading(0.01, doubt="few rows"), None, "warn"),
        (Reading(0.06, doubt="few rows"), None, "fail"),
        # Of an estimate, the interval decides between a failure and a warning.
        (Reading(0.06, interval=(0.04, 0.08)), None, "warn"),
        (Reading(0.06, interval=(0.055, 0.08)), None, "fail"),
        (Reading(0.04, interval=(0.01, 0.08)), None, "pass"),
    ],
)
def test_a_reading_is_judged_by_its_limits(
    reading: Reading, warning: Limit | None, verdict: str
) -> None:
    outcome = run_check(make_check(lambda: reading, warning=warning), 5)
    assert (outcome.verdict, outcome.value, outcome.cause) == (verdict, reading.value, None)
    assert outcome.facts()["interval"] == (list(reading.interval) if reading.interval else None)


@pytest.mark.parametrize(
    "reading",
    [
        Reading(None),  # type: ignore[arg-type]
        Reading(math.nan),
        Reading(-math.inf),
        Reading(0.01, interval=(math.nan, 0.02)),
        None,
        0.01,
    ],
)
def test_nothing_passes_without_a_finite_number(reading: Any) -> None:
    outcome = run_check(make_check(lambda: reading), 5)
    assert (outcome.verdict, outcome.value, outcome.cause) == ("no_data", None, "error")
    assert outcome.reason


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (NotMeasured("unauthorised", "HTTP 401"), "unauthorised"),
        (NotMeasured("not_configured", "no token"), "not_configured"),
        (ValueError("broken"), "error"),
        (SystemExit(0), "error"),
        (KeyboardInterrupt(), "error"),
    ],
)
def test_what_is_raised_is_no_data_with_its_cause(error: BaseException, cause: Cause) -> None:
    outcome = run_check(make_check(raising(error)), 5)
    assert (outcome.verdict, outcome.cause, outcome.value) == ("no_data", cause, None)
    if cause == "error":
        assert type(error).__name__ in outcome.reason


def test_a_read_that_hangs_is_left_behind() -> None:
    free = threading.Event()
    try:
        outcome = run_check(make_check(lambda: Reading(float(free.wait(60)))), 0.1)
    finally:
        free.set()
    assert (outcome.verdict, outcome.cause) == ("no_data", "timed_out")
    assert 0.1 <= outcome.took_seconds < 30


def test_a_check_without_time_is_not_asked() -> None:
    outcome = run_check(make_check(0.01), 0.0)
    assert (outcome.verdict, outcome.cause) == ("no_data", "timed_out")


@pytest.mark.parametrize(
    "text",
    [
        f"connection to postgresql://tars:{SECRET}@db.example.com/tars failed",
        f"password={SECRET} is wrong",
        f"password = '{SECRET}' is wrong",
        f"Bearer {SECRET} was refused",
        f"login\nwith {SECRET}",
    ],
)
def test_secrets_are_taken_out_of_every_text(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", SECRET)
    for raised in (ValueError(text), NotMeasured("refused", text)):
        outcome = run_check(make_check(raising(raised), secrets=("A_TOKEN",)), 5)
        assert SECRET not in json.dumps(outcome.facts())
        assert "\n" not in outcome.reason
    passed = run_check(make_check(lambda: Reading(0.0, text, text), secrets=("A_TOKEN",)), 5)
    assert SECRET not in json.dumps(passed.facts())


@pytest.mark.parametrize(
    "held",
    [
        "postgresql://tars:p%40ss-w0rd@db.example.com/tars",
        "host=db.example.com user=tars password=p@ss-w0rd",
        "host=db.example.com password='p@ss-w0rd'",
    ],
)
def test_the_password_within_a_connection_string_is_a_secret_too(held: str) -> None:
    said = 'authentication failed: "p@ss-w0rd" or "p%40ss-w0rd"'
    assert "w0rd" not in clean(said, ["DSN"], {"DSN": held})


def test_an_id_is_made_of_plain_parts() -> None:
    assert part("SELECT 'ä'; -- x") == "SELECT_ä_--_x"
    with pytest.raises(ValueError, match="is not an id"):
        make_check(name="a check")
    with pytest.raises(ValueError, match="is not a measure"):
        make_check(measure="mood")


# --- many checks ---------------------------------------------------------------------------------


def test_targets_run_side_by_side_and_each_in_order() -> None:
    meet = threading.Barrier(2, timeout=20)
    order: list[str] = []
    busy = threading.Lock()

    def read(name: str) -> Callable[[], Reading]:
        def measure() -> Reading:
            meet.wait()  # nobody comes here alone
            if name.startswith("a"):
                assert busy.acquire(blocking=False)
                order.append(name)
                busy.release()
            return Reading(0.01)

        return measure

    checks = [
        make_check(read(f"{t}{i}"), f"{t}{i}", target=t) for i in range(3) for t in ("a", "b")
    ]
    runner = Runner(checks, 30, 60)
    assert [runner.outcome(check).verdict for check in checks] == ["pass"] * 6
    assert order == ["a0", "a1", "a2"]


def test_what_is_computed_comes_after_what_is_measured() -> None:
    done: list[str] = []

    def read(name: str, seconds: float) -> Callable[[], Reading]:
        def measure() -> Reading:
            time.sleep(seconds)
            done.append(name)
            return Reading(0.01)

        return measure

    computed = make_check(read("computed", 0), "computed", group="kpi", target="a")
    measured = [make_check(read("measured", 0.1), f"m{i}", target=f"t{i}") for i in range(2)]
    runner = Runner([computed, *measured], 30, 60)
    assert {runner.outcome(check).verdict for check in (computed, *measured)} == {"pass"}
    assert done == ["measured", "measured", "computed"]


def test_what_is_computed_waits_for_half_the_time_only() -> None:
    free = threading.Event()
    hangs = make_check(lambda: Reading(float(free.wait(60))), "hangs", target="hangs")
    computed = make_check(0.01, "computed", group="kpi", target="a")
    runner = Runner([hangs, computed], 60, 1)
    try:
        assert runner.outcome(computed).verdict == "pass"
        assert runner.outcome(hangs).cause == "timed_out"
    finally:
        free.set()


def test_a_target_that_hangs_is_not_asked_for_ever() -> None:
    free = threading.Event()
    asked: list[int] = []

    def hang() -> Reading:
        asked.append(1)
        free.wait(60)
        return Reading(0.0)

    hanging = [make_check(hang, f"hangs.{i}", target="hangs") for i in range(6)]
    good = make_check(0.01, "good", target="good")
    runner = Runner([*hanging, good], 0.1, 30)
    try:
        outcomes = [runner.outcome(check) for check in hanging]
        assert runner.outcome(good).verdict == "pass"
    finally:
        free.set()
    assert {outcome.cause for outcome in outcomes} == {"timed_out"}
    assert len(asked) == 2
    assert "not asked" in outcomes[-1].reason


def test_the_whole_suite_ends_at_its_deadline() -> None:
    free = threading.Event()
    checks = [make_check(lambda: Reading(float(free.wait(60))), f"c{i}") for i in range(3)]
    runner = Runner(checks, 60, 0.3)
    try:
        outcomes = [runner.outcome(check) for check in checks]
    finally:
        free.set()
    assert {outcome.cause for outcome in outcomes} == {"timed_out"}
    assert outcomes[0].took_seconds > 0  # the first was asked, and given up


# --- what a job asks for -------------------------------------------------------------------------


def validated(folder: Path, document: Any, **changes: Any) -> Path:
    """Write a run's file that names a validation file."""
    folder.mkdir(parents=True, exist_ok=True)
    dump(folder / "validation.yaml", document)
    return write_run(folder, validation="validation.yaml", **changes)


def test_what_no_section_configures_is_seen(tmp_path: Path) -> None:
    made = checking.checks({}, job=make_job(tmp_path))
    missing = [run_check(c, 5) for c in made if c.id.endswith(".not_configured")]
    assert {(o.verdict, o.cause) for o in missing} == {("no_data", "not_configured")}
    assert {o.check.id.rpartition(".")[0] for o in missing} == {
        "postgres.count_difference", "postgres.replication_lag", "postgres.mission_query_time",
        "postgres.analytics_query_time", "redis.count_difference", "redis.replication_lag",
        "chroma.count_difference", "grafana.dashboard_load_time", "grafana.panel_query_time",
        "agents.agent_memory", "agents.agent_memory_growth", "agents.oom_kills",
    }  # fmt: skip
    assert {c.measure for c in made} >= SPECIFIED.keys() - {"failed"}
    kpis = [run_check(c, 5) for c in made if c.group == "kpi"]
    assert len(kpis) == 5
    assert {o.cause for o in kpis} == {"not_configured"}


def test_what_is_left_out_is_told_with_its_reason(tmp_path: Path) -> None:
    left = {"chroma": "vectors are kept in PostgreSQL.", "kpis": "certified elsewhere"}
    made = checking.checks({"left_out": left}, job=make_job(tmp_path))
    assert not [c for c in made if c.id.startswith(("chroma", "kpi"))]
    told = results.note(ValidationTargets.model_validate({"left_out": left}), 3, 10, "A remark.")
    assert told == (
        "A remark. Only 3 of 10 checks were selected. Chroma left out: vectors are kept in "
        "PostgreSQL. KPIs left out: certified elsewhere."
    )


def test_an_empty_section_is_not_a_pass(tmp_path: Path) -> None:
    document = {
        "kpis": {},
        "postgres": {"primary": {"region": "e", "host": "127.0.0.1"}, "queries": []},
    }
    ids = {c.id for c in checking.checks(document, job=make_job(tmp_path))}
    assert "kpi.not_configured" in ids
    assert "postgres.mission_query_time.not_configured" in ids
    assert "postgres.analytics_query_time.not_configured" in ids


def test_building_the_example_connects_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it connects")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    example = read_yaml(ROOT / "parameters" / "validation.yaml")
    checks = checking.checks(example, job=make_job(tmp_path))
    assert not [c.id for c in checks if c.id.endswith(".not_configured")]
    assert {c.group for c in checks} == {
        "replication", "kpi", "database", "grafana", "agent_memory",
    }  # fmt: skip
    assert all(c.target and c.query and str(c.limit) for c in checks)


# --- the suite as a user starts it ---------------------------------------------------------------


@pytest.fixture
def target() -> Iterator[grafana.Grafana]:
    with grafana.serve() as found:
        yield found


def grafana_only(url: str, **more: Any) -> dict[str, Any]:
    sections = ("kpis", "postgres", "redis", "chroma", "agents")
    return {
        "grafana": {
            "url": url,
            "token_env": "TARS_GA_GRAFANA_TOKEN",
            "dashboards": ["tars-overview"],
            "load_time": "< 60",
            "panel_query": "< 60",
        },
        "left_out": dict.fromkeys(sections, "not part of this test"),
    } | more


def page_of(folder: Path) -> dict[str, Any]:
    """Return the data of pytest-html's page."""
    text = (folder / "validation_results.html").read_text(encoding="utf-8")
    found = re.search(r'data-jsonblob="(.*?)"></div>', text, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(html.unescape(found[1]))
    return data


class Done(NamedTuple):
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Done]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `tars-ga validate` in this process, which has all imported; it starts the suite's own."""

    # The runner's workers have a COLUMNS of their own, to which tables are folded.
    monkeypatch.setattr(console.out, "width", 200)

    def call(*arguments: object, env: Mapping[str, str] = ENV) -> Done:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["tars-ga", "validate", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return Done(int(end.value.code or 0), *capsys.readouterr())

    return call


def test_all_pass_is_exit_code_0_and_the_files_say_the_same(
    tmp_path: Path, target: grafana.Grafana
) -> None:
    # On the day itself the window is not over yet.
    window = {"start": "2035-11-20T00:00:00Z", "duration": "24h", "step": "5m"}
    file = validated(tmp_path, grafana_only(target.url), simulated=True, window=window)
    done = tars_ga("validate", file, "--output", tmp_path / "out", env=ENV)
    assert done.returncode == 0, done.stderr
    assert "3/3 pass" in done.stderr
    assert "3 passed, 0 with a warning, 0 failed, 0 without data" in done.stdout
    results = read_results(tmp_path / "out" / "validation_results.json", "validation")
    assert results["counts"] == {"pass": 3, "warn": 0, "fail": 0, "no_data": 0}
    assert results["simulated"] is True
    assert results["release"] == {"name": "T.A.R.S.", "version": "v1.0.1"}
    cases = ElementTree.parse(tmp_path / "out" / "validation_results.xml").findall(".//testcase")
    assert [case.get("name") for case in cases] == [check["id"] for check in results["checks"]]
    for case, check in zip(cases, results["checks"], strict=True):
        held = {p.get("name"): p.get("value") for p in case.iter("property")}
        assert case.get("classname") == check["group"]
        for name in ("value", "unit", "limit", "target", "query", "measured_at", "verdict"):
            assert held[name] == str(check[name])


def test_each_verdict_has_its_place_in_every_file(
    command: Command, tmp_path: Path, target: grafana.Grafana
) -> None:
    target.slow = {"latency": 0.2}
    document = grafana_only(target.url)
    document["grafana"] |= {
        "dashboards": ["tars-overview", "nope"],
        "panel_query": "< 0.1",
        "load_time_warning": "< 0.000001",
    }
    file = validated(tmp_path, document)
    done = command(file, "--output", tmp_path / "out")
    assert done.returncode == 3, done.stderr
    out = tmp_path / "out"
    checks = {
        c["id"]: c for c in json.loads((out / "validation_results.json").read_text())["checks"]
    }
    assert {name: c["verdict"] for name, c in checks.items()} == {
        "grafana.health": "pass",
        "grafana.dashboard_load_time.tars-overview": "warn",
        "grafana.panel_query_time.tars-overview": "fail",
        "grafana.dashboard_load_time.nope": "no_data",
        "grafana.panel_query_time.nope": "no_data",
    }
    suite_ = ElementTree.parse(out / "validation_results.xml").find("testsuite")
    assert suite_ is not None
    assert [suite_.get(k) for k in ("tests", "failures", "errors", "skipped")] == list("5120")
    failure, error = suite_.find(".//failure"), suite_.find(".//error")
    assert failure is not None
    assert error is not None
    slow = checks["grafana.panel_query_time.tars-overview"]
    assert tables.value(slow) in str(failure.get("message"))
    assert "<\xa0100\xa0ms" in str(failure.get("message"))
    assert "POST /api/ds/query" in str(failure.text)
    assert error.get("type") == "refused"
    assert str(error.get("message")).startswith("NO DATA (refused): dashboard nope: HTTP 404")
    page = [row for rows in page_of(out)["tests"].values() for row in rows]
    # Without its own result in each row, pytest-html's script shows no row at all.
    assert sorted(row["result"] for row in page) == ["Error"] * 2 + ["Failed"] + ["Passed"] * 2
    assert sorted(row["rank"] for row in page) == list("01123")
    cells = json.dumps(page, ensure_ascii=False)
    for text in ("NO DATA", "FAIL", "WARN", "PASS", "grafana.health", tables.value(slow)):
        assert text in cells
    nothing_tells_of_the_machine(out, str(tmp_path))
    # Failures come first, then what has no data.
    table = [line for line in done.stdout.splitlines() if "no_data" in line or "fail " in line]
    assert [("fail " in line) for line in table] == [True, False, False]


@pytest.mark.parametrize(
    ("token", "cause"), [("wrong-" + SECRET, "unauthorised"), ("", "not_configured")]
)
def test_no_data_is_exit_code_4_and_its_cause_is_told(
    command: Command, tmp_path: Path, target: grafana.Grafana, token: str, cause: str
) -> None:
    file = validated(tmp_path, grafana_only(target.url))
    done = command(
        file, "--output", tmp_path / "out", "-k", "load", env={"TARS_GA_GRAFANA_TOKEN": token}
    )
    assert done.returncode == 4, done.stderr
    (check,) = json.loads((tmp_path / "out" / "validation_results.json").read_text())["checks"]
    assert (check["verdict"], check["cause"], check["value"]) == ("no_data", cause, None)
    for name in digests(tmp_path / "out"):
        assert SECRET not in (tmp_path / "out" / name).read_text(encoding="utf-8")
    assert SECRET not in done.stdout + done.stderr
    assert cause.replace("_", " ") in " ".join(done.stdout.split())


def nothing_tells_of_the_machine(out: Path, *more: str) -> None:
    names = {socket.gethostname(), str(ROOT), str(Path.home()), sys.executable, *more}
    for name in digests(out):
        text = (out / name).read_text(encoding="utf-8")
        assert not [each for each in names if each in text], name
        assert "hostname" not in text
    assert page_of(out)["environment"] == {}


def test_a_target_that_hangs_holds_nobody_up(command: Command, tmp_path: Path) -> None:
    with hanging() as port:
        document = grafana_only(f"http://127.0.0.1:{port}", check_timeout="1s", deadline="5s")
        document["grafana"]["dashboards"] = [f"d{i}" for i in range(10)]
        file = validated(tmp_path, document)
        began = time.monotonic()
        done = command(file, "--output", tmp_path / "out", env=ENV)
    assert done.returncode == 4, done.stderr
    assert time.monotonic() - began < 60
    results = json.loads((tmp_path / "out" / "validation_results.json").read_text())
    assert results["counts"]["no_data"] == 21
    assert {c["cause"] for c in results["checks"]} == {"timed_out"}


def test_a_dry_run_lists_and_connects_nowhere(
    command: Command, tmp_path: Path, target: grafana.Grafana
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        file = validated(tmp_path, grafana_only(url))
        done = command(file, "--dry-run")
        with pytest.raises(TimeoutError):
            listener.accept()
    assert done.returncode == 0, done.stderr
    for text in (url, "GET /api/health", "<\xa060\xa0s", "3 checks; nothing was asked"):
        assert text in done.stdout


def test_a_region_that_is_there_twice_is_bad_input(command: Command, tmp_path: Path) -> None:
    server = {"region": "east", "host": "db.example.com"}
    file = validated(tmp_path, {"postgres": {"primary": server, "replicas": [server]}})
    done = command(file, "--dry-run")
    assert done.returncode == 2
    assert "two checks would be named postgres." in done.stderr
    assert "give them different names" in done.stderr


def test_markers_select_a_group(command: Command, tmp_path: Path, target: grafana.Grafana) -> None:
    file = validated(tmp_path, {"grafana": grafana_only(target.url)["grafana"]})
    done = command(file, "--dry-run", "-m", "replication or kpi")
    ids = [line.split()[0] for line in done.stdout.splitlines() if line[:1].isalpha()]
    assert {name.partition(".")[0] for name in ids} == {"postgres", "redis", "chroma", "kpi"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-k", "nothing_is_named_so"], "select no check"),
        (["-k", "a and and"], "expression"),
        (["--run", "no/such/run"], "there is no run in it"),
        (["--set", "validation=null"], "names no validation file"),
    ],
)
def test_bad_input_is_exit_code_2_and_leaves_earlier_results(
    command: Command, tmp_path: Path, arguments: list[str], said: str
) -> None:
    file = validated(tmp_path, grafana_only("http://127.0.0.1:9"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "validation_results.json").write_text("earlier")
    done = command(file, "--output", tmp_path / "out", *arguments)
    assert done.returncode == 2, done.stderr + done.stdout
    assert said in done.stderr
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["validation_results.json"]
    assert (tmp_path / "out" / "validation_results.json").read_text() == "earlier"


# --- by pytest alone -----------------------------------------------------------------------------


def run_pytest(cwd: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **ENV, "COLUMNS": "160", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


PLUGIN = ("-p", "tars_ga_lib.system.plugin")


def test_a_plain_pytest_collects_nothing(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, *PLUGIN, "--pyargs", "tars_ga_lib.system")
    assert done.returncode == 5, done.stdout + done.stderr


def test_pytest_shows_each_kind_of_outcome(tmp_path: Path, target: grafana.Grafana) -> None:
    document = grafana_only(target.url)
    document["grafana"] |= {"dashboards": ["tars-overview", "nope"], "panel_query": "< 0.000001"}
    document["grafana"]["load_time_warning"] = "< 0.000001"
    file = validated(tmp_path, document)
    done = run_pytest(
        tmp_path, *PLUGIN, "--pyargs", "tars_ga_lib.system", "--ga-mode",
        "--ga-parameters", file, "-v", "--ga-results", tmp_path / "results.json",
    )  # fmt: skip
    assert done.returncode == 1
    assert "1 failed, 1 passed, 1 warn, 2 no_data" in done.stdout
    assert "NO DATA (refused): dashboard nope: HTTP 404" in done.stdout
    assert "breaks the limit" in done.stdout
    assert "query: POST /api/ds/query" in done.stdout
    assert read_results(tmp_path / "results.json", "validation")["counts"]["no_data"] == 2


def test_pytest_lists_and_refuses(tmp_path: Path) -> None:
    file = validated(tmp_path, grafana_only("http://127.0.0.1:9"))
    asked = [*PLUGIN, "--pyargs", "tars_ga_lib.system"]
    listed = run_pytest(tmp_path, *asked, "--ga-mode", "--ga-parameters", file, "--dry-run")
    assert listed.returncode in (0, 5)
    assert "3 checks; nothing was asked" in listed.stdout
    refused = run_pytest(tmp_path, *asked, "--dry-run")
    assert refused.returncode == 4
    assert "needs --ga-mode" in refused.stderr


# --- within a run --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a run on the demo's recording that validates nothing but its KPIs."""
    folder = tmp_path_factory.mktemp("run")
    sections = ("postgres", "redis", "chroma", "grafana", "agents")
    left = dict.fromkeys(sections, "not part of this test")
    file = dump(folder / "validation.yaml", {"left_out": left})
    overrides = [f"validation={file}", "measured={}"]
    Run.collect(folder / "run", ROOT / "parameters" / "demo.yaml", overrides)
    return folder / "run"


def test_a_run_keeps_what_was_validated_for_it(demo_run: Path) -> None:
    run = Run(demo_run)
    seen: list[tuple[float, float]] = []
    measured = measuring.measure(run, show=lambda _, done, total: seen.append((done, total)))
    assert seen == [(i, 5) for i in range(1, 6)]
    document = measured["validation"].document
    assert document == read_results(demo_run / "validation_results.json", "validation")
    assert document["note"].startswith("PostgreSQL left out: not part of this test.")
    assert (demo_run / "validation_results.xml").is_file()
    assert (demo_run / "validation_results.html").is_file()
    checks = {c["id"]: c for c in document["checks"]}
    for name in ("error_rate", "latency_p99"):
        assert checks[f"kpi.{name}"]["value"] == run.kpis.figure(name).value
    # A region was away for a while, and what was not seen could break the target.
    availability = checks["kpi.availability"]
    assert (availability["verdict"], availability["value"]) == ("no_data", None)
    assert "not seen could break it" in availability["reason"]


def test_kpi_thresholds_agree_with_the_criteria(demo_run: Path) -> None:
    run = Run(demo_run)
    assert run.job.validation is not None
    targets = run.job.validation
    stability = {"worst": 0.07, "coverage": 1.0, "reason": "", "where": "memory", "doubt": ""}
    run.write("drift_analysis.json", {"stability": stability})
    certified = evaluate(run.job, run.kpis, run.read("drift_analysis.json"))
    overall = [o for o in certified.outcomes if run.job.criteria[o.name].scope == "overall"]
    by_source = {o.source: o for o in overall}
    made = checking.checks({}, job=run.job, run=run, modules=(test_kpis,))
    assert targets.kpis.keys() == {c.id.removeprefix("kpi.") for c in made}
    for check in made:
        threshold = targets.kpis[check.id.removeprefix("kpi.")]
        source = f"KPI {threshold.kpi}" if threshold.kpi else "drift analysis"
        outcome, expected = run_check(check, 60), by_source[source]
        assert outcome.value == (None if expected.verdict == "no_data" else expected.value)
        assert str(check.limit) == expected.target
        for verdict in ("fail", "no_data"):
            assert (outcome.verdict == verdict) == (expected.verdict == verdict)
        assert expected.verdict != "no_data" or outcome.reason == expected.reason
        if threshold.drift:
            assert (outcome.value, outcome.verdict) == (0.07, "warn")
            assert "memory" in outcome.reason


def test_a_kpi_that_was_not_seen_is_no_data(demo_run: Path) -> None:
    run = Run(demo_run)
    wanted = {
        "whole": {"kpi": "availability", "limit": ">= 0.5", "min_coverage": 1.0},
        "unknown": {"kpi": "no_such_kpi", "limit": ">= 0.5"},
    }
    made = checking.checks({"kpis": wanted}, job=run.job, run=run, modules=(test_kpis,))
    whole, unknown = (run_check(check, 60) for check in made)
    assert (unknown.verdict, unknown.cause) == ("no_data", "not_configured")
    seen = run.kpis.figure("availability").coverage
    assert (whole.cause == "no_rows") == (seen < 1)


def test_a_run_of_another_release_is_refused(demo_run: Path, tmp_path: Path) -> None:
    dump(tmp_path / "validation.yaml", {})
    job = make_job(tmp_path, validation="validation.yaml")
    release = job.parameters.release.model_copy(update={"version": "v9"})
    other = replace(job, parameters=job.parameters.model_copy(update={"release": release}))
    with pytest.raises(ParametersError, match=r"is a run of .*, and the parameters are about"):
        Scope.of(other, Run(demo_run), None, os.environ)


# --- views ---------------------------------------------------------------------------------------


def results_of(*outcomes: Outcome) -> dict[str, Any]:
    counts = {v: sum(o.verdict == v for o in outcomes) for v in ("pass", "warn", "fail", "no_data")}
    return {
        "schema": results.SCHEMA,
        "release": {"name": "T.A.R.S.", "version": "v1.0.1"},
        "simulated": True,
        "note": "Local test stores.",
        "started_at": "2026-11-21T00:00:00Z",
        "ended_at": "2026-11-21T00:00:09Z",
        "software": "tars-ga 0.1.0",
        "checks": [outcome.facts() for outcome in outcomes],
        "counts": counts,
    }


def test_views_show_the_worst_first_and_never_a_blank() -> None:
    made = [
        make_check(0.01, "p"),
        make_check(lambda: Reading(0.01, doubt="a doubt"), "w"),
        make_check(raising(NotMeasured("unreachable", "nobody there")), "n"),
        make_check(0.0500001, "f"),
    ]
    results = results_of(*(run_check(check, 5) for check in made))
    table = written(validation_table(results))
    assert [row[1] for row in table["rows"]] == ["fail", "no_data", "warn", "pass"]
    assert table["rows"][0][2] == "50.0001\xa0ms"
    assert table["rows"][1][2] == "NO DATA"
    assert table["rows"][1][6] == "unreachable: nobody there"
    short = written(validation_table(results, most=1))
    assert len(short["rows"]) == 1
    assert "1 of 4 rows are shown." in short["note"]
    failures = written(validation_failures(results))
    assert [row[0] for row in failures["rows"]] == ["f", "n"]
    assert failures["rows"][0][4] == "SELECT 1"
    said = str(validation_summary(results).data)
    assert "SIMULATED" in said
    assert "1 passed, 1 with a warning, 1 failed, 1 without data" in said
    assert "Local test stores." in said


@pytest.mark.parametrize(
    ("reading", "warning", "said"),
    [
        (
            Reading(0.04),
            Limit("<", 0.03),
            "40 ms keeps the limit < 50 ms, but not the warning limit",
        ),
        (
            Reading(0.06, interval=(0.04, 0.08)),
            None,
            "60 ms is beyond the limit < 50 ms, though not",
        ),
        (Reading(0.01, doubt="few rows"), None, "< 50 ms, but there is a doubt (few rows)"),
    ],
)
def test_a_warning_says_why(reading: Reading, warning: Limit | None, said: str) -> None:
    outcome = run_check(make_check(lambda: reading, warning=warning), 5)
    assert said in tables.why(outcome.facts()).replace("\xa0", " ")
    note = written(validation_table(results_of(outcome)))["rows"][0][6]
    assert "the limit" in note


def test_views_of_nothing_say_so() -> None:
    assert "NO DATA" in str(validation_summary(None).data)
    for view in (validation_table, validation_failures):
        assert "NO DATA" in written(view(None))["empty"]


def test_memory_is_read_in_the_units_of_its_limit() -> None:
    facts = {"value": 1.5000001e9, "unit": "bytes", "limit": "< 1500000000"}
    assert tables.value(facts) == "1.5000001\xa0GB"
    assert tables.limit("< 10000000", "bytes/h") == "<\xa010\xa0MB/h"
    assert tables.value({"value": None, "unit": "bytes", "limit": "< 1"}) == "NO DATA"
    assert tables.value({"value": 1.0, "unit": "bool", "limit": "== 1"}) == "yes"
