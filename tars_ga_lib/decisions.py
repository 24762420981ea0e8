"""The decision on a release: it follows from the verdicts of its criteria and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tars_ga_lib.grammar import Verdict

Decision = Literal["CERTIFIED", "CERTIFIED WITH WAIVERS", "NOT CERTIFIED", "INCONCLUSIVE"]

EXIT_CODES: dict[Decision, int] = {
    "CERTIFIED": 0,
    "CERTIFIED WITH WAIVERS": 0,
    "NOT CERTIFIED": 3,
    "INCONCLUSIVE": 4,
}


@dataclass(frozen=True)
class Outcome:
    """One criterion after evaluation.

    `value` is None where nothing is known; `where` names the region or service that a worst-of
    criterion rests on, or the finding or file; `reason` says why the verdict is not a plain one.
    """

    name: str
    title: str
    source: str
    unit: str
    target: str
    warning: str | None
    weight: float
    mandatory: bool
    value: float | None
    verdict: Verdict
    coverage: float | None
    where: str
    reason: str
    waiver: dict[str, Any] | None = None

    @property
    def blocks(self) -> bool:
        """Whether this outcome alone keeps the release from being certified."""
        return self.mandatory and (
            self.verdict == "no_data" or (self.verdict == "fail" and self.waiver is None)
        )


@dataclass(frozen=True)
class Certification:
    """The decision of a run, and what it rests on."""

    decision: Decision
    binding: str
    because: str
    outcomes: list[Outcome]

    @property
    def exit_code(self) -> int:
        """Exit code of `tars-ga run`."""
        return EXIT_CODES[self.decision]

    def facts(self) -> dict[str, Any]:
        """Return the certification as `certification_metadata.json` has it."""
        return {
            "decision": self.decision,
            "binding_criterion": self.binding,
            "because": self.because,
            "criteria": [asdict(outcome) for outcome in self.outcomes],
        }


def decide(outcomes: Sequence[Outcome]) -> Certification:
    """Decide on the outcomes of all criteria, and name the criterion that decided."""
    mandatory = [o for o in outcomes if o.mandatory]
    failed = [o for o in mandatory if o.verdict == "fail" and o.waiver is None]
    unknown = [o for o in mandatory if o.verdict == "no_data"]
    waived = [o for o in mandatory if o.verdict == "fail" and o.waiver is not None]
    decision: Decision
    if failed:
        decision, deciding = "NOT CERTIFIED", failed
    elif unknown or not mandatory:
        decision, deciding = "INCONCLUSIVE", unknown
    elif waived:
        decision, deciding = "CERTIFIED WITH WAIVERS", waived
    else:
        warned = [o for o in mandatory if o.verdict == "warn"]
        decision, deciding = "CERTIFIED", warned or mandatory
    if not deciding:
        return Certification(decision, "", "No mandatory criterion was evaluated.", [*outcomes])
    # The heaviest decides, and among equals the one that stands first in the criteria file.
    binding = max(deciding, key=lambda o: o.weight)
    return Certification(decision, binding.name, _because(decision, binding, deciding), [*outcomes])


def _because(decision: Decision, binding: Outcome, deciding: Sequence[Outcome]) -> str:
    """Write the sentence that says why; numbers are left to whoever shows them."""
    others = len(deciding) - 1
    more = f", and {others} more of the mandatory criteria" if others else ""
    if decision == "NOT CERTIFIED":
        verb = "fail" if others else "fails"
        return f"{binding.title}{more} {verb}."
    if decision == "INCONCLUSIVE":
        verb = "have" if others else "has"
        return f"{binding.title}{more} {verb} no data: {binding.reason}."
    if decision == "CERTIFIED WITH WAIVERS":
        verb = "fail and are" if others else "fails and is"
        return f"{binding.title}{more} {verb} waived; all others pass."
    if binding.verdict == "warn":
        return f"All mandatory criteria pass; {binding.title}{more} with a warning."
    return "All mandatory criteria pass."
