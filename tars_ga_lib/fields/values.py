"""How a report field gets its value: from a figure, a file, or a computation over them.

A *finder* takes what is known of a run and returns what it found, or raises `NoDataError` with the
reason: nothing here falls back on a constant. Values are SI (seconds, bytes, ratios from 0 to 1);
only their texts are in the unit that the field's name asks for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from urllib.parse import quote

from tars_ga_lib import display, kpis, tables
from tars_ga_lib.display import NBSP, NO_DATA, quantity, when
from tars_ga_lib.evidence_files import Evidence, Links
from tars_ga_lib.grammar import ParametersError, format_time
from tars_ga_lib.run import Run
from tars_ga_lib.tables import Column

if TYPE_CHECKING:
    import pandas as pd

Value = float | str | bool | None

SUMMARY = "ga_kpi_summary.json"
BASELINE = "baseline_metrics.json"
CERTIFICATION = "certification_metadata.json"
DRIFT = "drift_analysis.json"
REGIONS = "cross_region.json"
SLO = "slo.json"

ENOUGH = 0.95
"""Coverage below which the text of a figure says how little was seen."""


class NoDataError(Exception):
    """There is no value; the text says why, `source` where it was looked for."""

    def __init__(self, reason: str, source: str = "") -> None:
        super().__init__(reason)
        self.source = source


# --- units ----------------------------------------------------------------------------------------


class Unit(NamedTuple):
    """The SI unit of a field's value, and the one in which its text gives it."""

    si: str
    shown: str
    factor: float

    def text(self, value: float, limit: float | None = None) -> str:
        """Write a value, never rounded across its limit."""
        if self.si == "ratio":
            return quantity(value, "ratio", limit=limit)
        if self.si == "count":
            return quantity(round(value) if abs(value) < 1e4 else value, "")
        number = self.number(value) if abs(value / self.factor) >= 1e4 else ""
        scaled = None if limit is None else limit / self.factor
        number = number or quantity(value / self.factor, "", limit=scaled)
        gap = "" if self.shown.startswith("/") else NBSP
        return f"{number}{gap}{self.shown}"

    def number(self, value: float) -> str:
        """Write the bare number in the shown unit, for a template that writes the unit itself."""
        scaled = value / self.factor
        return f"{scaled:.0f}" if self.si == "count" or abs(scaled) >= 1e4 else f"{scaled:.6g}"


RATIO = Unit("ratio", "%", 0.01)
COUNT = Unit("count", "", 1.0)
MILLISECONDS = Unit("s", "ms", 1e-3)
SECONDS = Unit("s", "s", 1.0)
MINUTES = Unit("s", "min", 60.0)
HOURS = Unit("s", "h", 3600.0)
DAYS = Unit("s", "d", 86400.0)
MIB = Unit("B", "MiB", 2.0**20)
GIB = Unit("B", "GiB", 2.0**30)
MBPS = Unit("B/s", "Mbit/s", 125_000.0)
PER_SECOND = Unit("1/s", "/s", 1.0)
USD = Unit("USD", "USD", 1.0)
PER_CORE_SECOND = Unit("1/(core s)", "requests per core second", 1.0)
PER_GIB_SECOND = Unit("1/(GiB s)", "requests/s per GiB", 1.0)
TIME = Unit("time", "UTC", 1.0)
TEXT = Unit("text", "", 1.0)
BLOCK = Unit("Markdown", "", 1.0)


# --- what is found --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Items:
    """A list of sentences in plain text; an item may lead to a URL, and `title` stands above."""

    items: Sequence[str | tuple[str, str]]
    title: str = ""

    def lines(self) -> list[str]:
        """Return the items in plain text."""
        return [each if isinstance(each, str) else f"{each[0]} ({each[1]})" for each in self.items]


Part: TypeAlias = "pd.DataFrame | Items"


