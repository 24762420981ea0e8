"""History: the packages of earlier releases, and what changed from one to another.

What is compared are the facts of a package, taken from its own files after every hash was found
good: the decision, each criterion, each KPI overall and by region, and each drift finding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator, ConfigDict, Field

from tars_ga_lib import sanitise
from tars_ga_lib.display import md_escape, quantity, when
from tars_ga_lib.evidence import attestation, verify
from tars_ga_lib.evidence import package as evidence
from tars_ga_lib.evidence.tarball import ArchiveError
from tars_ga_lib.grammar import (
    LimitText,
    Model,
    ParametersError,
    Verdict,
    check,
    format_time,
    parse_time,
)
from tars_ga_lib.tables import Column, as_markdown, frame, written
from tars_ga_lib.wording import limit_text

if TYPE_CHECKING:
    import pandas as pd

Facts = Mapping[str, Any]

SCHEMA = "tars-ga/release-facts/1"

NOTEWORTHY = 0.05
"""Relative change below which a single region's KPI is not listed; overall KPIs always are."""

_DOCUMENTS = {
    evidence.CERTIFICATION: 16 << 20,
    "ga_kpi_summary.json": 256 << 20,
    "drift_analysis.json": 256 << 20,
    evidence.INFO: 1 << 20,
}
_RANK = {"pass": 0, "warn": 1, "no_data": 2, "fail": 3}


# --- what a stranger's facts must be ----------------------------------------------------------


class _Facts(Model):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow", frozen=True, strict=True)


_Figure = Annotated[float, Field(allow_inf_nan=False)]
_Iso = Annotated[str, AfterValidator(lambda text: format_time(parse_time(text)))]


class _Named(_Facts):
    name: str
    version: str


class _Interval(_Facts):
    start: _Iso
    end: _Iso


class _Criterion(_Facts):
    name: str
    title: str
    unit: str
    verdict: Verdict
    value: _Figure | None
    target: LimitText
    warning: str | None
    weight: _Figure
    mandatory: bool
    reason: str
    waiver: dict[str, Any] | None


class _KpiFacts(_Facts):
    title: str
    unit: str
    better: str
    values: dict[str, _Figure | None]


class _FindingFacts(_Facts):
    title: str
    verdict: str


class _Release(_Facts):
    release: _Named
    window: _Interval
    simulated: bool
    decision: str
    because: str
    recording: str
    policy: str | None = None
    criteria: list[_Criterion]
    kpis: dict[str, _KpiFacts]
    findings: dict[str, _FindingFacts]


# --- facts of one package ------------------------------------------------------------------------


def facts(path: Path) -> dict[str, Any]:
    """Return what there is to compare of a package, or of a file that this function's answer is in.

    Raises
    ------
    ParametersError
        If the package is not whole, or not one that this version reads.
    """
    if path.suffix == ".json" and path.is_file():
        return _read_facts(path)
    contents, documents = verify.documents(path, _DOCUMENTS)
    try:
        found = facts_of(
            documents[evidence.CERTIFICATION],
            documents["ga_kpi_summary.json"],
            documents["drift_analysis.json"],
        )
        found["policy"] = attestation.policy_digest(contents.digests)
        found["archive"] = contents.digest or None
        found["signed_by"] = documents.get(evidence.INFO, {}).get("signed_by")
    except (KeyError, TypeError, AttributeError):
        raise ParametersError(
            f"{path}: is not a package that this version reads; use the version that wrote it"
        ) from None
    check(_Release, found, str(path))
    return found


def _read_facts(path: Path) -> dict[str, Any]:
    try:
        found = verify.strict_json(path.read_bytes(), str(path))
    except (OSError, ArchiveError) as error:
        raise ParametersError(f"{path}: cannot be read ({error})") from None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise ParametersError(f"{path}: does not hold the facts of a release; name its package")
    check(_Release, found, str(path))
    facts: dict[str, Any] = sanitise.tree(found)
    return facts


def facts_of(certification: Facts, summary: Facts, analysis: Facts) -> dict[str, Any]:
    """Return the facts of a run from three of its files.

    Parameters
    ----------
    certification, summary, analysis
        Content of `certification_metadata.json`, `ga_kpi_summary.json` and `drift_analysis.json`.
    """
    keys = ("release", "window", "simulated", "decision", "because", "criteria")
    return {
        "schema": SCHEMA,
        **{key: certification[key] for key in keys},
        "recording": certification["derived_from"]["recording"],
        "kpis": {name: _kpi(kpi) for name, kpi in summary["kpis"].items()},
        "findings": {e["id"]: _finding(e) for e in analysis["evaluations"] if _is_finding(e)},
    }


def _kpi(kpi: Facts) -> dict[str, Any]:
    return {
        **{key: kpi[key] for key in ("title", "unit", "better")},
        "values": {
            "all": kpi["overall"]["value"],
            **{region: each["value"] for region, each in kpi.get("regions", {}).items()},
        },
    }


def _is_finding(evaluation: Facts) -> bool:
    return evaluation["verdict"] in ("warn", "fail")


