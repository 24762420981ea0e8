"""Sentences, and how they name what they speak of: times, places, lists, counts and distances.

Everything here is plain text; whoever shows it escapes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal
from typing import Literal

from tars_ga_lib.display import duration, instant, quantity, scale
from tars_ga_lib.wording import count as count

ALL = "all"


@dataclass(frozen=True)
class Sentence:
    """Something that is said, and what it rests on: each a `FILE#ITEM`."""

    text: str
    tone: Literal["pass", "warn", "fail", "no_data", "info"]
    rests_on: tuple[str, ...]


def place(region: str | None, service: str | None) -> str:
    """Write where a figure belongs."""
    return " / ".join(part for part in (region, service) if part) or ALL


def whereabouts(places: Sequence[tuple[str | None, str | None]]) -> str:
    """Name the place of several: themselves, what they share, or how many there are."""
    some = list(dict.fromkeys(places))
    if len(some) == 1:
        return place(*some[0])
    regions = list(dict.fromkeys(region for region, _ in some))
    services = list(dict.fromkeys(service for _, service in some if service))
    if len(regions) == 1:
        return regions[0] or (services[0] if len(services) == 1 else ALL)
    named = [region for region in regions if region]
    text = named[0] if len(named) == 1 else count(len(named), "region")
    if len(named) < len(regions):
        return f"{text} and overall"
    return f"{services[0]}, {text}" if len(services) == 1 and all(s for _, s in some) else text


def listing(names: Sequence[str], most: int = 3) -> str:
    """Write `a, b and c`, or `a, b, c and 2 more`; names with commas of their own by semicolons."""
    if len(names) > 1 and any("," in name for name in names):
        more = [f"{len(names) - most} more"] if len(names) > most else []
        return "; ".join([*names[:most], *more])
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def clock(time: int, window: tuple[int, int]) -> str:
    """Write a time in UTC without its date, where the window has but one."""
    moment, first, last = instant(time), instant(window[0]), instant(window[1] - 1)
    assert moment is not None
    assert first is not None
    assert last is not None
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


def lasted(seconds: float) -> str:
    """Write a length of time."""
    return duration(seconds)


def change(value: float | None, measure: str, unit: str, *, signed: bool = True) -> str:
    """Write a drift in the measure of its rule."""
    if measure == "exact":
        return "differs" if value else "same"
    if measure == "relative":
        return quantity(value, "ratio", digits=3, signed=signed)
    return quantity(value, "pp" if unit == "ratio" else unit, digits=3, signed=signed)
