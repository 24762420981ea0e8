"""Service level objectives: whether they are met, what is left of their budgets, what burned it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tars_ga_lib import charts
from tars_ga_lib.charts import Chart
from tars_ga_lib.display import duration, instant, quantity
from tars_ga_lib.run import Run
from tars_ga_lib.slo import ALERTS
from tars_ga_lib.tables import Column, frame
from tars_ga_lib.views.common import ALL, Facts, Floats, colours, incident_spans

if TYPE_CHECKING:
    import pandas as pd


def _places(objective: Facts, *, drawn: bool = False) -> Iterator[tuple[str, Facts]]:
    """Yield the whole, and each region; where lines are drawn the whole only if it is all."""
    if not drawn or not objective["regions"]:
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
    """Draw how much of the window's error budgets is used, a panel an objective, by region."""
    chosen = {k: o for k, o in slos["objectives"].items() if objective in (None, k)}
    series = {
        o["title"]: {
            where: 1 - _course(run, facts, "budget_left") for where, facts in _places(o, drawn=True)
        }
        for o in chosen.values()
    }
    spent = [
        (share, f"{o['title']}{'' if where == ALL else f' in {where}'}")
        for o in chosen.values()
        for where, facts in _places(o, drawn=True)
        if (share := facts["budget"]["share_spent"]) is not None
    ]
    title = "Error budget used"
    if spent:
        share, name = max(spent)
        title = (
            f"The most used error budget is that of {name}: {quantity(share, 'ratio', digits=3)}"
        )
    return charts.lines(
        run.recording.window.times,
        series,
        title=title,
        unit="ratio",
        name=f"error-budget-{objective}" if objective else "error-budget",
        caption="Share of the window's error budget that was used by the end of each step; beyond "
        "100 % more was bad than the target allows over the whole window.",
        limits=[charts.Limit(1.0, "all of the budget", "fail")],
        spans=incident_spans(analysis),
        colors=colours(run),
        step=run.recording.window.step,
        worse="up",
    )


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
