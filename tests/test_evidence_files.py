"""Evidence files: what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tars_ga_lib import criteria
from tars_ga_lib.evidence_files import EVIDENCE_MODELS, EvidenceKind, Links
from tars_ga_lib.grammar import ParametersError, check
from tars_ga_lib.kpis import Kpis
from tests.helpers import ROOT, make_job, make_span


def example(kind: str, folder: str = "parameters/evidence") -> dict[str, Any]:
    text = (ROOT / folder / f"{kind}.yaml").read_text(encoding="utf-8")
    document: dict[str, Any] = yaml.safe_load(text)
    return document


@pytest.mark.parametrize("kind", EVIDENCE_MODELS)
def test_examples_are_good(kind: EvidenceKind) -> None:
    facts = check(EVIDENCE_MODELS[kind], example(kind), kind)
    assert facts.source
    assert not facts.simulated


@pytest.mark.parametrize("file", sorted((ROOT / "demo" / "evidence").glob("*.yaml")), ids=str)
def test_the_demos_evidence_says_that_it_is_simulated(file: Path) -> None:
    kind = next(kind for kind in EVIDENCE_MODELS if kind == file.stem)
    facts = check(EVIDENCE_MODELS[kind], yaml.safe_load(file.read_text(encoding="utf-8")), kind)
    assert facts.simulated
    assert "SIMULATED" in file.read_text(encoding="utf-8").splitlines()[0]


def refused(kind: EvidenceKind, change: dict[str, Any]) -> str:
    with pytest.raises(ParametersError) as error:
        check(EVIDENCE_MODELS[kind], example(kind) | change, f"{kind}.yaml")
    return str(error.value)


DEPLOYMENT = {"at": "2026-11-20T01:00:00Z", "kind": "rollout", "title": "A"}
LOAD = {"title": "A", "duration": "1m", "requests": 10, "errors": 1, "successful": True}


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("deployments", {"deployments": [DEPLOYMENT | {"kind": "upgrade"}]}, "deployments.0.kind"),
        (
            "deployments",
            {"deployments": [DEPLOYMENT | {"end": "2026-11-20T00:00:00Z"}]},
            "is before the start",
        ),
        ("deployments", {"covers": None}, "covers"),
        ("canary", {"traffic": 5}, "traffic"),
        ("canary", {"decision": "fine"}, "decision"),
        ("canary", {"success_rate": 99.9}, "success_rate"),
        ("hotfix", {"fixes": []}, "fixes"),
        ("load_test", {"scenarios": [LOAD | {"errors": 11}]}, "11 errors are more than its 10"),
        ("actions", {"actions": [{"title": "A", "term": "soon"}]}, "actions.0.term"),
        ("lessons", {"lessons": [{"topic": "well", "text": "A"}]}, "lessons.0.topic"),
        ("links", {"links": [{"kind": "log", "title": "A", "url": "https://e.example"}]}, "kind"),
        (
            "incidents",
            {"incidents": [{
                "id": "I", "severity": "sev1", "title": "A", "start": "2026-11-20T01:00:00Z",
                "acknowledged": "2026-11-20T00:59:00Z",
            }]},
            "acknowledged at 2026-11-20T00:59:00Z, before the start 2026-11-20T01:00:00Z",
        ),
        ("customer", {"satisfaction": 96}, "satisfaction"),
        ("customer", {"escalated": -1}, "escalated"),
    ],
)  # fmt: skip
def test_what_is_refused(kind: EvidenceKind, change: dict[str, Any], said: str) -> None:
    sentence = refused(kind, change)
    assert sentence.startswith(f"{kind}.yaml: ")
    assert said in sentence


@pytest.mark.parametrize(
    "url",
    [
        "https://user:sesame@example.com/x",
        "https://sesame@example.com/x",
        "https://example.com/x?access_token=sesame",
        "https://example.com/x?X-Amz-Signature=sesame&y=1",
        "https://example.com/x?sig=sesame",
        "https://example.com/x?API_KEY=sesame",
        "javascript:sesame",
        "file:///sesame",
        "https://exam ple.com/sesame",
        "https://example.com:99999/sesame",
        "sesame",
    ],
)
def test_urls_that_must_not_stand_in_a_report(url: str) -> None:
    link = {"kind": "logs", "title": "A", "url": url}
    for change in ({"links": [link]}, {"pipeline": {"run": "1", "artifacts": url}}):
        sentence = refused("links", change)
        assert "URL" in sentence
        assert "sesame" not in sentence


def test_urls_that_may(tmp_path: Path) -> None:
    for url in ("https://example.com/a?b=c&design=1#d", "http://127.0.0.1:3000/d/x?from=now-1d"):
        facts = check(
            Links,
            {
                "source": "x",
                "release": "v1",
                "links": [{"kind": "logs", "title": "A", "url": url}],
            },
            "x",
        )
        assert [link.url for link in facts.of("logs")] == [url]
        assert facts.of("runbook", "dashboard") == []


DAY = {
    "canary": "{source: x, release: v1.0.1, start: 2026-11-18T16:00:00Z, duration: 1h, "
    "traffic: 0.05, decision: %s}",
    "hotfix": "{source: x, release: v1.0.1, fixes: [{id: A, title: Fix, validated_at: "
    "2026-11-18T16:00:00Z, successful: %s, method: by hand}]}",
    "load_test": "{source: x, release: v1.0.1, tool: x, tested_at: 2026-11-18T16:00:00Z, "
    "scenarios: [{title: Peak, duration: 1m, requests: 1, errors: 0, successful: %s}]}",
}


@pytest.mark.parametrize(
    ("field", "target", "said", "verdict", "where"),
    [
        ("canary.promoted", "== true", "promoted", "pass", "promoted"),
        ("canary.promoted", "== true", "rolled back", "fail", "rolled back"),
        ("hotfix.failed", "== 0", "true", "pass", ""),
        ("hotfix.failed", "== 0", "false", "fail", "Fix"),
        ("load_test.failed", "== 0", "true", "pass", ""),
        ("load_test.failed", "== 0", "false", "fail", "Peak"),
    ],
)
def test_criteria_on_evidence(
    tmp_path: Path, field: str, target: str, said: str, verdict: str, where: str
) -> None:
    kind = field.partition(".")[0]
    # Of a file about another release nothing is told.
    for release, expected in (("v1.0.1", (verdict, where)), ("v9", ("no_data", ""))):
        job = make_job(
            tmp_path / release,
            criteria_={"it": {"title": "It", "evidence": field, "target": target}},
            evidence={kind: "facts.yaml"},
            texts={"facts.yaml": (DAY[kind] % said).replace("v1.0.1", release)},
        )
        kpis = Kpis(job, make_span(job, {}))
        (outcome,) = criteria.evaluate(job, kpis, {}).outcomes
        assert (outcome.verdict, outcome.where) == expected
