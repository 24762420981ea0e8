"""The whole of it, as a user runs it: a server or a recording becomes a decision and a report."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from demo import simulate
from demo.simulate import small
from tars_ga_lib import collection, criteria, drift, measured
from tars_ga_lib.kpis import Kpis
from tests import odd, servers
from tests.helpers import ROOT, SMALL, digests, small_job, tars_ga, write_run
from tests.servers import Serve, Served

DATA = Path(__file__).resolve().parent / "data" / "self_watch"
GA_DAY = ROOT / "parameters" / "ga_day.yaml"
DEMO = ROOT / "parameters" / "demo.yaml"
FACTS = [
    f"evidence={{incidents: '{ROOT / 'demo' / 'evidence' / 'incidents.yaml'}', "
    f"rollback: '{ROOT / 'demo' / 'evidence' / 'rollback.yaml'}'}}",
    f"measured={{validation: '{ROOT / 'demo' / 'measured' / 'validation_results.json'}', "
    f"websocket: '{ROOT / 'demo' / 'measured' / 'ws_health_metrics.json'}', min_watch: 1m}}",
]
SECRET = "hunter2secret"
FILES = {
    "GA_DAY_REPORT.pdf", "GA_DAY_REPORT.html", "GA_DAY_REPORT.md", "baseline_metrics.json",
    "GA_DAY_APPENDIX.pdf", "GA_DAY_APPENDIX.html",
    "certification_metadata.json", "slo.json", "notebooks/04_validation.ipynb",
    "cross_region.json", "drift_analysis.json", "ga_kpi_summary.json", "ga_kpi_summary.json.sha256",
    "snapshots.jsonl", "recording/recording.json", "recording/window.parquet",
    "parameters/run.yaml", "notebooks/01_collection.ipynb", "notebooks/05_certification.ipynb",
}  # fmt: skip


@dataclass
class Done:
    """A run that ended: its exit code, what it said, and its folder."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def certification(self) -> dict[str, Any]:
        return self.read("certification_metadata.json")

    def read(self, name: str) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.folder / name).read_text("utf-8"))
        return facts

    def verdict(self, name: str) -> str:
        (found,) = [c["verdict"] for c in self.certification["criteria"] if c["name"] == name]
        return str(found)

    @property
    def report(self) -> str:
        return (self.folder / "GA_DAY_REPORT.md").read_text("utf-8").replace("\xa0", " ")

    @property
    def pdf_text(self) -> str:
        return self._text_of("GA_DAY_REPORT.pdf", "-layout")

    @property
    def appendix(self) -> str:
        return self._text_of("GA_DAY_APPENDIX.pdf", "-raw")

    def _text_of(self, name: str, order: str) -> str:
        command = [servers.program("pdftotext"), order, str(self.folder / name), "-"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return said.replace("\xa0", " ")


def run(
    folder: Path, file: Path, *overrides: str, env: dict[str, str] | None = None, flags: Any = ()
) -> Done:
    """Run the pipeline on a parameters file."""
    sets = [part for each in overrides for part in ("--set", each)]
    done = tars_ga("run", file, "--output", folder, *sets, *flags, env=env)
    found = Done(done.returncode, done.stdout, done.stderr, folder)
    if found.code in (0, 3, 4):
        check_whole(found, "--report-only" in flags)
    return found


def check_whole(done: Done, any_decision: bool) -> None:
    """See that a run that ended with a decision left everything, and all of it says the same."""
    here = set(digests(done.folder))
    assert here >= FILES, FILES - here
    decision = done.certification["decision"]
    assert decision in done.out
    codes = {"CERTIFIED": 0, "CERTIFIED WITH WAIVERS": 0, "NOT CERTIFIED": 3, "INCONCLUSIVE": 4}
    assert done.code == (0 if any_decision else codes[decision])
    assert decision in done.report
    assert decision in done.pdf_text
    assert (done.folder / "GA_DAY_REPORT.pdf").read_bytes()[:5] == b"%PDF-"
    for file in done.folder.rglob("*.json"):
        assert not re.search(r":\s*-?(NaN|Infinity)\b", file.read_text("utf-8")), file
        json.loads(file.read_text("utf-8"))
    beside = [path.name for path in done.folder.parent.iterdir() if path != done.folder]
    assert not [name for name in beside if "partial" in name or "earlier" in name]
    assert all(line.startswith("✓ ") for line in done.err.splitlines()), done.err


# --- A real input that nobody simulated -----------------------------------------------------------

WATCH = """
global: {scrape_interval: 1s, scrape_timeout: 900ms, evaluation_interval: 1s}
rule_files: [%s]
scrape_configs:
  - job_name: watch
    static_configs: [{targets: [THIS_SERVER, "%s"]}]
  - job_name: node
    static_configs: [{targets: ["%s"]}]
"""
RULES = "groups: [{name: g, rules: [{alert: Never, expr: 'up < 0', labels: {severity: info}}]}]"
BEFORE, DURING = 60, 60


@dataclass
class Watched:
    """Two servers that were asked for a while: since when, and how often."""

    url: str
    other: str
    start: int = 0
    sent: int = 0
    problem: str = ""


def _ask_for_a_while(watched: Watched, stop: threading.Event) -> None:
    """Send twenty requests a second to each server, and count those of the window."""
    try:
        with requests.Session() as session:
            beat = time.monotonic()
            while not stop.is_set() and time.time() < watched.start + DURING + 3:
                inside = watched.start <= time.time() < watched.start + DURING
                for url in (watched.url, watched.other):
                    for path in ("query?query=up", "labels"):
                        session.get(f"{url}/api/v1/{path}", timeout=5).raise_for_status()
                        watched.sent += inside
                beat += 0.1
                stop.wait(max(0.0, beat - time.monotonic()))
    except requests.RequestException as error:
        watched.problem = repr(error)


@pytest.fixture(scope="module", autouse=True)
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Start what takes its time at once; the other tests of this module run meanwhile."""
    folder, stop = tmp_path_factory.mktemp("watched"), threading.Event()
    (folder / "rules.yml").write_text(RULES, encoding="utf-8")
    with servers.node_exporter(folder) as node, servers.prometheus(folder / "other") as other:
        config = WATCH % (
            folder / "rules.yml", other.removeprefix("http://"), node.removeprefix("http://"),
        )  # fmt: skip
        with servers.prometheus(folder / "one", config) as url:
            found = Watched(url, other, int(time.time()) + 8 + BEFORE)
            thread = threading.Thread(target=_ask_for_a_while, args=(found, stop))
            thread.start()
            try:
                yield found
            finally:
                stop.set()
                thread.join(20)


# --- The demo, again and again --------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Done:
    return run(tmp_path_factory.mktemp("demo") / "demo", DEMO)


def test_demo(demo: Done) -> None:
    assert demo.code == 3
    verdicts = {c["name"]: c["verdict"] for c in demo.certification["criteria"]}
    assert set(verdicts.values()) >= {"pass", "fail"}
    # A region was not scraped for 20 minutes: all that could be hidden there is not known.
    unknown = {name for name, verdict in verdicts.items() if verdict == "no_data"}
    assert unknown == {"availability", "websocket_probes", "oom_kills"}
    assert demo.certification["simulated"] is True
    assert re.search("simulated", demo.report, re.IGNORECASE)
    assert re.search("simulated", demo.pdf_text, re.IGNORECASE)
    assert demo.certification["binding_criterion"] == "error_rate"
    assert "Error rate" in demo.out
    lines = (demo.folder / "snapshots.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 288
    checksum = (demo.folder / "ga_kpi_summary.json.sha256").read_text("utf-8")
    assert checksum.split() == [digests(demo.folder)["ga_kpi_summary.json"], "ga_kpi_summary.json"]
    assert "✓ 01_collection" in demo.err


def test_same_recording_same_bytes(demo: Done, tmp_path: Path) -> None:
    """Another folder, another zone, another language: every file is the same to the byte.

    The run's folder stands alone: its parameters name its own recording, and replay it.
    """
    shutil.copytree(demo.folder, tmp_path / "moved elsewhere")
    other = run(
        tmp_path / "deep" / "er" / "ünder here",
        tmp_path / "moved elsewhere" / "parameters" / "run.yaml",
        env={"TZ": "Asia/Kolkata", "LANG": "de_DE.UTF-8", "LC_ALL": "C", "COLUMNS": "60"},
    )
    assert other.code == 3
    one, two = digests(demo.folder), digests(other.folder)
    assert {name for name in one if one[name] != two.get(name)} == set()
    assert one.keys() == two.keys()


# --- Good days ------------------------------------------------------------------------------------


def test_clean_day_is_certified(clean_server: Served, tmp_path: Path) -> None:
    source = f"source={{prometheus: '{clean_server.url}'}}"
    done = run(tmp_path / "out", GA_DAY, source, "simulated=true", "baseline.repeat=7d x 1", *FACTS)
    assert (done.code, done.certification["decision"]) == (0, "CERTIFIED")
    verdicts = {c["name"]: c["verdict"] for c in done.certification["criteria"]}
    assert set(verdicts.values()) == {"pass"}
    analysis = done.read("drift_analysis.json")
    # Among 228 evaluations one that errors came in a bunch is no surprise; a lasting drift is.
    assert [w["reason"] for w in analysis["worst"]] in ([], ["incident"])
    assert analysis["counts"]["missing"] == 0
    truth, summary = clean_server.truth["ga"], done.read("ga_kpi_summary.json")
    value = summary["kpis"]["requests"]["overall"]["value"]
    assert value == pytest.approx(truth.total("requests"), rel=2e-3)
    assert summary["alerts"]["counts"]["all"] == 0


# --- Two hours, which are quick -------------------------------------------------------------------


def small_run(folder: Path, source: str, *more: str, **options: Any) -> Done:
    """Run two simulated hours with all evidence given; the source is a URL or a recording."""
    kind = "prometheus" if source.startswith("http") else "recording"
    where = f"source={{{kind}: '{source}', timeout: 5s}}"
    return run(folder, GA_DAY, *SMALL, where, *FACTS, *more, **options)


@pytest.fixture(scope="module")
def two_hours(small_server: str, tmp_path_factory: pytest.TempPathFactory) -> Done:
    done = small_run(tmp_path_factory.mktemp("two") / "hours", small_server, flags=["--no-package"])
    assert (done.code, done.verdict("availability")) == (0, "pass")
    return done


def test_other_criteria_on_the_same_recording(two_hours: Done, tmp_path: Path) -> None:
    strict = (ROOT / "parameters" / "criteria.yaml").read_text("utf-8")
    strict = strict.replace("objective: latency-p99 ", "target: '< 0.05'").replace(
        "< 0.45", "< 0.04"
    )
    (tmp_path / "strict.yaml").write_text(strict, encoding="utf-8")
    done = small_run(
        tmp_path / "out",
        str(two_hours.folder),
        f"criteria={tmp_path / 'strict.yaml'}",
        flags=["--no-package"],
    )
    assert (done.code, done.certification["binding_criterion"]) == (3, "latency_p99")
    mine, theirs = (d.read("ga_kpi_summary.json")["kpis"] for d in (done, two_hours))
    assert mine == theirs


def test_without_evidence_nothing_is_certified(two_hours: Done, tmp_path: Path) -> None:
    """The folder's own parameters replay it; --report-only exits with 0 whatever comes out."""
    done = run(
        tmp_path / "out",
        two_hours.folder / "parameters" / "run.yaml",
        "evidence={}",
        flags=["--no-package", "--report-only"],
    )
    assert done.code == 0
    assert done.certification["decision"] == "INCONCLUSIVE"
    assert "INCONCLUSIVE" in done.out
    assert done.verdict("rollback_tested") == done.verdict("critical_incidents") == "no_data"
    assert done.verdict("availability") == "pass"
    assert "no rollback file was given" in done.report


# --- Bad days -------------------------------------------------------------------------------------


def test_server_that_is_down(tmp_path: Path) -> None:
    done = small_run(tmp_path / "out", f"http://127.0.0.1:{servers.free_port()}")
    assert done.code == 4
    assert done.certification["binding_criterion"] == "availability"
    assert "cannot be reached" in done.report
    assert "cannot be reached" in done.pdf_text.replace("\n", " ")
    assert done.verdict("availability") == done.verdict("drift_stability") == "no_data"
    assert_nothing_is_told(done)


def test_server_that_is_empty(empty_server: str, tmp_path: Path) -> None:
    done = small_run(tmp_path / "out", empty_server)
    assert done.code == 4
    assert done.verdict("availability") == "no_data"
    assert_nothing_is_told(done)


def assert_nothing_is_told(done: Done) -> None:
    """See that from nothing came no figure: neither a 0 nor 100 %."""
    summary = done.read("ga_kpi_summary.json")
    for name, kpi in summary["kpis"].items():
        figures = [kpi["overall"], *kpi.get("regions", {}).values(), *kpi.get("series", [])]
        assert all(figure["value"] is None for figure in figures), name
        assert all(figure["coverage"] == 0 for figure in figures), name
    assert summary["alerts"]["counts"]["critical"] is None
    assert summary["cost"]["usd_per_hour"] is None
    # "Nothing was found" may be said only where there was something to look at.
    assert not re.search("no (figure|incident|region|finding|alert) ", done.report, re.IGNORECASE)
    assert done.report.count("NO DATA: nothing could be compared.") == 3
    assert "Whether the series show an incident is not known" in " ".join(done.appendix.split())
    from_kpis = [
        c
        for c in done.certification["criteria"]
        if c["source"].startswith("KPI") or c["source"] == "drift analysis"
    ]
    assert len(from_kpis) >= 6
    assert {c["verdict"] for c in from_kpis} == {"no_data"}
    assert {c["value"] for c in from_kpis} == {None}


def test_one_region_missing_and_no_secret_told(serve: Serve, tmp_path: Path) -> None:
    """A region that nobody saw keeps the release back, and our token is in no file."""
    served = serve(small(missing_region="us-west-2"))
    with servers.faulty(served.url, "pass", only="/", authorization=f"Bearer {SECRET}") as server:
        done = small_run(tmp_path / "out", server.url, env={"TARS_GA_BEARER_TOKEN": SECRET})
        assert len(server.asked) > 50
    assert done.code == 4
    assert done.verdict("availability") == "no_data"
    assert "us-west-2" in done.report
    assert SECRET not in done.out + done.err
    assert_secret_is_nowhere(done.folder)


def assert_secret_is_nowhere(folder: Path) -> None:
    seen = 0
    for file in folder.rglob("*"):
        if file.is_file():
            seen += 1
            assert SECRET.encode() not in file.read_bytes(), file
        if file.name.endswith(".tar.gz"):
            with tarfile.open(file) as archive:
                for member in archive.getmembers():
                    content = archive.extractfile(member) if member.isfile() else None
                    assert SECRET.encode() not in (content.read() if content else b"")
    assert seen > 20


def test_refused_credentials(small_server: str, tmp_path: Path) -> None:
    with servers.faulty(small_server, "pass", only="/", authorization="Bearer other") as server:
        done = small_run(
            tmp_path / "out",
            server.url,
            env={"TARS_GA_BEARER_TOKEN": SECRET},
            flags=["--no-package"],
        )
    assert done.code == 4
    assert "it refuses our credentials" in done.report
    assert_secret_is_nowhere(done.folder)


def test_half_of_the_window_missing(serve: Serve, tmp_path: Path) -> None:
    done = small_run(tmp_path / "out", serve(small(present=0.5)).url)
    assert done.code == 4
    assert done.verdict("availability") == "no_data"
    (outcome,) = [c for c in done.certification["criteria"] if c["name"] == "availability"]
    assert outcome["coverage"] == pytest.approx(0.5, abs=0.05)
    assert "of its samples were seen" in outcome["reason"]


def test_a_partial_answer_is_not_certified(small_server: str, tmp_path: Path) -> None:
    """The same two hours that are certified, from a server that admits that they are not whole."""
    with servers.faulty(small_server, "warnings") as server:
        done = small_run(tmp_path / "out", server.url, flags=["--no-package"])
    assert done.code == 4
    assert "simulated: not whole" in done.report


# --- Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["window.step=7m"], "the step 7m does not divide the window of 24h"),
        (["widow=1"], "unknown key 'widow'; did you mean 'window'?"),
        ([f"source={{prometheus: 'http://u:{SECRET}@127.0.0.1'}}"], "TARS_GA_BEARER_TOKEN"),
        (["window.start=2026-11-20T00:01:00Z"], "which the window's start and step do not meet"),
    ],
)
def test_bad_input_leaves_earlier_results_alone(
    two_hours: Done, tmp_path: Path, overrides: list[str], said: str
) -> None:
    shutil.copytree(two_hours.folder, tmp_path / "out")
    before = digests(tmp_path)
    done = run(tmp_path / "out", DEMO, *overrides)
    assert done.code == 2
    assert said in done.err
    assert len(done.err.splitlines()) == 1 + done.err.count("✓")
    assert done.out == ""
    assert SECRET not in done.err
    assert digests(tmp_path) == before