@dataclass(frozen=True)
class Found:
    """What a finder found. `text` is plain; a block field has `parts` instead."""

    value: Value = None
    text: str = ""
    source: str = ""
    coverage: float | None = None
    limit: float | None = None
    note: str = ""
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class FieldValue:
    """One report field of one run.

    `text` is what a person reads: plain, in one line, `NO DATA` where there is none, and then
    `reason` says why. `value` is in SI. A block field has `parts`, of which `text` is a digest in
    one line. `source` names the file and key, the KPI or the evidence file.
    """

    name: str
    text: str
    value: Value = None
    unit: str = ""
    source: str = ""
    coverage: float | None = None
    reason: str = ""
    number: str = ""
    parts: tuple[Part, ...] = ()

    @property
    def missing(self) -> bool:
        """Whether there is no data."""
        return bool(self.reason)

    def facts(self) -> dict[str, Any]:
        """Return the value as JSON has it."""
        facts: dict[str, Any] = {
            "text": self.text,
            "value": self.value,
            "unit": self.unit,
            "source": self.source,
            "coverage": self.coverage,
            "reason": self.reason or None,
        }
        if self.parts:
            facts["markdown"] = markdown(self.parts)
        return facts


def markdown(parts: Sequence[Part]) -> str:
    """Write a block as GitHub Markdown."""
    texts = []
    for part in parts:
        if not isinstance(part, Items):
            texts.append(tables.as_markdown(tables.written(part)))
            continue
        title = [f"**{display.md_escape(part.title)}**\n"] if part.title else []
        texts.append("\n".join([*title, *(f"- {_item(each)}" for each in part.items)]))
    return "\n\n".join(texts)


def _item(each: str | tuple[str, str]) -> str:
    if isinstance(each, str):
        return display.md_escape(each)
    return f"[{display.md_escape(each[0])}]({link_target(each[1])})"


def link_target(url: str) -> str:
    """Write a URL so that nothing in it ends a Markdown link."""
    return re.sub(r"[\s()<>\\\"'`|\[\]{}]", lambda m: quote(m[0]), url)


def plain(parts: Sequence[Part]) -> list[str]:
    """Write a block as lines of plain text: an item or a row each."""
    return [
        line
        for part in parts
        for line in (part.lines() if isinstance(part, Items) else tables.lines(part))
    ]


def settle(name: str, unit: Unit, find: Callable[[], Found], source: str) -> FieldValue:
    """Turn what a finder finds, or why it does not, into a field's value."""
    try:
        found = find()
    except NoDataError as missing:
        reason = str(missing).strip().rstrip(".") or "nothing is known of it"
        where = missing.source or source
        return FieldValue(name, NO_DATA, unit=unit.si, source=where, reason=reason)
    where, number = found.source or source, ""
    if found.parts:
        text = "; ".join(plain(found.parts))
    elif isinstance(found.value, (int, float)) and not isinstance(found.value, bool):
        number = unit.number(found.value)
        text = found.text or unit.text(float(found.value), found.limit)
    else:
        text = found.text or str(found.value)
    if found.coverage is not None and found.coverage < ENOUGH:
        text += f" (of {quantity(found.coverage, 'ratio')} of the samples)"
    if found.note:
        text += f" ({found.note})"
    return FieldValue(
        name, text, found.value, unit.si, where, found.coverage, "", number, found.parts
    )


# --- what is known of a run -----------------------------------------------------------------------


