"""What report fields are computed from: decision, objectives, outages, cost, KPIs, drift."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tars_ga_lib import outages
from tars_ga_lib.display import duration, quantity, when
from tars_ga_lib.fields.values import (
    BASELINE,
    CERTIFICATION,
    DRIFT,
    SLO,
    SUMMARY,
    Found,
    Known,
    NoDataError,
    block,
    change_text,
    right,
)
from tars_ga_lib.grammar import format_duration, parse_time
from tars_ga_lib.parameters import MEASURED
from tars_ga_lib.tables import Column, frame
from tars_ga_lib.wording import criteria_rows, why

RIGHT = "right"
VALIDATION, SESSIONS = MEASURED["validation"], MEASURED["websocket"]
PACKAGE = "ga_certification_package.tar.gz"

Facts = Mapping[str, Any]


# --- the decision and the service levels ----------------------------------------------------------


def window_length(known: Known) -> Found:
    """Return the length of the window in seconds."""
    window = known.document(SUMMARY)["window"]
    return Found(float(parse_time(window["end"]) - parse_time(window["start"])))


def health(known: Known) -> Found:
    """Say how well the release stands by its criteria: the worst verdict, and how many have it."""
    criteria = known.document(CERTIFICATION)["criteria"]
    words = {"fail": "unhealthy", "no_data": "unknown", "warn": "degraded", "pass": "healthy"}
    said = {"fail": "fail", "no_data": "have no data", "warn": "pass with a warning"}
    for verdict, word in words.items():
        count = sum(outcome["verdict"] == verdict for outcome in criteria)
        if count:
            text = f"{count} of {len(criteria)} criteria {said.get(verdict, 'pass')}"
            return Found(word, f"{word}: {text}")
    raise NoDataError("no criterion was evaluated", CERTIFICATION)


def final_status(known: Known) -> Found:
    """Write the decision with its reason."""
    facts = known.document(CERTIFICATION)
    text = f"{facts['decision']}: {why(facts)}"
    return Found(facts["decision"], text, note=_simulated(facts))


def decision(known: Known) -> Found:
    """Write the decision; that of simulated data says so."""
    facts = known.document(CERTIFICATION)
    return Found(facts["decision"], note=_simulated(facts))


def _simulated(facts: Facts) -> str:
    return "simulated data" if facts["simulated"] else ""


def certification_criteria(known: Known) -> Found:
    """Show every criterion with its verdict."""
    outcomes = known.document(CERTIFICATION)["criteria"]
    rows = [
        [
            row.name,
            "waived" if row.waived else row.verdict,
            row.value,
            row.target,
            row.reason or outcome["where"],
        ]
        for outcome, row in zip(outcomes, criteria_rows(outcomes), strict=True)
    ]
    columns: list[Column | str] = [
        "Criterion",
        Column("Verdict", "verdict"),
        *right("Value", "Target"),
        "Note",
    ]
    return block(frame(columns, rows))


def _objectives(known: Known) -> dict[str, Any]:
    """Return the objectives by name, of which at least one has a value."""
    objectives: dict[str, Any] = known.document(SLO)["objectives"]
    if not objectives:
        raise NoDataError("no objectives were given to this run", SLO)
    if all(each["overall"]["value"] is None for each in objectives.values()):
        raise NoDataError("no objective has data", SLO)
    return objectives


def slo_status(known: Known) -> Found:
    """Count the objectives that are met."""
    total = len(_objectives(known))
    counts = known.document(SLO)["counts"]
    word = "missed" if counts["fail"] else "unknown" if counts["no_data"] else "met"
    more = f", {counts['no_data']} without data" if counts["no_data"] else ""
    return Found(word, f"{word}: {counts['pass']} of {total} objectives met{more}")


def error_budget(word: str) -> Callable[[Known], Found]:
    """Return the budget that is left of the objective about something, of several the worst."""

    def find(known: Known) -> Found:
        objectives = known.document(SLO)["objectives"]
        about = {name: each for name, each in objectives.items() if word in name.lower()}
        if not about:
            raise NoDataError(f"no objective of this run is about {word}", SLO)
        left = {name: each["overall"]["budget"]["share_left"] for name, each in about.items()}
        unknown = [name for name, share in left.items() if share is None]
        if unknown:
            raise NoDataError(about[unknown[0]]["overall"]["reason"] or "nothing was seen", SLO)
        worst = min(left, key=lambda name: left[name])
        place = about[worst]["overall"]
        return Found(
            left[worst],
            f"{quantity(left[worst], 'ratio')} left: {place['budget']['words']}",
            f"{SLO}, objectives.{worst}.overall.budget",
            place["coverage"],
        )

    return find


def slo_table(known: Known) -> Found:
    """Show every objective over the window."""
    rows = [
        [
            each["title"],
            each["overall"]["verdict"],
            quantity(each["overall"]["value"], "ratio", limit=each["target"]),
            quantity(each["target"], "ratio"),
            each["overall"]["budget"]["words"],
        ]
        for each in _objectives(known).values()
    ]
    columns: list[Column | str] = [
        "Objective",
        Column("Verdict", "verdict"),
        *right("Value", "Target"),
        "Budget",
    ]
    return block(frame(columns, rows))


def slo_violations(known: Known) -> Found:
    """Show when an objective's target was missed, the costliest first."""
    objectives = _objectives(known)
    unknown = [o["title"] for o in objectives.values() if o["overall"]["value"] is None]
    found = [
        (each["title"], violation)
        for each in objectives.values()
        for violation in each["overall"]["violations"]
    ]
    found.sort(key=lambda pair: -(pair[1]["minutes"] or 0.0))
    rows = [
        [
            title,
            when(violation["start"]),
            duration(violation["duration_seconds"]),
            quantity(violation["share_of_budget"], "ratio"),
        ]
        for title, violation in found
    ]
    columns: list[Column | str] = ["Objective", "From", *right("For", "Of the budget")]
    note = f"No data: {', '.join(unknown)}." if unknown else ""
    table = frame(
        columns, rows, empty="No objective was missed in any step.", most=12, note=note,
        rest=f"The others are in {SLO}.",
    )  # fmt: skip
    return block(table)


