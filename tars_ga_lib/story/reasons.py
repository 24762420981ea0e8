"""Why the decision is what it is, criterion by criterion, and what would have to change."""

from __future__ import annotations

from dataclasses import dataclass

from tars_ga_lib.catalogues import Criterion
from tars_ga_lib.display import quantity
from tars_ga_lib.story.case import Case, Facts
from tars_ga_lib.story.phrases import ALL, distance, listing, span
from tars_ga_lib.wording import limit_text, value_text

BLAMED = 0.5
"""Share of a ratio's bad events from which on the incident that they fell into is named."""


@dataclass(frozen=True)
class Reason:
    """One criterion's part in the decision.

    `decides` says that the decision rests on it. `change` is what would have to change for it to
    pass, or how to make it known; empty where it passes.
    """

    criterion: str
    title: str
    verdict: str
    mandatory: bool
    decides: bool
    text: str
    change: str
    rests_on: tuple[str, ...]


def justification(case: Case) -> list[Reason]:
    """Return the reasons: those that decide first, each part by weight, the optional ones last."""
    found = [_reason(case, outcome) for outcome in case.certification["criteria"]]
    weights = {o["name"]: o["weight"] for o in case.certification["criteria"]}
    return sorted(found, key=lambda r: (not r.decides, not r.mandatory, -weights[r.criterion]))


def decides(case: Case, outcome: Facts) -> bool:
    """Whether the decision rests on a criterion."""
    if not outcome["mandatory"]:
        return False
    decision, verdict = case.certification["decision"], outcome["verdict"]
    if decision == "NOT CERTIFIED":
        return bool(verdict == "fail" and not outcome["waiver"])
    if decision == "INCONCLUSIVE":
        return bool(verdict == "no_data")
    if decision == "CERTIFIED WITH WAIVERS":
        return bool(outcome["waiver"])
    return bool(verdict == "warn")


def _reason(case: Case, outcome: Facts) -> Reason:
    criterion = case.run.job.criteria[outcome["name"]]
    text, change = _text(case, criterion, outcome)
    rests_on = [f"certification_metadata.json#criteria/{outcome['name']}"]
    if criterion.drift and case.analysis["stability"]["finding"]:
        rests_on.append(f"drift_analysis.json#{case.analysis['stability']['finding']}")
    if criterion.kpi and outcome["verdict"] == "fail" and (blame := blamed_text(case, criterion)):
        text += " " + blame[0]
        rests_on.append(blame[1])
    return Reason(
        outcome["name"],
        outcome["title"],
        "waived" if outcome["waiver"] else outcome["verdict"],
        outcome["mandatory"],
        decides(case, outcome),
        text,
        change,
        tuple(rests_on),
    )


def _text(case: Case, criterion: Criterion, outcome: Facts) -> tuple[str, str]:
    """Return what is the case, and what would have to change."""
    title, verdict = outcome["title"], outcome["verdict"]
    if verdict == "no_data":
        return f"{title} is not known: {outcome['reason']}.", how_to_know(case, outcome)
    value, unit = value_text(outcome), outcome["unit"]
    target = limit_text(outcome["target"], unit)
    where = f" ({outcome['where']})" if outcome["where"] and not _of_the_file(criterion) else ""
    if verdict == "fail":
        text = f"{title} fails: {value}, target {target}{where}."
        if outcome["reason"]:
            text += f" It may be worse: {outcome['reason']}."
        if waiver := outcome["waiver"]:
            until = waiver["until"]
            return f"{text} Waived by {waiver['who']} until {until}: {waiver['why']}", ""
        return text, needed(case, outcome)
    if verdict == "warn":
        if outcome["reason"]:
            reason = outcome["reason"]
            return f"{title} passes with a doubt: {value}, target {target}, but {reason}.", ""
        warning = limit_text(outcome["warning"], unit)
        return (
            f"{title} passes with a warning: {value}, target {target}, warning {warning}{where}.",
            "",
        )
    return f"{title} passes: {value}, target {target}{where}.", ""


def _of_the_file(criterion: Criterion) -> bool:
    return criterion.evidence is not None and not str(criterion.evidence).startswith("incidents")


def needed(case: Case, outcome: Facts) -> str:
    """Say what would have to change for a failed criterion to pass: the distance to its target."""
    criterion = case.run.job.criteria[outcome["name"]]
    operator, _, number = outcome["target"].partition(" ")
    value, target, unit = outcome["value"], float(number), outcome["unit"]
    text = limit_text(outcome["target"], unit)
    if criterion.evidence == "rollback.successful":
        version = case.run.job.parameters.release.version
        return f"It takes a rollback test of {version} that succeeds."
    if operator == "==" or unit == "bool":
        return f"It must be {text}."
    way = "rise" if operator in (">=", ">") else "fall"
    if value == target:
        return f"It must {way}, by however little."
    text = f"It must {way} by at least {distance(value, target, unit)}."
    if criterion.drift and len(beyond := beyond_target(case, criterion)) > 1:
        others = listing([e["name"] for e in beyond[1:]])
        text += f" So must others that are beyond the target: {others}."
    return text


def beyond_target(case: Case, criterion: Criterion) -> list[Facts]:
    """Return the drifts that stand between the drift criterion and its target, the worst first."""
    limit, alpha = criterion.limit, case.analysis["significance"]
    signs = {"up": 1.0, "down": -1.0}
    found = []
    for e in case.analysis["evaluations"]:
        if e["measure"] != "relative" or e["verdict"] == "no_data" or e["adjusted_p"] is None:
            continue
        sign = signs.get(e["adverse"], 1.0 if e["drift"] >= 0 else -1.0)
        if e["adjusted_p"] < alpha and not limit.holds(sign * e["drift"]):
            found.append((sign * e["drift"], e))
    return [e for _, e in sorted(found, key=lambda pair: (-pair[0], pair[1]["id"]))]


def blamed_text(case: Case, criterion: Criterion) -> tuple[str, str] | None:
    """Say which incident most of a ratio's bad events fell into, and where that is found."""
    blamed = case.blamed(str(criterion.kpi)) if criterion.scope == "overall" else None
    if blamed is None or blamed[1] < BLAMED:
        return None
    incident, share = blamed
    what = "errors" if "error" in str(criterion.kpi) else "failures"
    when = span(incident.start, incident.end, case.window)
    text = f"{quantity(share, 'ratio', digits=3)} of its {what} fell into the incident in "
    return f"{text}{incident.region or ALL}, {when}.", incident.id


def how_to_know(case: Case, outcome: Facts) -> str:
    """Say how what is not known can be made known."""
    criterion = case.run.job.criteria[outcome["name"]]
    version = case.run.job.parameters.release.version
    if criterion.kpi:
        if outcome["value"] is None:
            return f"Make the query of the KPI '{criterion.kpi}' answer, and collect again."
        if "highest bucket" in outcome["reason"]:
            return f"Give the histogram of the KPI '{criterion.kpi}' higher buckets."
        if "warned" in outcome["reason"]:
            return "Mend what the server warned about, and collect again."
        return "Find why samples are missing; collect again, or certify a window that has them."
    if criterion.drift:
        return "Give the drift rules a baseline and a window with data."
    if criterion.validation:
        return "Run 'tars-ga validate' where the whole system can be reached, and certify again."
    if criterion.websocket:
        return "Run 'tars-ga websocket' for the whole time that is asked for, and certify again."
    kind = str(criterion.evidence).partition(".")[0]
    of = "covers the whole window" if kind in ("incidents", "customer") else f"is about {version}"
    return f"Give the run a file for 'evidence: {kind}' that {of}."
