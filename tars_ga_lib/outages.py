"""When a region was down, for how long, and when it was back: worked out here, and told from here.

An *outage* is a stretch of steps in which a region's availability is below its target; up to two
steps back above the target do not end it. One that amounts to less than half of what the target
allows in the whole window is a *dip*: it is told, and is no outage in counts and means. Times are
known to the step. What was not seen is neither up nor down: an outage that runs into a gap has no
known end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tars_ga_lib.grammar import Limit
from tars_ga_lib.intervals import runs
from tars_ga_lib.kpis import Kpis
from tars_ga_lib.parameters import Job

Floats = NDArray[np.float64]

AVAILABILITY = "availability"
JOINED_STEPS = 2
"""Steps back above the target that do not yet end an outage."""
DIP = 0.5
"""Share of what the target allows in the window below which an outage is a dip."""


@dataclass(frozen=True)
class Outage:
    """Steps of a region below its availability target: [start, end) in epoch seconds.

    `lost` is the time of full outage that they amount to, in seconds, and `spent` that time as a
    share of what the target allows the region in the whole window (None without a target).
    """

    region: str | None
    start: int
    end: int
    lowest: float
    lost: float
    spent: float | None
    ended: Literal["recovered", "lasts", "unknown"]
    services: tuple[str, ...] = ()

    @property
    def dip(self) -> bool:
        """Whether it is too small to be counted."""
        return self.spent is not None and self.spent < DIP

    @property
    def tone(self) -> Literal["critical", "warning", "info"]:
        """Critical where it alone spends all that the target allows; info if it is a dip."""
        if self.spent is None:
            return "warning"
        return "info" if self.dip else "critical" if self.spent > 1 else "warning"


@dataclass(frozen=True)
class Recovery:
    """How outages ended; dips are not among them.

    `seconds` is the mean length of those that recovered, None if none did; `slowest` the longest.
    """

    recovered: int
    lasting: int
    unknown: int
    dips: int
    seconds: float | None
    slowest: Outage | None


def target(job: Job, kpi: str = AVAILABILITY) -> Limit | None:
    """Return the target of the criterion that rests on a KPI as a whole, else on its parts."""
    found = [c for c in job.criteria.values() if c.kpi == kpi]
    found.sort(key=lambda c: (c.scope != "overall", not c.mandatory))
    return found[0].target if found else None


def available(kpis: Kpis) -> dict[str | None, Floats]:
    """Return the availability at each step by region, shape (T,) each; of all in one without."""
    if AVAILABILITY not in kpis.job.kpis:
        return {}
    regions: Sequence[str | None] = kpis.regions(AVAILABILITY) or [None]
    return {region: kpis.series(AVAILABILITY, region) for region in regions}


def outages(kpis: Kpis) -> list[Outage]:
    """Return where a region fell below its target, dips included, in order of time."""
    limit = target(kpis.job)
    if limit is not None and limit.operator not in (">=", ">"):
        limit = None
    found = [
        _outage(kpis, region, values, first, last, limit)
        for region, values in available(kpis).items()
        for first, last in _low(values, limit)
    ]
    return sorted(found, key=lambda each: (each.start, each.region or ""))


def _low(values: Floats, limit: Limit | None) -> list[tuple[int, int]]:
    """Return the stretches below the limit, those joined that little lies between."""
    good = values >= 1 if limit is None else np.array([limit.holds(v) for v in values])
    joined: list[tuple[int, int]] = []
    for first, last in runs(~good & ~np.isnan(values)):
        between = values[joined[-1][1] : first] if joined else values
        if joined and len(between) <= JOINED_STEPS and not np.isnan(between).any():
            joined[-1] = joined[-1][0], last
        else:
            joined.append((first, last))
    return joined


def _outage(
    kpis: Kpis, region: str | None, values: Floats, first: int, last: int, limit: Limit | None
) -> Outage:
    span, part = kpis.span, values[first:last]
    lost = float((1 - part).sum()) * span.step
    allowed = None if limit is None else (1 - limit.value) * span.step * len(values)
    ended: Literal["recovered", "lasts", "unknown"] = "recovered"
    if last == len(values):
        ended = "lasts"
    elif np.isnan(values[last]):
        ended = "unknown"
    found = Outage(
        region,
        span.start + first * span.step,
        span.start + last * span.step,
        lowest=float(part.min()),
        lost=lost,
        spent=None if allowed is None else lost / allowed if allowed else np.inf,
        ended=ended,
    )
    if found.dip:
        return found
    return replace(found, services=_down(kpis, region, first, last, found.lowest))


def _down(
    kpis: Kpis, region: str | None, first: int, last: int, low: float
) -> tuple[str, ...]:  # fmt: skip
    """Services that were at or below the region's lowest step, the least available first."""
    lowest = {}
    for service in kpis.services(AVAILABILITY):
        part = kpis.series(AVAILABILITY, region, service)[first:last]
        if not np.isnan(part).all():
            lowest[service] = float(np.nanmin(part))
    worst = sorted(lowest, key=lambda name: lowest[name])
    return tuple(name for name in worst if lowest[name] <= low)


def recovery(found: Sequence[Outage]) -> Recovery:
    """Return how outages ended, and how long those took that recovered."""
    counted = [each for each in found if not each.dip]
    back = [each for each in counted if each.ended == "recovered"]
    lengths = [each.end - each.start for each in back]
    return Recovery(
        recovered=len(back),
        lasting=sum(each.ended == "lasts" for each in counted),
        unknown=sum(each.ended == "unknown" for each in counted),
        dips=len(found) - len(counted),
        seconds=sum(lengths) / len(lengths) if lengths else None,
        slowest=max(back, key=lambda each: each.end - each.start, default=None),
    )


def downtime(kpis: Kpis, region: str | None = None) -> float | None:
    """Return the seconds of full outage that the failed scrapes amount to; None without data.

    That is (1 - availability) x share of the scrapes that were seen x length of the window: half
    of the targets down for ten minutes are five minutes, and what was not seen is not down.
    """
    if AVAILABILITY not in kpis.job.kpis:
        return None
    figure = kpis.figure(AVAILABILITY, region)
    if figure.value is None:
        return None
    return (1 - figure.value) * figure.coverage * (kpis.span.stop - kpis.span.start)