def downtime(known: Known) -> Found:
    """Return the seconds for which all targets together were down."""
    facts = known.figure("availability")
    return Found(outages.downtime(known.run.kpis), coverage=facts["coverage"])


def recovery_time(known: Known) -> Found:
    """Return the mean length of the outages that ended in the window."""
    coverage = known.figure("availability")["coverage"]
    ends = outages.recovery(outages.outages(known.run.kpis))
    notes = []
    if ends.recovered:
        notes.append(f"{_counted(ends.recovered, 'outage')}, known to the step")
    if ends.lasting:
        notes.append(f"{ends.lasting} lasted to the end of the window")
    if ends.unknown:
        notes.append(f"{ends.unknown} ran into missing data")
    if ends.dips:
        notes.append(f"{_counted(ends.dips, 'lesser dip')} not counted")
    note = "; ".join(notes)
    if ends.seconds is not None:
        return Found(ends.seconds, coverage=coverage, note=note)
    if ends.lasting or ends.unknown:
        raise NoDataError(f"nothing recovered: {note}")
    return Found(None, "no outage was seen", coverage=coverage, note=note)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def last_day_requests(known: Known) -> Found:
    """Return the requests of the last 24 hours of the window."""
    known.figure("requests")
    span = known.run.recording.window
    if span.stop - span.start < 86400 or 86400 % span.step:
        length = format_duration(span.stop - span.start)
        raise NoDataError(f"the window holds {length}, not the whole 24h", "KPI requests")
    steps = 86400 // span.step
    last = known.run.kpis.matrix("requests")[:, -steps:]
    seen = ~np.isnan(last)
    if not seen.any():
        raise NoDataError("no samples were seen in its last 24 hours", "KPI requests")
    return Found(float(np.nansum(last)), coverage=float(seen.mean()))


