"""What a server has answered so far: the grid of each query, filled as the window goes by.

Unlike a sample set, which is one answer, this is many, laid over each other: new steps are added,
and the last few are asked for again, as a late scrape changes them. The newer answer counts. But
one that has lost what was once seen (by its retention, or a server that began anew), or that the
server itself doubts, only adds: it replaces nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tars_ga_lib.grammar import Interval, format_time
from tars_ga_lib.intervals import runs
from tars_ga_lib.queries import Request
from tars_ga_lib.recording import Provenance, SampleSet, Span

if TYPE_CHECKING:
    from tars_ga_lib.prometheus import Answer

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]

_Key = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Part:
    """Some steps of one query's grid, from `first` on, as they are to be from now on.

    `values` has a row a series and a column a step, NaN = missing; `nonfinite` counts the samples
    of each step that were sent but are NaN or infinite; `at` is when the server was asked.
    """

    span: str
    id: str
    first: int
    labels: list[dict[str, str]]
    values: Floats
    nonfinite: Counts
    warnings: list[str]
    at: str
    infos: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of steps."""
        return int(self.values.shape[1])


def ranges(wanted: Mask) -> list[tuple[int, int]]:
    """First and count of each run of steps that are wanted."""
    return [(first, last - first) for first, last in runs(wanted)]


class Answers:
    """The answers to one query over one interval.

    `answered` says which steps the server has answered for, whether or not there was a sample;
    `asked` when it was asked last, by any clock; `error` why the last question failed.
    """

    def __init__(self, span: str, request: Request, steps: int) -> None:
        self.span = span
        self.request = request
        self.answered: Mask = np.zeros(steps, bool)
        self.asked = float("-inf")
        self.error = ""
        self._rows: dict[_Key, int] = {}
        self._values: Floats = np.full((0, steps), np.nan)
        self._nonfinite: Counts = np.zeros(steps, np.int64)
        self._warned: dict[str, Mask] = {}
        self._remarked: dict[str, Mask] = {}
        self._at = ""

    def changes(self, first: int, answer: Answer, at: str) -> list[Part]:
        """Return what a newer answer for the steps from `first` on changes; often nothing."""
        count = answer.values.shape[1]
        here = slice(first, first + count)
        answered, warned = self.answered[here], self._doubted()[here]
        old, new = self._laid(answer.labels, first, count), answer.values
        seen_before = ~np.isnan(self._values[:, here]).all(axis=0) | (self._nonfinite[here] > 0)
        seen_now = ~np.isnan(new).all(axis=0) | (answer.nonfinite_at > 0)
        doubtful = bool(answer.warnings)
        if (seen_before & ~seen_now).any() or (doubtful and (answered & ~warned).any()):
            wanted = ~answered
        else:
            same = ((old == new) | (np.isnan(old) & np.isnan(new))).all(axis=0)
            same &= self._nonfinite[here] == answer.nonfinite_at
            same &= self._elsewhere(answer.labels, here)
            wanted = ~(answered & same & (doubtful | ~warned))
        return [
            Part(
                self.span,
                self.request.id,
                first + offset,
                answer.labels,
                new[:, offset : offset + length],
                answer.nonfinite_at[offset : offset + length],
                answer.warnings,
                at,
                answer.infos,
            )
            for offset, length in ranges(wanted)
        ]

    def apply(self, part: Part) -> None:
        """Take over what a part says; of its steps nothing else is left."""
        here = slice(part.first, part.first + part.count)
        keys = [_key(labels) for labels in part.labels]
        if fresh := [key for key in dict.fromkeys(keys) if key not in self._rows]:
            self._rows |= {key: len(self._rows) + i for i, key in enumerate(fresh)}
            empty = np.full((len(fresh), self._values.shape[1]), np.nan)
            self._values = np.concatenate([self._values, empty])
        self._values[:, here] = np.nan
        self._values[[self._rows[key] for key in keys], here] = part.values
        self._nonfinite[here] = part.nonfinite
        self.answered[here] = True
        self._at, self.error = part.at, ""
        for said, texts in ((self._warned, part.warnings), (self._remarked, part.infos)):
            for mask in said.values():
                mask[here] = False
            for text in texts:
                said.setdefault(text, np.zeros(len(self.answered), bool))[here] = True

    def sample_set(self, steps: int, server: str, when: Sequence[str]) -> SampleSet:
        """Return the first steps as a sample set.

        Parameters
        ----------
        when
            The time of each step's end, to name those that were never answered.
        """
        keys, values = list(self._rows), self._values[:, :steps].copy()
        nonfinite = int(self._nonfinite[:steps].sum())
        if not nonfinite:
            # A series of which nothing is left was taken back by a newer answer.
            kept = np.flatnonzero(~np.isnan(values).all(axis=1))
            keys, values = [keys[i] for i in kept], values[kept]
        request, error = self.request, ""
        if len(never := np.flatnonzero(~self.answered[:steps])):
            error = f"never answered for {len(never)} of {steps} steps, from {when[never[0]]} on"
            error += f": {self.error}" if self.error else ""
        warnings, infos = (
            [text for text, mask in said.items() if mask[:steps].any()]
            for said in (self._warned, self._remarked)
        )
        provenance = Provenance(
            request.id, request.template, request.by, request.query, server, self._at,
            nonfinite=nonfinite, warnings=warnings, error=error, infos=infos,
        )  # fmt: skip
        return SampleSet.of(provenance, [dict(key) for key in keys], values)

    def _doubted(self) -> Mask:
        """Which steps' answers the server warned about."""
        found = np.zeros(len(self.answered), bool)
        for mask in self._warned.values():
            found |= mask
        return found

    def _laid(self, labels: list[dict[str, str]], first: int, count: int) -> Floats:
        """Old values of the series that a newer answer names, NaN where there are none."""
        old = np.full((len(labels), count), np.nan)
        for i, each in enumerate(labels):
            row = self._rows.get(_key(each))
            if row is not None:
                old[i] = self._values[row, first : first + count]
        return old

    def _elsewhere(self, labels: list[dict[str, str]], here: slice) -> Mask:
        """At which steps the series that a newer answer does not name have no sample."""
        named = {self._rows.get(_key(each)) for each in labels}
        others = [row for row in self._rows.values() if row not in named]
        return np.asarray(np.isnan(self._values[others, here]).all(axis=0), bool)


def _key(labels: dict[str, str]) -> _Key:
    return tuple(sorted(labels.items()))


class Grid:
    """The answers of all queries over one interval, as a span of a recording in the making."""

    def __init__(self, name: str, interval: Interval, step: int, asked: Sequence[Request]) -> None:
        self.name, self.start, self.step = name, interval.start, step
        self.steps = interval.seconds // step
        self.answers = {each.id: Answers(name, each, self.steps) for each in asked}

    def answered(self) -> Mask:
        """Which steps all queries are answered for."""
        every = np.asarray([each.answered for each in self.answers.values()], bool)
        return np.asarray(every.all(axis=0), bool)

    def span(self, steps: int, server: str) -> Span:
        """Return the first steps as a span."""
        stop = self.start + steps * self.step
        when = [format_time(self.start + (k + 1) * self.step) for k in range(steps)]
        sets = {key: each.sample_set(steps, server, when) for key, each in self.answers.items()}
        return Span(self.name, self.start, stop, self.step, sets)