class Known:
    """What finders may look at.

    `beside` is the environment of who fills a template, where the pipeline's names stand; None
    inside a run, whose report must not depend on it.
    """

    def __init__(self, run: Run, beside: Mapping[str, str] | None = None) -> None:
        self.run = run
        self.job = run.job
        self.beside = beside
        self._documents: dict[str, dict[str, Any] | NoDataError] = {}

    def document(self, name: str) -> dict[str, Any]:
        """Return a derived file of the run.

        Raises
        ------
        NoDataError
            If it is missing, or was derived from something else than the run holds now.
        """
        if name not in self._documents:
            try:
                self._documents[name] = self.run.read(name)
            except ParametersError as error:
                text = str(error).removeprefix(f"{self.run.folder / name}: ")
                reason = f"{name} {text.partition(';')[0]}"
                self._documents[name] = NoDataError(reason, name)
        found = self._documents[name]
        if isinstance(found, NoDataError):
            raise found
        return found

    def measured(self, kind: str) -> dict[str, Any]:
        """Return what was measured on the running system: `validation` or `websocket`."""
        found = self._measured.get(kind)
        if isinstance(found, str):
            raise NoDataError(found)
        if found is None or found.document is None or found.problem:
            problem = found.problem if found else ""
            raise NoDataError(problem or f"no {kind} results were given or measured")
        document: dict[str, Any] = found.document
        return document

    @cached_property
    def _measured(self) -> dict[str, Any]:
        try:
            return dict(self.run.measured())
        except ParametersError as error:
            reason = str(error).replace(
                f"{self.run.folder}/", ""
            )  # a report names no machine's path
            return {"validation": reason, "websocket": reason}

    def given(self, kind: str) -> Any:
        """Return an evidence file that speaks of this release and of the whole window.

        Raises
        ------
        NoDataError
            If it was not given, or speaks of something else.
        """
        facts: Evidence | None = self.job.evidence.get(kind)
        source, parameters = f"{kind} file", self.job.parameters
        if facts is None:
            raise NoDataError(f"no {kind} file was given", source)
        if facts.simulated and not parameters.simulated:
            raise NoDataError(f"the {kind} file says that it is simulated, and this run is not")
        about, wanted = getattr(facts, "release", None), parameters.release.version
        if about is not None and about != wanted:
            raise NoDataError(f"the {kind} file is about {about}, not {wanted}", source)
        covers, window = getattr(facts, "covers", None), parameters.window
        if covers and (covers.start > window.start or covers.stop < window.stop):
            raise NoDataError(
                f"the {kind} file ends before the window does, or begins after it did", source
            )
        return facts

    def links(self) -> Links:
        """Return the file of links."""
        facts: Links = self.given("links")
        return facts

    def kpi(self, name: str, key: str = SUMMARY) -> dict[str, Any]:
        """Return what a derived file says of a KPI; of the latest baseline interval, if asked."""
        document = self.document(key)
        if key == BASELINE:
            if not document["intervals"]:
                raise NoDataError("there is no baseline", key)
            document = document["intervals"][0]
        if name not in document["kpis"]:
            raise NoDataError(f"the catalogue has no KPI '{name}'", f"KPI {name}")
        return dict(document["kpis"][name])

    def figure(self, name: str, key: str = SUMMARY) -> dict[str, Any]:
        """Return a KPI's figure over the whole window, which has a value."""
        facts = self.kpi(name, key)["overall"]
        if facts["value"] is None:
            raise NoDataError(facts.get("reason", "no samples were seen"), f"KPI {name}")
        return dict(facts)

    def limit(self, name: str) -> float | None:
        """Return the target of the criterion on a KPI's whole, to round no figure across it."""
        for criterion in self.job.criteria.values():
            if criterion.kpi == name and criterion.scope == "overall":
                return criterion.limit.value
        return None

    def title(self, name: str) -> str:
        """Return a KPI's title."""
        return self.job.kpis[name].title if name in self.job.kpis else name

    @cached_property
    def alerts(self) -> kpis.Alerts:
        """The alerts of the window."""
        return kpis.alerts(self.job, self.run.recording.window)


def file_of(kind: str, facts: Evidence) -> str:
    """Name an evidence file as a source, with what it says of itself."""
    return f"{kind} file ({facts.source})"


# --- finders --------------------------------------------------------------------------------------

Find = Callable[[Known], Found]
"""Finds a field's value, or raises `NoDataError`."""