def test_foreign_folders_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work", encoding="utf-8")
    done = run(tmp_path / "mine", DEMO)
    assert done.code == 2
    assert set(digests(tmp_path)) == {"mine/thesis.txt"}
    assert "holds files that are not a run's; name a new folder" in done.err
    done = run(tmp_path / "mine" / "thesis.txt", DEMO)
    assert done.code == 2
    assert "is a file; name a folder" in done.err


# --- Other servers --------------------------------------------------------------------------------


@pytest.mark.parametrize("faults", [False, True], ids=["clean", "faulty"])
def test_victoria_metrics_decides_the_same(serve: Serve, tmp_path: Path, faults: bool) -> None:
    scenario = small(faults=faults)
    text = tmp_path / "text"
    simulate.write(text, scenario, milliseconds=True)
    found = {}
    with servers.victoria_metrics(tmp_path / "victoria") as url:
        servers.import_text(url, text)
        for name, each in (("victoria", url), ("prometheus", serve(scenario).url)):
            job = small_job(each, *FACTS)
            recording = collection.collect(job)
            assert not [p.error or p.warnings for _, p in recording.provenance() if p.error]
            window = Kpis(job, recording.window, recording.baselines)
            analysis = drift.analyse(window, [Kpis(job, b) for b in recording.baselines])
            measured.bring(job, tmp_path / name)
            results = measured.load(job, tmp_path / name)
            found[name] = criteria.certify(window, recording, analysis, results)
        if faults:
            done = small_run(tmp_path / "out", url)
            assert done.certification["decision"] == found["prometheus"]["decision"]
            assert done.code == 3
    one, two = found["victoria"], found["prometheus"]
    assert one["decision"] == two["decision"] == ("NOT CERTIFIED" if faults else "CERTIFIED")
    for mine, theirs in zip(one["criteria"], two["criteria"], strict=True):
        assert mine["verdict"] == theirs["verdict"], mine["name"]
        # VictoriaMetrics counts from the sample before a step and extrapolates nothing.
        assert mine["value"] == pytest.approx(theirs["value"], rel=0.05, abs=2e-3)