def cost_of_requests(known: Known) -> Found:
    """Return the estimated cost of a million requests."""
    cost, rate = known.document(SUMMARY)["cost"], known.figure("request_rate")
    if cost["usd_per_hour"] is None:
        raise NoDataError(cost["reason"], f"{SUMMARY}, cost")
    if not rate["value"]:
        raise NoDataError("there was no request", "KPI request_rate")
    value = cost["usd_per_hour"] / (rate["value"] * 3600) * 1e6
    coverage = min(cost["coverage"], rate["coverage"])
    return Found(value, coverage=coverage, note=f"an estimate that {cost['estimate']}")


def requests_per(name: str, unit: float) -> Callable[[Known], Found]:
    """Return the requests per second for each so many of a KPI's units."""

    def find(known: Known) -> Found:
        rate, used = known.figure("request_rate"), known.figure(name)
        if not used["value"]:
            raise NoDataError(f"{known.title(name)} is zero", f"KPI {name}")
        value = rate["value"] / (used["value"] / unit)
        return Found(value, coverage=min(rate["coverage"], used["coverage"]))

    return find


def against_baseline(name: str) -> Callable[[Known], Found]:
    """Return the relative change of a KPI from the baseline."""

    def find(known: Known) -> Found:
        now, before = known.figure(name), known.figure(name, BASELINE)
        if not before["value"]:
            raise NoDataError("its baseline is zero", f"KPI {name}")
        change = (now["value"] - before["value"]) / abs(before["value"])
        sides = [quantity(each["value"], "") for each in (before, now)]
        return Found(
            change,
            f"{quantity(change, 'ratio', signed=True, digits=3)} ({sides[0]} → {sides[1]})",
            coverage=min(now["coverage"], before["coverage"]),
        )

    return find


def nash_status(known: Known) -> Found:
    """Say whether the agents' policy was at an equilibrium, at the end and over the window."""
    facts = known.figure("nash_convergence")
    series = known.run.kpis.series("nash_convergence")
    known_steps = series[~np.isnan(series)]
    if not len(known_steps):
        raise NoDataError("no step of it has a figure", "KPI nash_convergence")
    word = "converged" if known_steps[-1] == 1 else "not converged"
    text = f"{word} at the end; converged {quantity(facts['value'], 'ratio')} of the time"
    return Found(word, text, coverage=facts["coverage"])


def alert_count(severity: str) -> Callable[[Known], Found]:
    """Return how many alerts of a severity fired."""

    def find(known: Known) -> Found:
        facts = known.document(SUMMARY)["alerts"]
        if facts["reason"] or facts["counts"][severity] is None:
            raise NoDataError(facts["reason"] or "nothing is known of alerts")
        return Found(
            facts["counts"][severity],
            source=f"{SUMMARY}, alerts.counts.{severity}",
            coverage=facts["steps_with_evaluations"],
        )

    return find


# --- tables of KPIs -------------------------------------------------------------------------------


def kpi_rows(names: Sequence[str], by: str) -> Callable[[Known], Found]:
    """Show KPIs for each region or service, the worst by the first KPI on top."""

    def find(known: Known) -> Found:
        document = known.document(SUMMARY)["kpis"]
        there = [name for name in names if name in document and by in document[name]]
        if not there:
            raise NoDataError(f"the catalogue has no KPI '{names[0]}' by {by[:-1]}", SUMMARY)
        if all(document[name]["overall"]["value"] is None for name in there):
            known.figure(there[0])
        first = document[there[0]]

        def badness(place: str) -> float:
            value = first[by][place]["value"]
            if value is None:
                return -np.inf
            return float(value if first["better"] == "higher" else -value)

        rows = [
            [place, *(_level(document[name], document[name][by][place]) for name in there)]
            for place in sorted(first[by], key=badness)
        ]
        titles = [document[name]["title"] for name in there]
        table = frame(
            [by[:-1].title(), *right(*titles)], rows, most=16, rest=f"The others are in {SUMMARY}."
        )
        coverage = min(document[name]["overall"]["coverage"] for name in there)
        return block(table, source=f"{SUMMARY}, {by} of {', '.join(there)}", coverage=coverage)

    return find


