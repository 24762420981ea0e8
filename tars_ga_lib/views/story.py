"""The story of a run, for the report: what came of it, why, what happened when, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from IPython.display import Markdown

from tars_ga_lib import story
from tars_ga_lib.display import CHIPS, md_escape
from tars_ga_lib.story import Story
from tars_ga_lib.story.phrases import listing
from tars_ga_lib.tables import Column, frame

if TYPE_CHECKING:
    import pandas as pd

_FILES = {
    "drift_analysis": "drift",
    "ga_kpi_summary": "alerts",
    "snapshots": "steps",
    "slo": "budgets",
    "ws_health_metrics": "sessions",
    "evidence_incidents": "incidents",
    "evidence_deployments": "deployments",
    "evidence_rollback": "rollback",
    "evidence_canary": "canary",
    "evidence_hotfix": "fixes",
    "evidence_load_test": "load test",
}
"""What the time line calls the files that it rests on."""

_TERMS = {"immediate": "now", "short": "short term", "long": "long term"}


def outcomes(told: Story) -> Markdown:
    """Show the key outcomes."""
    return Markdown(
        "\n".join(f"- {_sign(each.tone)} {md_escape(each.text)}" for each in told.outcomes)
    )


def justification(told: Story) -> Markdown:
    """Show why the decision is what it is: what decides first, what passes in one line."""
    plain = [r for r in told.justification if r.verdict == "pass" and not r.decides]
    lines = [f"- {_sign(r.verdict)} {_reason(r)}" for r in told.justification if r not in plain]
    if plain:
        names = listing([r.title for r in plain], len(plain))
        verb = "passes" if len(plain) == 1 else "pass"
        lines.append(f"- {_sign('pass')} {md_escape(f'{names} {verb}.')}")
    return Markdown("\n".join(lines))


def _reason(reason: story.Reason) -> str:
    text = md_escape(reason.text)
    change = f" **{md_escape(reason.change)}**" if reason.change and reason.decides else ""
    if reason.change and not reason.decides:
        change = f" {md_escape(reason.change)}"
    return text + change + ("" if reason.mandatory else " (optional)")


def timeline_table(told: Story, most: int = 24) -> pd.DataFrame:
    """Show what happened in the window, and shortly before and after it, in order of time."""
    kept, left_out = story.gravest(told.events, most)
    rows = [
        [e.tone, story.moment(e, told.window), e.where, e.text, _source(e.rests_on)] for e in kept
    ]
    note = "Times are in UTC; what samples show is known to the step. Sources: drift_analysis.json "
    note += "(drift), ga_kpi_summary.json (alerts), snapshots.jsonl (steps), slo.json (budgets), "
    note += "ws_health_metrics.json (sessions), and the evidence files by their kind."
    if left_out:
        note = f"{left_out} lesser events of {len(told.events)} are left out. {note}"
    if told.simulated:
        note = f"Simulated. {note}"
    return frame(
        [Column("Severity", "verdict"), "When", "Where", "What", "Source"],
        rows,
        caption="What happened",
        empty=story.EMPTY["events"],
        note=note,
    )


def plan_table(told: Story) -> pd.DataFrame:
    """Show what to do and by when, each with the findings that it answers."""
    rows = [
        [each.tone, _TERMS[each.term], each.text, listing(each.answers) if each.answers else ""]
        for each in told.actions
    ]
    return frame(
        [Column("Severity", "verdict"), "When", "Recommended action", "Answers"],
        rows,
        caption="Recommended actions",
        empty=story.EMPTY["actions"],
    )


def lessons(told: Story) -> Markdown:
    """Show what went well, what could be improved and what the process lacked."""
    parts = {
        "What went well": (told.went_well, "went_well"),
        "What could be improved": (told.to_improve, "to_improve"),
        "What the process lacked": (told.process_improvements, "process_improvements"),
    }
    blocks = [
        f"**{title}**\n\n{story.bullets(items, empty=story.EMPTY[key])}"
        for title, (items, key) in parts.items()
    ]
    if told.quoted:
        blocks.append(f"**In the words of those who were there**\n\n{story.bullets(told.quoted)}")
    return Markdown("\n\n".join(blocks))


def _sign(verdict: str) -> str:
    """Return the symbol of a verdict, bold where it fails."""
    symbol = CHIPS[verdict].symbol
    return f"**{symbol}**" if CHIPS[verdict].tone == "fail" else symbol


def _source(rests_on: Sequence[str]) -> str:
    """Name the files that an event rests on, as short as they are known by."""
    stems = (ref.partition("#")[0].rpartition("/")[2].partition(".")[0] for ref in rests_on)
    return ", ".join(dict.fromkeys(_FILES.get(stem, stem) for stem in stems))
