"""Files laid over each other, and --set that reaches into them: what they make, who is blamed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tars_ga_lib import parameters
from tars_ga_lib.catalogues import Criterion
from tars_ga_lib.grammar import ParametersError
from tars_ga_lib.layers import Assignment, Layered
from tests.helpers import CRITERION, ROOT, RULE, tars_ga, write_run

DEMO = ROOT / "parameters" / "demo.yaml"
GA_DAY = ROOT / "parameters" / "ga_day.yaml"


def refusal(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(ParametersError) as caught:
        parameters.load(path, overrides)
    return str(caught.value).splitlines()


def over(folder: Path, **texts: str) -> Path:
    """Write a small run whose catalogues have a second layer each."""
    layers = {key: [f"{key}.yaml", f"my_{key}.yaml"] for key in texts}
    files = {f"my_{key}.yaml": text for key, text in texts.items()}
    return write_run(folder, **layers, texts=files)


# --- Documents ------------------------------------------------------------------------------------

TREES: Any = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(TREES, TREES)
def test_laying_a_document_over_itself_or_another(one: Any, other: Any) -> None:
    layered = Layered.of(one, "one")
    layered.lay(one, "again")
    assert layered.value == one
    layered = Layered.of(one, "one")
    layered.lay(other, "other")
    for place in places(other):
        assert at(layered.value, place) is not None
        assert layered.name_of(place) in ("other", "one" if not place else "other")
    for place in places(one):
        if layered.name_of(place) == "one" and place:
            assert at(layered.value, place) == at(one, place)


def places(tree: Any, place: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(tree, dict) or not tree:
        return [place]
    return [inner for key, value in tree.items() for inner in places(value, (*place, key))]


def at(tree: Any, place: tuple[str, ...]) -> Any:
    for key in place:
        tree = tree[key]
    return tree


def test_nothing_takes_a_key_out_and_a_list_is_replaced() -> None:
    layered = Layered.of({"a": {"b": 1, "c": [1, 2]}, "d": 1}, "base")
    layered.lay({"a": {"b": None, "c": [3]}}, "mine")
    assert layered.value == {"a": {"c": [3]}, "d": 1}
    assert layered.name_of(("a", "c", 0)) == "mine"
    assert layered.name_of(("d",)) == "base"


def test_an_assignment_replaces_and_reaches_into_lists() -> None:
    layered = Layered.of({"a": [{"b": 1}, {"b": 2}]}, "base")
    layered.assign(Assignment("--set a.1.b", ["a", "1", "b"], 3))
    assert layered.value == {"a": [{"b": 1}, {"b": 3}]}
    assert layered.name_of(("a", 1, "b")) == "--set a.1.b"
    assert layered.name_of(("a", 0, "b")) == "--set a.1.b"  # the last to touch the list
    layered.assign(Assignment("--set a", ["a"], {"x": 1}))
    assert layered.value == {"a": {"x": 1}}


# --- --set ----------------------------------------------------------------------------------------


def test_set_reaches_into_the_files_of_a_run() -> None:
    job = parameters.load(
        DEMO,
        [
            "criteria.latency_p99.target=< 0.3",
            "criteria.latency_p99.warning=< 0.2",
            "kpis.latency_p95.quantile=0.94",  # that of P99 is its objective's as well
            "kpis.alerts.firing=x",
            "drift_rules.cpu_usage.critical=0.5",
            "slos.availability.spec.objectives.0.target=0.95",
            "evidence.incidents.incidents.0.severity=sev1",
            "criteria.mine={title: Mine, kpi: oom_kills, target: '== 0'}",
        ],
    )
    assert str(job.criteria["latency_p99"].target) == "< 0.3"
    assert job.criteria["latency_p99"].weight == 2  # the rest of the criterion stays
    assert job.criteria["mine"].kpi == "oom_kills"
    assert job.kpis["latency_p95"].quantile == 0.94
    assert job.alerts
    assert job.alerts.firing == "x"
    assert job.rules["cpu_usage"].critical == 0.5
    assert job.slos["availability"].target == 0.95
    assert job.evidence["incidents"].incidents[0].severity == "sev1"  # type: ignore[attr-defined]


def test_a_saved_run_holds_the_effective_files(tmp_path: Path) -> None:
    """So a replay and the digest are true; what nothing was laid over is kept to the letter."""
    sets = ["criteria.latency_p99.target=< 0.3", "criteria.latency_p99.warning=< 0.2",
            "slos.availability.spec.objectives.0.target=0.95"]  # fmt: skip
    job = parameters.load(DEMO, sets)
    job.save(tmp_path, [(1_794_528_000, 1_794_614_400)])
    again = parameters.load(tmp_path / "run.yaml")
    assert again.criteria == job.criteria
    assert again.slos == job.slos
    assert again.kpis == job.kpis
    assert (tmp_path / "kpis.yaml").read_text("utf-8") == (
        ROOT / "parameters" / "kpis.yaml"
    ).read_text("utf-8")
    again.save(tmp_path / "again", [(1_794_528_000, 1_794_614_400)])
    for file in tmp_path.glob("*.yaml"):
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("foo=1", "--set foo: unknown key 'foo'; take it out"),
        ("widow.step=1m", "--set widow.step: unknown key 'widow'; did you mean 'window'?"),
        ("window.step=lots", "--set window.step: window.step: 'lots' is not a duration"),
        ("source.prometheus=http://u:hunter2@h", "--set source.prometheus: source.prometheus: the"),
        ("criteria.availabilty.target=< 1", "--set criteria.availabilty.target: there is no"),
        ("criteria.availability.target=0.3", "--set criteria.availability.target: criteria.avail"),
        ("criteria.availability.targt=< 1", "unknown key 'criteria.availability.targt'; did you"),
        ("criteria.availability.kpi=memry", "--set criteria.availability.kpi: criteria.availabil"),
        ("criteria={a: 1}", "--set criteria: criteria: it must be a path, or a list of paths, not"),
        ("kpis.memory.unit=", "--set kpis.memory.unit: kpis.memory.unit: must be a valid string"),
        ("kpis.memry.unit=x", "no kpis entry named 'memry'; did you mean 'memory'?"),
        ("drift_rules.memory.warning=5", "--set drift_rules.memory.warning: rules.memory: the lim"),
        ("slos.availability.x=1", "--set slos.availability.x: the run names no file for 'slos'"),
        ("evidence.rollback.successful=true", "the run names no file for 'evidence.rollback'"),
        ("window.step", "is not an assignment; write it like --set window.step=1m"),
        ("=1", "is not an assignment"),
        ("window..step=1m", "is not an assignment"),
        ("window.step=[", "--set window.step, line"),
        ("release.version=2.0", "release.version: must be a valid string, not 2.0; put it in quo"),
        ("regions.x=x", "regions is a list of 2; 'x' is no place in it: give 0 to 1, or the whole"),
        ("regions.2=x", "regions is a list of 2; '2' is no place in it"),
        ("window.end=2026-11-21T00:00:00Z", "window: give exactly one of 'duration' and 'end'"),
        ("window.start=2999-01-01T00:00:00Z", "--set window.start: window: it ends at 2999-01-02"),
    ],
)  # fmt: skip
def test_an_error_of_set_blames_set(tmp_path: Path, assignment: str, said: str) -> None:
    lines = refusal(write_run(tmp_path), assignment)
    assert any(said in line for line in lines), lines
    assert all(line.startswith(f"--set {assignment.partition('=')[0]}") for line in lines)
    assert "hunter2" not in "".join(lines)


def test_where_parts_do_not_fit_together_both_are_named(tmp_path: Path) -> None:
    (line,) = refusal(write_run(tmp_path), "regions=[north]")
    assert line.startswith(f"{tmp_path / 'run.yaml'} (with --set regions): primary_region 'east'")


# --- Overlays -------------------------------------------------------------------------------------


def test_a_kpi_that_differs_in_one_label_is_one_line(tmp_path: Path) -> None:
    path = over(
        tmp_path,
        kpis="kpis: {memory: {labels: {service: app}}}",
        drift_rules="rules: {memory: {critical: 0.3}}",
        criteria="criteria: {mine: {title: Mine, kpi: memory, target: '< 1e9'}}",
    )
    job, plain = parameters.load(path), parameters.load(write_run(tmp_path / "plain"))
    assert job.kpis["memory"].labels == {"service": "app"}
    assert job.kpis["memory"].model_copy(update={"labels": {}}) == plain.kpis["memory"]
    assert {n: k for n, k in job.kpis.items() if n != "memory"} == {
        n: k for n, k in plain.kpis.items() if n != "memory"
    }
    assert (job.rules["memory"].warning, job.rules["memory"].critical) == (0.05, 0.3)
    assert list(job.criteria) == ["availability", "mine"]


def test_objectives_are_laid_over_by_name(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "apiVersion: openslo/v1\nkind: SLO\nmetadata: {name: availability}\n"
        "spec: {objectives: [{target: 0.95}]}\n",
        encoding="utf-8",
    )
    files = f"slos=['{ROOT / 'parameters' / 'slos.yaml'}', '{mine}']"
    job, plain = parameters.load(DEMO, [files]), parameters.load(DEMO)
    assert job.slos["availability"].target == 0.95
    assert list(job.slos) == list(plain.slos)
    assert {n: s for n, s in job.slos.items() if n != "availability"} == {
        n: s for n, s in plain.slos.items() if n != "availability"
    }
    mine.write_text(mine.read_text("utf-8").replace("0.95", "2"), encoding="utf-8")
    assert refusal(DEMO, files)[0].startswith(f"{mine}: SLO.availability.spec.objectives.0.target")


def test_an_error_blames_the_layer_that_is_wrong(tmp_path: Path) -> None:
    path = over(
        tmp_path,
        kpis="kpis: {memory: {kind: ratio}, other: {title: x}}",
        criteria="criteria: {availability: {targt: '< 1'}}",
    )
    lines = refusal(path)
    assert all(line.startswith(str(tmp_path / "my_")) for line in lines)
    assert any("my_kpis.yaml: kpis.memory: a ratio needs the key 'numerator'" in x for x in lines)
    assert any("the key 'kpis.other.unit' is missing; add it" in line for line in lines)
    assert any("my_criteria.yaml: unknown key 'criteria.availability.targt'" in x for x in lines)


# --- drop -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["layer", "run", "set"])
def test_what_is_dropped_goes_with_what_rests_on_it(tmp_path: Path, how: str) -> None:
    rules = {"memory": RULE | {"kpi": "memory"}, "both": RULE | {"kpi": ["memory", "replicas"]}}
    criteria = {"availability": CRITERION,
                "mine": {"title": "Mine", "kpi": "memory", "target": "< 1"}}  # fmt: skip
    changes: dict[str, Any] = {"rules_": rules, "criteria_": criteria}
    sets: list[str] = []
    if how == "layer":
        changes |= {"kpis": ["kpis.yaml", "my.yaml"], "texts": {"my.yaml": "drop: [memory]"}}
    elif how == "run":
        changes |= {"drop": ["memory"]}
    else:
        sets = ["kpis.drop=[memory]"]
    job = parameters.load(write_run(tmp_path, **changes), sets)
    assert "memory" not in job.kpis
    assert list(job.rules) == ["both"]
    assert job.rules["both"].kpi == ["replicas"]
    assert list(job.criteria) == ["availability"]
    assert job.left_out == [("KPI", "memory"), ("drift rule", "memory"), ("criterion", "mine")]
    job.save(tmp_path / "saved", [(1_794_528_000, 1_794_614_400)])
    again = parameters.load(tmp_path / "saved" / "run.yaml")
    assert again.left_out == job.left_out
    assert again.kpis == job.kpis


def test_objectives_go_with_the_metrics_that_only_a_dropped_kpi_asks_for() -> None:
    job = parameters.load(DEMO, ["drop=[error_rate]"])
    assert "error-rate" in job.slos  # `errors` asks for the same metrics, so they are there
    job = parameters.load(DEMO, ["drop=[latency_p50, latency_p95, latency_p99]"])
    assert ("criterion", "latency_p99") in job.left_out
    assert [each for each in job.left_out if each[0] == "objective"]


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["drop=[memry]"], "drop: there is no KPI named 'memry'; did you mean 'memory'?"),
        (["drift_rules.drop=[memry]"], "no drift rule named 'memry'; did you mean 'memory'?"),
        (["criteria.drop=[x]"], "no criterion named 'x'; there are availability"),
        (["criteria.drop=[availability]"], "drop: leaves no KPI, no drift rule or no mandatory"),
        (["drop=[memory]"], "drop: leaves no KPI, no drift rule or no mandatory"),
    ],
)
def test_drop_is_strict(tmp_path: Path, sets: list[str], said: str) -> None:
    assert said in refusal(write_run(tmp_path), *sets)[0]


# --- All at once ----------------------------------------------------------------------------------


def test_all_missing_files_are_told_at_once(tmp_path: Path) -> None:
    path = write_run(
        tmp_path, kpis="a.yaml", drift_rules="b.yaml", criteria="c.yaml", slos="d.yaml",
        waivers="e.yaml", validation="f.yaml", websocket="g.yaml", notify="h.yaml",
        evidence={"rollback": "i.yaml", "incidents": "j.yaml"},
    )  # fmt: skip
    lines = refusal(path)
    assert sorted(lines) == [
        f"{tmp_path / name}.yaml: there is no such file; check the name" for name in "abcdefghij"
    ]


def test_all_problems_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    document = yaml.safe_load(path.read_text("utf-8"))
    del document["regions"], document["services"], document["release"]["version"]
    document |= {"widow": 1, "simulated": "yes"}
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    lines = refusal(path)
    assert sorted(line.removeprefix(f"{path}: ") for line in lines) == [
        "simulated: must be a valid boolean, not 'yes'",
        "the key 'regions' is missing; add it",
        "the key 'release.version' is missing; add it",
        "the key 'services' is missing; add it",
        "unknown key 'widow'; did you mean 'window'?",
    ]


def test_problems_of_several_files_are_told_at_once(tmp_path: Path) -> None:
    lines = refusal(write_run(
        tmp_path,
        criteria_={"x": CRITERION | {"target": 1}, "y": CRITERION | {"weight": 0}},
        rules_={"z": RULE | {"kpi": "memory", "warning": 7}},
    ))  # fmt: skip
    assert [line.split(": ")[1] for line in lines] == [
        "rules.z", "criteria.x.target", "criteria.y.weight",
    ]  # fmt: skip


# --- Copies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "update",
    [{"target": "< 0.3"}, {"warning": ">= 0.1"}, {"warning": "< 0.1"}, {"target": "== 1"},
     {"kpi": None}, {"weight": -1}],
)  # fmt: skip
def test_a_copy_is_checked_like_a_file(update: dict[str, Any]) -> None:
    criterion = parameters.load(GA_DAY).criteria["availability"]
    with pytest.raises(ValueError, match=r"warning|source|exactly|greater"):
        criterion.model_copy(update=update)
    assert criterion.model_copy() == criterion
    assert criterion.model_copy(update={"target": ">= 0.99"}).limit.value == 0.99


@pytest.mark.parametrize(
    ("target", "warning", "good"),
    [
        ("== 0", "== 1", False), ("== 1", "== 0", False), ("< 0.5", "<= 0.5", False),
        ("<= 0.5", "< 0.5", True), ("> 0.5", ">= 0.5", False), (">= 0.5", "> 0.5", True),
        ("< 0.5", "< 0.5", True), ("< 0.5", "< 0.4", True), (">= 0.5", "<= 0.6", False),
    ],
)  # fmt: skip
def test_a_warning_is_stricter_than_its_target(target: str, warning: str, good: bool) -> None:
    facts = {**CRITERION, "target": target, "warning": warning}
    if good:
        Criterion.model_validate(facts)
    else:
        with pytest.raises(ValueError, match="warning"):
            Criterion.model_validate(facts)


# --- show -----------------------------------------------------------------------------------------


def test_show_tells_the_origin_of_each_line(tmp_path: Path) -> None:
    path = over(tmp_path, kpis="# mine\nkpis:\n  memory:\n    labels: {service: app}\n",
                criteria="drop: []")  # fmt: skip
    done = tars_ga("show", path, "--set", "criteria.availability.target=>= 0.9",
                   "--set", "window.step=1m")  # fmt: skip
    assert done.returncode == 0, done.stderr
    origins = dict(re.split(r"\s+# ", line, maxsplit=1) for line in done.stdout.splitlines()
                   if re.search(r"\S\s+# ", line) and not line.startswith("#"))  # fmt: skip
    assert origins["      service: app"] == f"{tmp_path / 'my_kpis.yaml'}:4"
    assert origins["    target: '>= 0.9'"] == "--set criteria.availability.target"
    assert origins["  step: 1m"] == "--set window.step"
    assert origins["primary_region: east"].startswith(f"{path}:")
    text = "\n".join(line.split("  # ")[0] for line in done.stdout.splitlines())
    parts = re.split(r"# --- (.*) ---\n", text)[1:]
    documents = {k: yaml.safe_load(v) for k, v in zip(parts[::2], parts[1::2], strict=True)}
    assert documents["kpis"]["kpis"]["memory"]["labels"] == {"service": "app"}
    assert documents["criteria"]["criteria"]["availability"]["target"] == ">= 0.9"


def test_show_prints_what_is_there_and_then_what_is_wrong(tmp_path: Path) -> None:
    done = tars_ga("show", write_run(tmp_path), "--set", "kpis.memory.unit=7")
    assert done.returncode == 2
    assert "--set kpis.memory.unit: kpis.memory.unit: must be a valid string" in done.stderr
    assert "unit: 7" in done.stdout


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    done = tars_ga("show", DEMO, "--set", "drop=[disk_usage]")
    assert done.stderr == ("left out by the parameters: KPI disk_usage; drift rule disk_usage\n")