def _level(kpi: Facts, figure: Facts) -> str:
    text = quantity(figure["value"], kpi["unit"])
    return f"> {text}" if figure.get("beyond_highest_bucket") else text


def window_and_baseline(names: Sequence[str]) -> Callable[[Known], Found]:
    """Show KPIs over the baseline and the window, and their change."""

    def find(known: Known) -> Found:
        now = known.document(SUMMARY)["kpis"]
        intervals = known.document(BASELINE)["intervals"]
        if not intervals:
            raise NoDataError("there is no baseline", BASELINE)
        before = intervals[0]["kpis"]
        there = [n for n in names if n in now and now[n]["overall"]["value"] is not None]
        if not there:
            known.figure(names[0])
        rows = []
        for name in there:
            a, b = before[name]["overall"], now[name]["overall"]
            highest = now[name].get("highest_step")
            rows.append(
                [
                    now[name]["title"],
                    _level(before[name], a),
                    _level(now[name], b),
                    change_text(a["value"], b["value"], now[name]["unit"]),
                    quantity(highest["value"], now[name]["unit"]) if highest else None,
                ]
            )
        columns: list[Column | str] = [
            "KPI",
            *right("Baseline", "Window", "Change", "Highest step"),
        ]
        coverage = min(now[name]["overall"]["coverage"] for name in there)
        return block(frame(columns, rows), coverage=coverage)

    return find


# --- drift ----------------------------------------------------------------------------------------


def drift_count(*keys: str) -> Callable[[Known], Found]:
    """Return a count of the drift analysis, with what had no data."""

    def find(known: Known) -> Found:
        counts = known.document(DRIFT)["counts"]
        value: Any = counts
        for key in keys:
            value = value[key]
        asked, missing = counts["evaluations"], counts["missing"]
        if not asked or missing == asked:
            raise NoDataError("no drift evaluation had data", DRIFT)
        coverage = 1 - missing / asked
        return Found(value, source=f"{DRIFT}, counts.{'.'.join(keys)}", coverage=coverage)

    return find


def drift_severities(known: Known) -> Found:
    """Show the verdicts of the drift analysis by category."""
    counts = known.document(DRIFT)["counts"]
    verdicts = ("fail", "warn", "pass", "no_data")
    rows = [
        [category, *(str(found[verdict]) for verdict in verdicts)]
        for category, found in counts["by_category"].items()
    ]
    columns: list[Column | str] = [
        "Category",
        *right("Critical", "Warning", "Pass", "No data"),
    ]
    return block(frame(columns, rows, empty="No drift rule was evaluated."))


def drift_details(known: Known) -> Found:
    """Show the worst findings."""
    document = known.document(DRIFT)
    if document["counts"]["missing"] == document["counts"]["evaluations"]:
        raise NoDataError("no drift evaluation had data", DRIFT)
    rows = [
        [
            finding["name"],
            finding["verdict"],
            quantity(finding["baseline"], finding["unit"]),
            quantity(finding["current"], finding["unit"]),
            _drift_text(finding),
            when(finding["began"]) if finding["began"] else "",
        ]
        for finding in document["worst"]
    ]
    columns: list[Column | str] = [
        "Finding", Column("Verdict", "verdict"), *right("Baseline", "Window", "Drift"), "Began",
    ]  # fmt: skip
    more = document["counts"]["findings"] - len(rows)
    note = f"{more} more findings are in {DRIFT}." if more > 0 else ""
    return block(frame(columns, rows, empty="No drift was found.", note=note))


def _drift_text(finding: Facts) -> str:
    if finding["measure"] == "relative":
        return quantity(finding["drift"], "ratio", digits=3, signed=True)
    unit = "pp" if finding["unit"] == "ratio" else finding["unit"]
    return quantity(finding["drift"], unit, digits=3, signed=True)


AGENT_KPIS = (
    "hypersync_operations",
    "hypersync_success_rate",
    "hot_reload_p95",
    "automl_runs",
    "optuna_trials",
    "agent_reward",
    "nash_convergence",
    "agent_conflicts",
    "conflict_resolutions",
)
"""KPIs of the table of the agents."""
