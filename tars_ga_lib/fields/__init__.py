"""The report's fields: name, meaning, unit, and where each value comes from.

`report_fields.yaml` is the table of them. A source is of one of four sorts: `run` (a fact of a file
that the run derived or measured), `query` (a KPI of the catalogue over the window), `evidence` (a
file that the user gave) or `computation` (of those). One that does not answer gives NO DATA with
the reason, never a constant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tars_ga_lib.facts import RunFacts
from tars_ga_lib.fields.blocks import WAYS
from tars_ga_lib.fields.values import UNITS, FieldValue, Unit, settle
from tars_ga_lib.fields.ways import Way
from tars_ga_lib.grammar import read_yaml
from tars_ga_lib.run import Run


@dataclass(frozen=True)
class Field:
    """One field of the report: what it means, its unit, and the way to its value."""

    name: str
    section: str
    meaning: str
    unit: Unit
    way: Way
    told: tuple[str, ...]

    @property
    def block(self) -> bool:
        """Whether it is a block of Markdown (tables, lists)."""
        return self.unit == UNITS["block"]

    @property
    def sort(self) -> str:
        """Sort of its source: run, query, evidence or computation."""
        return self.way.sort

    @property
    def source(self) -> str:
        """Where its value comes from."""
        return self.way.source(*self.told)

    def value(self, known: RunFacts) -> FieldValue:
        """Find the field's value, or the reason why there is none."""
        return settle(self.name, self.unit, lambda: self.way.find(known, *self.told), self.source)

    def facts(self) -> dict[str, Any]:
        """Return the field as JSON has it."""
        return {
            "name": self.name,
            "section": self.section,
            "meaning": self.meaning,
            "unit": self.unit.si,
            "sort": self.sort,
            "from": self.source,
        }


def _registry() -> dict[str, Field]:
    sections = read_yaml(Path(__file__).with_name("report_fields.yaml"))
    found = {}
    for section, entries in sections.items():
        for name, facts in entries.items():
            way, *told = facts["from"].split()
            unit = UNITS[facts["unit"]]
            found[name] = Field(name, section, facts["about"], unit, WAYS[way], tuple(told))
    return found


FIELDS: dict[str, Field] = _registry()
"""Every field by its name, in the order of the report."""


def values(
    run: Run | Path | str, environment: Mapping[str, str] | None = None
) -> dict[str, FieldValue]:
    """Return the value of every field in a run, or the reason why it has none.

    Parameters
    ----------
    run
        A run or its folder.
    environment
        That which the fields of the pipeline may be read from, when a finished run is looked at
        from outside. Without it, the values depend on the run alone.

    Raises
    ------
    ParametersError
        If the folder holds no run.
    """
    known = RunFacts(run if isinstance(run, Run) else Run(run), environment=environment)
    return {name: field.value(known) for name, field in FIELDS.items()}