@dataclass(frozen=True)
class Finder:
    """A way to a value: the sort of its source, the source in words, and the way itself."""

    sort: str
    source: str
    find: Find = field(repr=False)


def figure(name: str) -> Finder:
    """Return a KPI over the whole window."""

    def find(known: Known) -> Found:
        facts = known.figure(name)
        doubts = known.run.kpis.doubts(name) if name in known.job.kpis else []
        found = Found(
            facts["value"],
            source=f"{SUMMARY}, kpis.{name}.overall",
            coverage=facts["coverage"],
            limit=known.limit(name),
            note=f"the server warned: {doubts[0]}" if doubts else "",
        )
        if facts.get("beyond_highest_bucket"):
            return replace(found, note="at least; it lies above the highest bucket")
        return found

    return Finder("query", f"KPI {name}", find)


def peak(name: str) -> Finder:
    """Return the highest step of a KPI, with its time."""

    def find(known: Known) -> Found:
        facts, overall = known.kpi(name), known.figure(name)
        if "highest_step" not in facts:
            raise NoDataError("no step of it has a figure", f"KPI {name}")
        highest = facts["highest_step"]
        return Found(
            highest["value"],
            source=f"{SUMMARY}, kpis.{name}.highest_step",
            coverage=overall["coverage"],
            note=f"in the step to {when(highest['step_end'])}",
        )

    return Finder("query", f"KPI {name}, its highest step", find)


def of_file(name: str, *keys: str, say: Callable[[Any], str] | None = None) -> Finder:
    """Return one fact of a derived file."""
    path = ".".join(keys)

    def find(known: Known) -> Found:
        fact: Any = known.document(name)
        for key in keys:
            fact = fact[key]
        if fact is None:
            raise NoDataError(f"{name} has no {path}")
        return Found(fact, say(fact) if say else "", f"{name}, {path}")

    return Finder("run", f"{name}, {path}", find)


def evidence(kind: str, about: str, read: Callable[[Any], Found | Value]) -> Finder:
    """Return what an evidence file says; None where the file leaves it out."""

    def find(known: Known) -> Found:
        facts = known.given(kind)
        said = read(facts)
        if said is None:
            raise NoDataError(f"the {kind} file does not say it", f"{kind} file")
        found = said if isinstance(said, Found) else Found(said)
        return found if found.source else replace(found, source=file_of(kind, facts))

    return Finder("evidence", f"{kind} file, {about}", find)


def computed(source: str, find: Find) -> Finder:
    """Return a computation; `source` says from what."""
    return Finder("computation", source, lambda known: _sourced(find(known), source))


def from_run(source: str, find: Find) -> Finder:
    """Return facts of the run's own files."""
    return Finder("run", source, lambda known: _sourced(find(known), source))


def from_evidence(source: str, find: Find) -> Finder:
    """Return facts of evidence files, chosen or counted."""
    return Finder("evidence", source, lambda known: _sourced(find(known), source))


def _sourced(found: Found, source: str) -> Found:
    return found if found.source else replace(found, source=source)


def block(*parts: Part, source: str = "", coverage: float | None = None) -> Found:
    """Return a block."""
    return Found(text="", source=source, coverage=coverage, parts=parts)


def iso(seconds: int) -> Found:
    """Return a point in time."""
    return Found(format_time(seconds), when(seconds))


def yes_no(value: bool | None) -> Found | None:
    """Return a yes or no."""
    return None if value is None else Found(value, "yes" if value else "no")


def right(*titles: str) -> list[Column | str]:
    """Return columns whose cells stand right."""
    return [Column(title, align="right") for title in titles]


def change_text(before: float | None, now: float | None, unit: str) -> str | None:
    """Write a change: of a ratio in percentage points, of anything else in percent."""
    if before is None or now is None:
        return None
    if unit == "ratio":
        return quantity(now - before, "pp", digits=3, signed=True)
    if not before:
        return None
    return quantity((now - before) / abs(before), "ratio", digits=3, signed=True)