# --- Names and zones ------------------------------------------------------------------------------


def test_odd_names_on_a_day_when_clocks_change(odd_server: str, tmp_path: Path) -> None:
    rule = {
        "title": "Request rate", "kpi": "requests", "action": "Look.", "category": "behaviour",
        "adverse": "either", "measure": "relative", "warning": 0.05, "critical": 0.1,
    }  # fmt: skip
    criterion = {"title": "Availability", "kpi": "availability", "scope": "worst_series"}
    path = write_run(
        tmp_path / "in",
        **odd.run("europe", odd_server),
        kpis_=odd.KPIS,
        rules_={"request_rate": rule},
        criteria_={
            "availability": criterion | {"target": ">= 0.999"},
            "drift": {"title": "Drift", "drift": "worst_adverse", "target": "<= 0.1"},
        },
    )
    done = run(tmp_path / "out", path, env={"TZ": odd.ZONES["europe"]})
    assert done.code == 0
    summary = done.read("ga_kpi_summary.json")
    series = summary["kpis"]["requests"]["series"]
    assert {s["service"] for s in series} == set(odd.SERVICES)
    for each in series:
        assert each["value"] == pytest.approx(23 * 3600 + 10 * 3600, rel=0.01)
        assert each["coverage"] == 1
    assert "2026-03-28" in done.report
    assert "2026-03-29" in done.report
    peak = summary["kpis"]["requests"]["highest_step"]["step_end"]
    assert "2026-03-29T01:05:00Z" <= peak <= "2026-03-29T02:00:00Z"
    text = " ".join(done.appendix.split())
    assert 'we"b' in text
    assert "UTC" in text


