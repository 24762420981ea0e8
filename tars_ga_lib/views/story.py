"""The story of a run, for the report: what came of it, why, what happened when, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from IPython.display import Markdown

from tars_ga_lib import story
from tars_ga_lib.display import CHIPS, md_escape
from tars_ga_lib.story import Story
from tars_ga_lib.tables import Column, frame
from tars_ga_lib.timeline import gravest, moment
from tars_ga_lib.wording import listing

if TYPE_CHECKING:
    import pandas as pd

_FILES = {
    "drift_analysis": "drift",
    "ga_kpi_summary": "alerts",
    "snapshots": "steps",
    "slo": "budgets",
    "ws_health_metrics": "sessions",
}
"""What the time line calls the files that it rests on; evidence files by their kind."""

_TERMS = {"immediate": "now", "short": "short term", "long": "long term"}


def outcomes(told: Story) -> Markdown:
    """Show the key outcomes."""
    return Markdown(
        "\n".join(f"- {_sign(one.tone)} {md_escape(one.text)}" for one in told.outcomes)
    )


def justification(told: Story) -> Markdown:
    """Show why the decision is what it is: what decides first, what passes in one line."""
    passed = [r.title for r in told.justification if r.verdict == "pass" and not r.decides]
    lines = [
        f"- {_sign(r.verdict)} {_reason(r)}" for r in told.justification if r.title not in passed
    ]
    if passed:
        verb = "passes" if len(passed) == 1 else "pass"
        lines.append(f"- {_sign('pass')} {md_escape(f'{listing(passed, len(passed))} {verb}.')}")
    return Markdown("\n".join(lines))


def _reason(reason: story.Reason) -> str:
    change = md_escape(reason.change)
    if change and reason.decides:
        change = f"**{change}**"
    optional = "" if reason.mandatory else "(optional)"
    return " ".join(filter(None, [md_escape(reason.text), change, optional]))


def timeline_table(told: Story, most: int = 24) -> pd.DataFrame:
    """Show what happened in the window, and shortly before and after it, in order of time."""
    kept, left_out = gravest(told.events, most)
    rows = [
        [e.tone, moment(e, told.window), e.where, "; ".join([e.text, *e.details]),
         _source(e.rests_on)]
        for e in kept
    ]  # fmt: skip
    note = (
        "Times are in UTC, those of samples to the nearest step. Sources: drift_analysis.json "
        "(drift), ga_kpi_summary.json (alerts), snapshots.jsonl (steps), slo.json (budgets), "
        "ws_health_metrics.json (sessions), and the evidence files by their kind."
    )
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
        [one.tone, _TERMS[one.term], one.text, listing(one.answers) if one.answers else ""]
        for one in told.actions
    ]
    return frame(
        [Column("Severity", "verdict"), "When", "Recommended action", "Answers"],
        rows,
        caption="Recommended actions",
        empty=story.EMPTY["actions"],
    )


def lessons(told: Story) -> Markdown:
    """Show what went well, what could be improved and what would let a day be known better."""
    parts: dict[str, tuple[Sequence[Any], str]] = {
        "What went well": (told.went_well, "went_well"),
        "What could be improved": (told.to_improve, "to_improve"),
        "What would show more of the next day": (told.process_improvements, "process_improvements"),
    }
    blocks = [
        f"**{title}**\n\n" + "\n".join(f"- {md_escape(one.text)}" for one in items)
        if items
        else f"**{title}**\n\n{md_escape(story.EMPTY[key])}"
        for title, (items, key) in parts.items()
    ]
    if told.quoted:
        lines = [f"- {md_escape(f'“{quote.text}” ({quote.source})')}" for quote in told.quoted]
        blocks.append("**In the words of those who were there**\n\n" + "\n".join(lines))
    return Markdown("\n\n".join(blocks))


def _sign(verdict: str) -> str:
    """Return the symbol of a verdict, bold where it fails."""
    symbol = CHIPS[verdict].symbol
    return f"**{symbol}**" if CHIPS[verdict].tone == "fail" else symbol


def _source(rests_on: Sequence[str]) -> str:
    """Name the files that an event rests on, as short as they are known by."""
    stems = (ref.partition("#")[0].rpartition("/")[2].partition(".")[0] for ref in rests_on)
    names = (_FILES.get(stem, stem.removeprefix("evidence_")) for stem in stems)
    return ", ".join(dict.fromkeys(name.replace("_", " ") for name in names))
