"""What was scraped of what should have been: every figure's coverage comes from here.

A step that has a sample is not a step that was seen: of twenty scrapes, nineteen may be missing.
How many scrapes to expect of a region and service follows from how many targets there were and
from how far apart scrapes are. Targets are counted at both ends of a step, and the smaller number
counts, so that a replaced replica is expected once. Where none is left, as many are expected as
there usually were: whoever vanished is missing, not gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tars_ga_lib.parameters import Job, Parameters
from tars_ga_lib.queries import INTERVAL
from tars_ga_lib.recording import SampleSet, Span

Floats = NDArray[np.float64]

_MOST = 1e9
"""Scrapes of a step, or seconds between two, beyond which nobody counts."""

TOLERATED = 0.001
"""Share of the scrapes that may be missing one by one, each between two that were seen.

So much is lost on any day without an outage; what is beyond it counts against the release.
"""


def place_of(
    labels: Mapping[str, str],
    by: Mapping[str, str],
    regions: Sequence[str],
    services: Sequence[str],
) -> tuple[int, int] | None:
    """Position of a series' region and service; None if it was not asked for.

    A dimension that the query is not told by has the position 0.
    """
    place = []
    for dimension, members in (("region", regions), ("service", services)):
        name = labels.get(by[dimension]) if dimension in by else None
        if dimension in by and name not in members:
            return None
        place.append(members.index(name) if name is not None else 0)
    return place[0], place[1]


class Scrapes:
    """Scrapes of each region and service in each step of a span.

    All arrays have the shape (regions, services, steps), in the order of the parameters.

    Parameters
    ----------
    span
        The span that is told of.
    others
        Other spans of the recording: what is usual is learnt from all of them.

    Attributes
    ----------
    known
        Whether the recording counts scrapes at all; one of an earlier version does not.
    expected, seen
        Scrapes that should have been there, and those of them that were.
    targets
        Targets that are expected.
    """

    def __init__(self, job: Job, span: Span, others: Sequence[Span] = ()) -> None:
        parameters = job.parameters
        labels = job.scrapes.dimensions(parameters.labels.model_dump())
        spans = [span, *others]

        def grids(template: str) -> list[Floats]:
            return [_grid(one.find(template, labels), labels, parameters, one) for one in spans]

        targets, seen = grids(job.scrapes.targets), grids(job.scrapes.seen)
        intervals = [_grid(one.sets.get(INTERVAL), labels, parameters, one) for one in spans]
        self.known = all(one.find(job.scrapes.seen, labels) is not None for one in spans)
        usual = _typical(targets, 1.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            counted = _typical([s / t for s, t in zip(seen, targets, strict=True)], np.nan)
        with np.errstate(invalid="ignore"):
            configured = span.step / _typical(intervals, np.nan)
        self.per_step = np.fmax(counted, configured)
        self.per_step[np.isnan(self.per_step)] = 1.0
        # Targets are counted, so that there is no part of one.
        here = np.ceil(np.where(targets[0] > 0, targets[0], np.nan) - 1e-9)
        before = np.concatenate([here[..., :1], here[..., :-1]], axis=-1)
        self.targets = np.fmin(here, before)
        absent = np.isnan(self.targets) | ~(seen[0] > 0)
        self.targets = np.where(absent, usual[..., None], self.targets)
        self.expected = self.targets * self.per_step[..., None]
        # A scrape more than expected is one that came early; it makes up for no other.
        self.seen = np.minimum(np.nan_to_num(seen[0]), self.expected + self.targets)

    @property
    def share(self) -> Floats:
        """Share of each step's scrapes that was seen, 0..1; one missing a target is tolerated."""
        share: Floats = np.clip((self.seen + self.targets) / self.expected, 0.0, 1.0)
        return np.where(self.seen > 0, share, 0.0)

    def missing(self, place: tuple[int, int], seen: Floats | None = None) -> float:
        """How many scrapes of a region and service count as missing.

        `seen` are those of each step that could be used, (steps,), all that were seen if not given.
        """
        expected, targets = self.expected[place], self.targets[place]
        most = expected + targets  # as for `seen`
        usable = self.seen[place] if seen is None else np.minimum(np.nan_to_num(seen), most)
        lacking = np.maximum(expected - usable, 0.0)
        alone = np.minimum(lacking, targets)[usable > 0].sum()
        total = expected.sum()
        every = max(total - usable.sum(), 0.0)
        return float(every - min(alone, every, TOLERATED * total))


def _typical(grids: Sequence[Floats], otherwise: float) -> Floats:
    """Median over all steps of all spans, shape (regions, services)."""
    joined = np.concatenate(grids, axis=-1)
    joined[~np.isfinite(joined) | (joined <= 0)] = np.nan
    known = ~np.isnan(joined).all(axis=-1)
    found = np.full(joined.shape[:-1], otherwise)
    if known.any():
        found[known] = np.nanmedian(joined[known], axis=-1)
    return found


def _grid(
    found: SampleSet | None, by: Mapping[str, str], parameters: Parameters, span: Span
) -> Floats:
    """Samples of one query by region, service and step; NaN where there are none."""
    regions, services = parameters.regions, list(parameters.services)
    values = np.full((len(regions), len(services), span.steps), np.nan)
    for row, labels in enumerate(found.labels if found else ()):
        place = place_of(labels, by, regions, services)
        if place is not None:
            assert found is not None
            # Series that name no service speak for all of their region's.
            values[place if "service" in by else place[0]] = found.values[row]
    # What is no count of anything is no sample: nothing may be learnt from it.
    with np.errstate(invalid="ignore"):
        values[~((values >= 0) & (values < _MOST))] = np.nan
    return values


def sample_counts(job: Job, span: Span, template: str, by: Mapping[str, str]) -> Floats | None:
    """How many samples the best-seen series of a metric has in each step; None if not recorded."""
    found = span.find(template, by)
    return None if found is None else _grid(found, by, job.parameters, span)
