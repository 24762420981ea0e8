"""Service level objectives: whether they are met, what is left of their budgets, what burned it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tars_ga_lib import charts
from tars_ga_lib.charts import Chart
from tars_ga_lib.display import duration, instant
from tars_ga_lib.run import Run
from tars_ga_lib.slo import ALERTS
from tars_ga_lib.tables import Column, frame
from tars_ga_lib.views.common import ALL, Facts, Floats, colours, incident_spans

if TYPE_CHECKING:
    import pandas as pd

_LOOKS = ("#12305C", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours of objectives: none that the first regions have."""


def _places(objective: Facts) -> Iterator[tuple[str, Facts]]:
    """Yield the whole, and each region."""
    yield ALL, objective["overall"]
    yield from objective["regions"].items()


def slo_table(run: Run, slos: Facts) -> pd.DataFrame:
    """Show every objective over the window, overall and by region, with its budget in words."""
    rows = []
    for objective in slos["objectives"].values():
        for where, facts in _places(objective):
            period = facts["period"] or {"share_spent": None, "name": ""}
            rows.append(
                [
                    objective["title"] if where == ALL else "",
                    where,
                    facts["verdict"],
                    facts["value"],
                    facts["target"],
                    facts["budget"]["words"].replace(" of budget used", " used"),
                    period["share_spent"],
                    facts["coverage"],
                ]
            )
    names = {each["period"] for each in slos["objectives"].values() if each["period"]}
    period = f"Of {names.pop()}" if len(names) == 1 else "Of its own window"
    return frame(
        [
            "Objective",
            "Where",
            Column("Verdict", "verdict"),
            Column("Measured", align="right", unit="ratio", limit_from="target"),
            Column("Target", align="right", unit="ratio"),
            Column("Error budget of this window", name="budget"),
            Column(period, align="right", unit="ratio", digits=2, name="period_spent"),
            Column("Coverage", align="right", unit="ratio"),
        ],
        rows,
        caption="Service level objectives",
        empty="The run has no objectives.",
        note=_note(run, slos),
    )


def _note(run: Run, slos: Facts) -> str:
    """Say what a minute of budget is, and of how much of its own window an objective is told."""
    if not slos["objectives"]:
        return ""
    words = [
        "A minute of budget is as many bad events as there were events in an average minute; where "
        "time slices are counted, it is a minute."
    ]
    young = [
        each["overall"]["period"]
        for each in slos["objectives"].values()
        if each["overall"]["period"] and each["overall"]["period"]["young"]
    ]
    if young:
        covered = duration(young[0]["covered_seconds"])
        lengths = dict.fromkeys(each["name"].split()[0] for each in young)
        words.append(
            f"The data cover {covered} of {' and '.join(lengths)}, so of that budget at least this "
            "was used."
        )
    if any(f["steps"]["no_traffic"] for o in slos["objectives"].values() for _, f in _places(o)):
        words.append("Steps without traffic burn nothing and prove nothing.")
    return " ".join(words)


def _course(run: Run, facts: Facts, key: str) -> Floats:
    """Course of a figure on the window's steps, shape (T,); a slice's stands for all its steps."""
    course = facts["course"]
    steps = run.recording.window.steps
    values = np.array([np.nan if x is None else x for x in course[key]], dtype=np.float64)
    values = np.repeat(values, course["step_seconds"] // run.recording.window.step)[:steps]
    return np.concatenate([values, np.full(steps - len(values), np.nan)])


def budget_chart(
    run: Run, slos: Facts, analysis: Facts | None = None, objective: str | None = None
) -> Chart:
    """Draw what is left of the window's error budgets: of all objectives, or of one by region."""
    series, colors = _series(run, slos, objective, "budget_left")
    what = f"{slos['objectives'][objective]['title']}: error" if objective else "Error"
    return charts.burn(
        run.recording.window.times,
        series,
        title=f"{what} budget left",
        name=f"error-budget-{objective}" if objective else "error-budget",
        caption="Share of the window's error budget that was left after each step: all at the "
        "start, and below 0 % where more was bad than the target allows over the whole window.",
        spans=incident_spans(analysis),
        colors=colors,
        step=run.recording.window.step,
    )


def _series(
    run: Run, slos: Facts, objective: str | None, key: str
) -> tuple[dict[str, Floats], dict[str, charts.Style]]:
    """Return the lines of a chart: of each objective, or of one by region, and their looks."""
    if objective is None:
        found = {
            each["title"]: _course(run, each["overall"], key)
            for each in slos["objectives"].values()
        }
        looks = itertools.cycle(_LOOKS)
        return found, {name: charts.Style(next(looks), "-") for name in found}
    facts = slos["objectives"][objective]
    places = facts["regions"] or {ALL: facts["overall"]}
    found = {where: _course(run, place, key) for where, place in places.items()}
    return found, colours(run) if facts["regions"] else charts.palette(list(found))


def burn_alert_table(run: Run, slos: Facts, most: int = 12) -> pd.DataFrame:
    """Show when burn rate alerts would have fired in the window, and which have no verdict."""
    names = {each.id: each.name for each in ALERTS}
    rows: list[list[Any]] = []
    silent = set()
    for objective in slos["objectives"].values():
        for where, facts in _places(objective):
            for alert in facts["alerts"]:
                if alert["reason"]:
                    silent.add(f"{names[alert['id']]}: {alert['reason']}")
                rows += [
                    [
                        alert["severity"],
                        names[alert["id"]],
                        objective["title"],
                        where,
                        instant(fired["start"]),
                        "still firing" if fired["ongoing"] else fired["duration_seconds"],
                        fired["peak_burn_rate"],
                    ]
                    for fired in alert["fired"]
                ]
    rows.sort(key=lambda row: str(row[4]))  # by time
    return frame(
        [
            "Severity",
            "Burn rate above",
            "Objective",
            "Where",
            Column("Since", unit="time"),
            Column("For", align="right", unit="duration", name="seconds"),
            Column("Peak burn rate", align="right", digits=3),
        ],
        rows,
        caption="Burn rate alerts that would have fired",
        empty="None of the alerts that have a verdict would have fired.",
        note=f"No verdict: {'; '.join(sorted(silent))}." if silent else "",
        most=most,
        rest="The others are in slo.json.",
    )
