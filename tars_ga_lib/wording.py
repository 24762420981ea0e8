"""How a criterion's figures read: in the notebooks, in the terminal, in the e-mail.

It stands apart from `views`, whose charts take longer to import than all this takes to write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tars_ga_lib.display import quantity

Facts = Mapping[str, Any]


def count(number: int, one: str, many: str = "") -> str:
    """Write a number with its noun: `1 alert`, `2 alerts`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def limit_text(text: str, unit: str) -> str:
    """Write a criterion's limit in the unit that its value is read in: `≥ 99.9 %`."""
    operator, _, number = text.partition(" ")
    if unit == "bool":
        return "yes" if float(number) else "no"
    sign = {">=": "≥\xa0", "<=": "≤\xa0", "==": ""}.get(operator, f"{operator}\xa0")
    return f"{sign}{quantity(float(number), unit)}"


def value_text(outcome: Facts) -> str:
    """Write a criterion's value, never rounded across its limit."""
    value, unit = outcome["value"], outcome["unit"]
    if value is None:
        return "NO DATA"
    if unit == "bool":
        return "yes" if value else "no"
    return quantity(value, unit, limit=float(outcome["target"].split()[1]))


@dataclass(frozen=True)
class CriterionRow:
    """A criterion as every table of criteria tells it."""

    title: str
    verdict: str
    waived: bool
    mandatory: bool
    value: str
    target: str
    reason: str

    @property
    def name(self) -> str:
        """Its title, and whether it is optional."""
        return self.title + ("" if self.mandatory else " (optional)")

    @property
    def gravity(self) -> tuple[bool, bool, int]:
        """Where it stands among the gravest: what decides first."""
        rank = ("fail", "no_data", "warn", "pass").index(self.verdict)
        return not self.mandatory, self.waived, rank


def criteria_rows(outcomes: Sequence[Facts]) -> list[CriterionRow]:
    """Write criteria, in their own order."""
    return [
        CriterionRow(
            title=outcome["title"],
            verdict=outcome["verdict"],
            waived=bool(outcome.get("waiver")),
            mandatory=outcome["mandatory"],
            value=value_text(outcome),
            target=limit_text(outcome["target"], outcome["unit"]),
            reason=outcome.get("reason", ""),
        )
        for outcome in outcomes
    ]


def why(certification: Facts, most: int = 3) -> str:
    """Write why the decision is what it is: the deciding criteria, each with value and target."""
    mandatory = [o for o in certification["criteria"] if o["mandatory"]]
    verdicts = {
        "NOT CERTIFIED": "fail",
        "CERTIFIED WITH WAIVERS": "fail",
        "INCONCLUSIVE": "no_data",
    }
    wanted = verdicts.get(certification["decision"], "warn")
    deciding = [
        o
        for o in mandatory
        if o["verdict"] == wanted
        and (wanted != "fail" or bool(o["waiver"]) == ("WAIVERS" in certification["decision"]))
    ]
    if not deciding:
        return str(certification["because"])
    deciding.sort(key=lambda o: (o["name"] != certification["binding_criterion"], -o["weight"]))
    parts = _unknown(deciding) if wanted == "no_data" else [_why_one(o) for o in deciding]
    if len(parts) > most:
        parts = [*parts[:most], f"{len(parts) - most} more"]
    start = "All mandatory criteria pass, with a warning: " if wanted == "warn" else ""
    return start + "; ".join(parts) + "."


def _unknown(outcomes: Sequence[Facts]) -> list[str]:
    """Write which criteria have no data, those with one reason together."""
    titles: dict[str, list[str]] = {}
    for outcome in outcomes:
        titles.setdefault(outcome["reason"], []).append(outcome["title"])
    parts = []
    for reason, some in titles.items():
        names = some[0] if len(some) == 1 else f"{', '.join(some[:-1])} and {some[-1]}"
        parts.append(f"{names} {'has' if len(some) == 1 else 'have'} no data: {reason}")
    return parts


def _why_one(outcome: Facts) -> str:
    text = f"{outcome['title']} is {value_text(outcome)}"
    if outcome["verdict"] == "warn":
        if outcome["reason"]:
            return f"{text}, but {outcome['reason']}"
        return f"{text}, with a warning limit of {limit_text(outcome['warning'], outcome['unit'])}"
    waived = f" (waived until {outcome['waiver']['until']})" if outcome["waiver"] else ""
    target = limit_text(outcome["target"], outcome["unit"])
    return f"{text}, and its target is {target}{waived}"