# --- Last, as it had to wait ----------------------------------------------------------------------


def test_two_real_servers_that_watch_themselves(watched: Watched, tmp_path: Path) -> None:
    time.sleep(max(0.0, watched.start + DURING + 4 - time.time()))
    assert watched.problem == ""
    names = [url.removeprefix("http://") for url in (watched.url, watched.other)]
    done = run(
        tmp_path / "out",
        DATA / "run.yaml",
        f"source.prometheus={watched.url}",
        f"regions={json.dumps(names)}",
        f"primary_region={json.dumps(names[0])}",
        f"window.start={_iso(watched.start)}",
        f"baseline.start={_iso(watched.start - BEFORE)}",
    )
    assert done.code == 0, done.err
    assert (done.code, done.certification["decision"]) == (0, "CERTIFIED")
    assert done.certification["simulated"] is False
    assert not re.search("simulated", done.report, re.IGNORECASE)
    summary = done.read("ga_kpi_summary.json")["kpis"]
    assert summary["availability"]["overall"] == {
        "value": 1.0, "coverage": 1.0, "samples": 120, "expected": 120,
    }  # fmt: skip
    # Requests are sent in steady beats; increase() extrapolates each step by a quarter.
    assert summary["requests"]["overall"]["value"] == pytest.approx(watched.sent, rel=0.05)
    for name in names:
        for figures in (summary["memory_usage"], summary["cpu_usage"]):
            assert figures["regions"][name]["value"] > 0
    assert 0 < summary["latency_p99"]["overall"]["value"] < 0.5
    assert 0 < summary["machine_cpu"]["overall"]["value"] <= 1
    end = watched.start + DURING
    (memory,) = servers.query(
        watched.url,
        f'avg_over_time(process_resident_memory_bytes{{instance="{names[1]}"}}[60s])',
        end,
    ).values()
    assert summary["memory_usage"]["regions"][names[1]]["value"] == pytest.approx(memory, rel=0.01)
    assert done.read("ga_kpi_summary.json")["alerts"]["counts"]["all"] == 0


def _iso(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