def _finding(evaluation: Facts) -> dict[str, Any]:
    return {key: evaluation[key] for key in ("title", "verdict", "drift", "measure", "unit")}


# --- a difference --------------------------------------------------------------------------------


def difference(before: Facts, after: Facts) -> dict[str, Any]:
    """Compare the facts of two releases: what changed, and only that."""
    return {
        "before": _head(before),
        "after": _head(after),
        "criteria": list(_criteria(before, after)),
        "kpis": list(_kpis(before["kpis"], after["kpis"])),
        "findings": list(_findings(before["findings"], after["findings"])),
    }


def _head(one: Facts) -> dict[str, Any]:
    keys = ("release", "window", "simulated", "decision", "because", "recording", "policy")
    return {key: one.get(key) for key in keys}


def _criteria(before: Facts, after: Facts) -> Iterator[dict[str, Any]]:
    old, new = ({o["name"]: o for o in each["criteria"]} for each in (before, after))
    for name in {**new, **old}:
        a, b = old.get(name), new.get(name)
        changed = [what for what, keys in _ASPECTS.items() if _differ(a, b, keys)]
        if a is None or b is None or changed:
            yield {
                "name": name,
                "title": (b or a or {})["title"],
                "unit": (b or a or {})["unit"],
                "before": a and _outcome(a),
                "after": b and _outcome(b),
                "changed": changed if a and b else ["new" if b else "gone"],
            }


_ASPECTS = {
    "verdict": ("verdict", "waiver"),
    "value": ("value",),
    "target": ("target", "warning"),
    "weight": ("weight", "mandatory"),
}


def _differ(a: Facts | None, b: Facts | None, keys: Sequence[str]) -> bool:
    return a is not None and b is not None and any(a[key] != b[key] for key in keys)


def _outcome(outcome: Facts) -> dict[str, Any]:
    keys = ("verdict", "value", "target", "mandatory", "reason")
    return {key: outcome[key] for key in keys} | {"waived": bool(outcome["waiver"])}


def _kpis(old: Facts, new: Facts) -> Iterator[dict[str, Any]]:
    for name in {**new, **old}:
        a, b = old.get(name), new.get(name)
        kpi = b or a or {}
        if a and b and a["unit"] != b["unit"]:
            a = None  # another KPI of the same name
        values = [each["values"] if each else {} for each in (a, b)]
        for place in {**values[1], **values[0]}:
            before, after = (each.get(place) for each in values)
            relative = _relative(before, after)
            if before == after or (place != "all" and abs(relative or 1.0) < NOTEWORTHY):
                continue
            yield {
                **{key: kpi[key] for key in ("title", "unit", "better")},
                "name": name,
                "place": place,
                "before": before,
                "after": after,
                "relative": relative,
            }


