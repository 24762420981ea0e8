"""What decides: the banner, the criteria, waivers and evidence files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tars_ga_lib.display import Column, Decision, Table, quantity, when
from tars_ga_lib.run import Run
from tars_ga_lib.views.common import Facts
from tars_ga_lib.views.sources import collection_table
from tars_ga_lib.wording import limit_text, value_text, why


def banner(run: Run, certification: Facts) -> Decision:
    """Show the decision, what it is about and how complete its data is."""
    parameters, recording = run.job.parameters, run.recording
    window, baselines = recording.window, recording.baselines
    covered = [kpis.coverage for name in run.job.kpis if (kpis := run.kpis.figure(name)).expected]
    more = [("Baseline too", _interval(span.start, span.stop)) for span in baselines[1:]]
    problems = [("Problem", text) for text in recording.problems]
    return Decision(
        certification["decision"],
        why(certification),
        release=parameters.release.name,
        version=parameters.release.version,
        digest=parameters.release.digest or "",
        start=window.start,
        end=window.stop,
        baseline=(baselines[0].start, baselines[0].stop) if baselines else None,
        source=f"{recording.server} ({recording.version}), collected {recording.collected_at}",
        coverage=_coverage_text(covered),
        facts=[*more, *problems],
        fingerprint=recording.digest(),
        simulated=recording.simulated,
    )


def _interval(start: int, stop: int) -> str:
    return f"{when(start)} to {when(stop)}"


def _coverage_text(covered: Sequence[float]) -> str:
    if not covered:
        return "NO DATA"
    worst = sum(c < 1 for c in covered)
    known = sum(c > 0 for c in covered)
    if known == len(covered) and not worst:
        return f"complete for all {known} KPIs"
    return (
        f"{known} of {len(covered)} KPIs have data, the least complete "
        f"{quantity(min(covered), 'ratio')} of its samples"
    )


def criteria_table(certification: Facts) -> Table:
    """Show every criterion with its verdict, the mandatory ones first."""
    rows = []
    for outcome in sorted(certification["criteria"], key=lambda o: not o["mandatory"]):
        verdict = "waived" if outcome["waiver"] else outcome["verdict"]
        note = [] if outcome["mandatory"] else ["optional"]
        note += [part for part in (outcome["where"], outcome["reason"]) if part]
        if outcome["verdict"] == "warn" and not outcome["reason"]:
            note.append(f"warning limit {limit_text(outcome['warning'], outcome['unit'])}")
        rows.append(
            [
                outcome["title"],
                verdict,
                value_text(outcome),
                limit_text(outcome["target"], outcome["unit"]),
                "" if outcome["coverage"] is None else quantity(outcome["coverage"], "ratio"),
                "; ".join(note),
            ]
        )
    columns: list[Column | str] = [
        "Criterion",
        Column("Verdict", "verdict"),
        Column("Value", align="right"),
        Column("Target", align="right"),
        Column("Coverage", align="right"),
        "Note",
    ]
    return Table(columns, rows, caption="Criteria")


def waiver_table(certification: Facts) -> Table:
    """Show who accepted which failure, why and until when."""
    waivers = [o["waiver"] for o in certification["criteria"] if o["waiver"]]
    rows = [[w["criterion"], w["who"], w["why"], w["until"]] for w in waivers]
    return Table(
        ["Criterion", "Who", "Why", "Until"], rows, caption="Waivers", empty="Nothing is waived."
    )


def evidence_table(run: Run) -> Table:
    """Show the facts that no metric holds, and the files that were not given."""
    from tars_ga_lib.evidence_files import EVIDENCE_MODELS

    rows: list[list[object]] = []
    for kind in EVIDENCE_MODELS:
        facts = run.job.evidence.get(kind)
        given = None if facts is None else facts.source
        rows.append([kind, _facts_text(facts) if facts else None, given])
    return Table(
        ["Evidence", "What it says", "Source"],
        rows,
        caption="Evidence files",
        note="NO DATA: no such file was given to this run.",
    )


def _facts_text(facts: Any) -> str:
    """Write the plain facts of an evidence file in one line."""
    raw = facts.model_dump(mode="json", exclude_none=True, exclude={"source", "simulated"})
    parts = []
    for key, value in raw.items():
        name = key.replace("_", " ")
        if isinstance(value, list):
            parts.append(f"{len(value)} {name}")
        elif isinstance(value, dict):
            parts.append(f"{name} " + ", ".join(f"{k} {v}" for k, v in value.items()))
        else:
            text = {True: "yes", False: "no"}.get(value, value) if value in (True, False) else value
            parts.append(f"{name}: {text}")
    return "; ".join(parts) + (" (simulated)" if facts.simulated else "")


def notices(run: Run, certification: Facts) -> list[Table]:
    """Show what a reviewer must not overlook: waivers, and queries that went wrong."""
    found = [collection_table(run, problems_only=True)]
    if any(o["waiver"] for o in certification["criteria"]):
        found.insert(0, waiver_table(certification))
    return [table for table in found if table.rows]
