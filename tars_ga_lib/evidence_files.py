"""Facts that no metric holds: the models of the evidence files that a user gives to a run."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StrictBool, StrictInt, model_validator

from tars_ga_lib.grammar import Duration, Interval, Model, Name, Number, Time, format_time


class Evidence(Model):
    """What every evidence file says of itself."""

    source: Name
    simulated: StrictBool = False


class Incident(Model):
    """One incident; `sev1` is critical."""

    id: Name
    severity: Literal["sev1", "sev2", "sev3", "sev4"]
    title: Name
    start: Time
    end: Time | None = None
    region: Name | None = None
    root_cause: Name | None = None
    remediation: Name | None = None

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> Self:
        # With its times confused, an incident could fall out of the window.
        if self.end is not None and self.end < self.start:
            raise ValueError(
                f"the end {format_time(self.end)} is before the start {format_time(self.start)}"
            )
        return self


class Incidents(Evidence):
    """The incidents of an interval; an empty list says that there were none in it."""

    covers: Interval
    incidents: list[Incident]


class Rollback(Evidence):
    """A test that the release can be rolled back."""

    release: Name
    tested_at: Time
    successful: StrictBool
    duration: Duration | None = None
    environment: Name | None = None
    data_migration_reversible: StrictBool | None = None


class SignOff(Model):
    """One role's word on the release."""

    role: Name
    name: Name
    approved: StrictBool
    at: Time


class SignOffs(Evidence):
    """Who has signed, and who has refused."""

    release: Name
    sign_offs: Annotated[list[SignOff], Field(min_length=1)]


class SecurityScan(Evidence):
    """A vulnerability scan of the release."""

    release: Name
    scanner: Name
    scanned_at: Time
    critical: Annotated[StrictInt, Field(ge=0)]
    high: Annotated[StrictInt, Field(ge=0)]
    patched: Annotated[StrictInt, Field(ge=0)] | None = None


class Customer(Evidence):
    """What customers said in an interval."""

    covers: Interval
    support_tickets: Annotated[StrictInt, Field(ge=0)]
    escalated: Annotated[StrictInt, Field(ge=0)]
    satisfaction: Annotated[Number, Field(ge=0, le=1)] | None = None


EVIDENCE_MODELS: dict[str, type[Evidence]] = {
    "incidents": Incidents,
    "rollback": Rollback,
    "sign_off": SignOffs,
    "security_scan": SecurityScan,
    "customer": Customer,
}