def _relative(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None or not before else after / before - 1


def _findings(old: Facts, new: Facts) -> Iterator[dict[str, Any]]:
    for identity in sorted({**new, **old}):
        a, b = old.get(identity), new.get(identity)
        if a and b and a["verdict"] == b["verdict"]:
            continue
        yield {"id": identity, "title": (b or a or {})["title"], "before": a, "after": b}


# --- as tables -----------------------------------------------------------------------------------


def tables(found: Facts, *, verdicts_only: bool = False) -> list[pd.DataFrame]:
    """Write a difference as tables.

    Parameters
    ----------
    verdicts_only
        Only the decision and the criteria, for two runs on one recording.
    """
    made = [_head_table(found), _criteria_table(found)]
    return made if verdicts_only else [*made, _kpi_table(found), _finding_table(found)]


def name_of(head: Facts) -> str:
    """Write a release's name and version."""
    return f"{head['release']['name']} {head['release']['version']}"


def _head_table(found: Facts) -> pd.DataFrame:
    heads = found["before"], found["after"]
    rows = [
        ["Release", *(name_of(head) for head in heads)],
        ["Decision", *(head["decision"] for head in heads)],
        ["Because", *(head["because"] for head in heads)],
        ["Window", *(_window_text(head["window"]) for head in heads)],
        ["Policy (SHA-256)", *((head["policy"] or "")[:16] or "not known" for head in heads)],
        ["Recording", *(_digest_text(head["recording"]) for head in heads)],
        ["Data", *("SIMULATED" if head["simulated"] else "measured" for head in heads)],
    ]
    rows = [row for row in rows if row[1] != row[2] or row[0] in ("Release", "Decision")]
    return frame(["", "Before", "After"], rows, caption="What is compared")


def _window_text(window: Facts) -> str:
    return f"{when(window['start'])} to {when(window['end'])}"


def _digest_text(digest: str) -> str:
    return digest.removeprefix("sha256:")[:16]


def _criteria_table(found: Facts) -> pd.DataFrame:
    rows = []
    for each in sorted(found["criteria"], key=_verdict_moved):
        sides = each["before"], each["after"]
        rows.append(
            [
                each["title"],
                *(_verdict_text(side) for side in sides),
                *(_value_text(side, each["unit"]) for side in sides),
                *(limit_text(side["target"], each["unit"]) if side else "" for side in sides),
                ", ".join(each["changed"]),
            ]
        )
    return frame(
        [
            "Criterion",
            "Before",
            "After",
            Column("Value before", align="right"),
            Column("After", align="right"),
            Column("Target before", align="right"),
            Column("After", align="right"),
            "Changed",
        ],
        rows,
        caption="Criteria that changed",
        empty="No criterion changed, and no verdict.",
    )


def _verdict_moved(each: Facts) -> tuple[bool, str]:
    """Order verdicts that changed before those that did not."""
    return not {"verdict", "new", "gone"} & set(each["changed"]), each["title"]


def _verdict_text(side: Facts | None) -> str:
    if side is None:
        return "none"
    return str(side["verdict"]).replace("_", " ") + (" (waived)" if side["waived"] else "")


def _value_text(side: Facts | None, unit: str) -> str:
    if side is None:
        return ""
    if unit == "bool" and side["value"] is not None:
        return "yes" if side["value"] else "no"
    return quantity(side["value"], unit)


def _kpi_table(found: Facts) -> pd.DataFrame:
    ordered = sorted(found["kpis"], key=lambda k: (k["place"] != "all", -abs(k["relative"] or 9e9)))
    rows = [
        [
            each["title"],
            each["place"],
            quantity(each["before"], each["unit"]),
            quantity(each["after"], each["unit"]),
            _change_text(each),
            _direction(each),
        ]
        for each in ordered
    ]
    return frame(
        [
            "KPI",
            "Where",
            Column("Before", align="right"),
            Column("After", align="right"),
            Column("Change", align="right"),
            "",
        ],
        rows,
        caption="KPIs that changed",
        empty="No KPI changed.",
        note=f"Of single regions, only changes of {NOTEWORTHY:.0%} or more. A change says nothing "
        "of its significance; the drift analysis does.",
    )


def _change_text(each: Facts) -> str:
    if each["before"] is None or each["after"] is None:
        return "NO DATA"
    if each["unit"] == "ratio":
        return quantity(each["after"] - each["before"], "pp", digits=3, signed=True)
    return quantity(each["relative"], "ratio", digits=3, signed=True)


def _direction(each: Facts) -> str:
    if each["before"] is None or each["after"] is None or each["better"] == "either":
        return ""
    return "better" if (each["after"] > each["before"]) == (each["better"] == "higher") else "worse"


def _finding_table(found: Facts) -> pd.DataFrame:
    rows = []
    for each in sorted(found["findings"], key=lambda f: (f["after"] is None, f["id"])):
        sides = each["before"], each["after"]
        kind = "new" if not each["before"] else "gone" if not each["after"] else "changed"
        rows.append([kind, each["id"], *(side["verdict"] if side else "none" for side in sides)])
    return frame(
        ["", "Finding", "Before", "After"],
        rows,
        caption="Drift findings that changed",
        empty="No drift finding is new, gone or changed.",
        most=25,
        rest="The others are in drift_analysis.json.",
    )


def markdown(found: Facts) -> str:
    """Write a difference as a Markdown document."""
    before, after = (md_escape(name_of(found[key])) for key in ("before", "after"))
    parts = [f"# From {before} to {after}"]
    parts += [as_markdown(written(table)) for table in tables(found)]
    return "\n\n".join(parts) + "\n"


# --- a folder of packages ------------------------------------------------------------------------


@dataclass(frozen=True)
class Release:
    """One package of a folder; `problem` says why it cannot be relied on, or is empty."""

    path: Path
    problem: str = ""
    certification: Facts | None = None
    signed_by: str | None = None
    digest: str = ""

    @property
    def certified(self) -> bool:
        """Whether it certifies its release."""
        decision = (self.certification or {}).get("decision", "")
        return str(decision).startswith("CERTIFIED")


def releases(folder: Path) -> list[Release]:
    """Return every package below a folder, by the window that it is about.

    Raises
    ------
    ParametersError
        If it is no folder.
    """
    if not folder.is_dir():
        raise ParametersError(f"{folder}: is not a folder; name one that holds packages")
    found = [_release(path) for path in _packages(folder)]
    return sorted(found, key=lambda r: (_window_start(r), str(r.path)))


def _window_start(release: Release) -> str:
    return str((release.certification or {}).get("window", {}).get("start", ""))


def _packages(folder: Path) -> Iterator[Path]:
    """Yield archives, and unpacked packages that are not a copy beside their archive."""
    for here, inner, files in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        if evidence.MANIFEST in files:
            inner.clear()
            yield Path(here)
            continue
        for name in sorted(files):
            if name.endswith(".tar.gz") and not name.startswith("."):
                yield Path(here, name)


def _release(path: Path) -> Release:
    try:
        found = verify.verify(path)
    except ParametersError as error:
        return Release(path, str(error))
    if found.failures:
        return Release(path, str(found.failures[0]), found.certification or None)
    return Release(path, "", found.certification, found.signed_by, found.digest)
