"""How figures, places, times and criteria read: in notebooks, in the terminal, in the e-mail.

Everything here is plain text; whoever shows it escapes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal
from typing import Any

from tars_ga_lib.display import instant, quantity, scale

Facts = Mapping[str, Any]
Place = tuple[str | None, str | None]
"""A region and a service; None stands for all."""

ALL = "all"


# --- names, places and times ----------------------------------------------------------------------


def count(number: int, one: str, many: str = "") -> str:
    """Write a number with its noun: `1 alert`, `2 alerts`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def listing(names: Sequence[str], most: int = 3) -> str:
    """Write `a, b and c`, or `a, b, c and 2 more`; names with commas of their own by semicolons."""
    if len(names) > 1 and any("," in name for name in names):
        more = [f"{len(names) - most} more"] if len(names) > most else []
        return "; ".join([*names[:most], *more])
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def place(region: str | None, service: str | None) -> str:
    """Write where a figure belongs."""
    return " / ".join(part for part in (region, service) if part) or ALL


def whereabouts(places: Sequence[Place], services: int = 0) -> str:
    """Write the place of several: `east, all 8 services`, of `services` that there are."""
    some = list(dict.fromkeys(places))
    if len(some) == 1:
        return place(*some[0])
    regions = list(dict.fromkeys(region for region, _ in some))
    named = list(dict.fromkeys(service for _, service in some if service))
    many = f"{'all ' if len(named) == services else ''}{len(named)} services"
    if len(regions) == 1:
        if len(named) < len(some):  # the region itself is among them
            return regions[0] or ALL
        return f"{regions[0]}, {many}" if regions[0] else many
    areas = [region for region in regions if region]
    text = areas[0] if len(areas) == 1 else count(len(areas), "region")
    if len(areas) < len(regions):
        return f"{text} and overall"
    return f"{named[0]}, {text}" if len(named) == 1 and all(s for _, s in some) else text


def clock(time: int, window: tuple[int, int]) -> str:
    """Write a time in UTC without its date, where the window has but one."""
    moment, first, last = (instant(t) for t in (time, window[0], window[1] - 1))
    assert moment
    assert first
    assert last
    seconds = f":{moment:%S}" if moment.second else ""
    if moment.date() == first.date() == last.date():
        return f"{moment:%H:%M}{seconds}"
    return f"{moment:%Y-%m-%d %H:%M}{seconds}"


def span(start: int, end: int | None, window: tuple[int, int]) -> str:
    """Write an interval of time in UTC, as short as it is clear."""
    first = clock(start, window)
    if end is None or end == start:
        return f"{first} UTC"
    last = clock(end, window)
    if len(first) == 5 and end == window[1] and last.endswith(" 00:00"):
        last = "24:00"
    return f"{first}–{last} UTC" if len(first) == len(last) == 5 else f"{first} to {last} UTC"


# --- figures --------------------------------------------------------------------------------------


def change(value: float | None, measure: str, unit: str) -> str:
    """Write a drift in the measure of its rule."""
    if measure == "exact":
        return "differs" if value else "same"
    unit = "ratio" if measure == "relative" else "pp" if unit == "ratio" else unit
    return quantity(value, unit, digits=3, signed=True)


def distance(value: float, target: float, unit: str) -> str:
    """Write how far a value is from its target, rounded up: moving by it is enough."""
    unit = "pp" if unit == "ratio" else unit
    apart = abs(Decimal(repr(float(value))) - Decimal(repr(float(target))))
    if not apart:
        return quantity(0.0, unit)
    factor = Decimal(repr(scale(float(apart), unit)[0]))
    number = apart / factor
    up = number.quantize(Decimal(1).scaleb(number.adjusted() - 3), ROUND_UP)
    return quantity(float(up * factor), unit)


# --- criteria -------------------------------------------------------------------------------------


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


def decides(certification: Facts, outcome: Facts) -> bool:
    """Whether the decision rests on a criterion, given `certification_metadata.json`."""
    if not outcome["mandatory"]:
        return False
    verdict: str = outcome["verdict"]
    waived = bool(outcome["waiver"])
    rests: dict[str, bool] = {
        "NOT CERTIFIED": verdict == "fail" and not waived,
        "INCONCLUSIVE": verdict == "no_data",
        "CERTIFIED WITH WAIVERS": verdict == "fail" and waived,
    }
    return rests.get(certification["decision"], verdict == "warn")


def why(certification: Facts, most: int = 3) -> str:
    """Write why the decision is what it is: the deciding criteria, each with value and target."""
    deciding = [o for o in certification["criteria"] if decides(certification, o)]
    if not deciding:
        return str(certification["because"])
    deciding.sort(key=lambda o: (o["name"] != certification["binding_criterion"], -o["weight"]))
    parts = list(dict.fromkeys(_why_one(o, deciding) for o in deciding))
    if len(parts) > most:
        parts = [*parts[:most], f"{len(parts) - most} more"]
    passes = certification["decision"] == "CERTIFIED"
    start = "All mandatory criteria pass, with a warning: " if passes else ""
    return start + "; ".join(parts) + "."


def _why_one(outcome: Facts, deciding: Sequence[Facts]) -> str:
    """Write one reason; all the criteria that have no data for the same reason together."""
    reason, unit = outcome["reason"], outcome["unit"]
    if outcome["verdict"] == "no_data":
        titles = [o["title"] for o in deciding if o["reason"] == reason]
        verb = "has" if len(titles) == 1 else "have"
        return f"{listing(titles, len(titles))} {verb} no data: {reason}"
    text = f"{outcome['title']} is {value_text(outcome)}"
    if outcome["verdict"] == "warn":
        warning = outcome["warning"]
        limit = reason or f"with a warning limit of {limit_text(warning, unit)}"
        return f"{text}, {'but ' if reason else ''}{limit}"
    waived = f" (waived until {outcome['waiver']['until']})" if outcome["waiver"] else ""
    return f"{text}, and its target is {limit_text(outcome['target'], unit)}{waived}"
