"""History: the packages of earlier releases, and what changed from one to another.

What is compared are the facts of a package, taken from its own files after every hash was found
good: the decision, each criterion, each KPI overall and by region, and each drift finding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator, ConfigDict

from tars_ga_lib import sanitise
from tars_ga_lib.display import md_escape, quantity, when
from tars_ga_lib.evidence import attestation
from tars_ga_lib.evidence import package as packages
from tars_ga_lib.evidence.replay import parsed
from tars_ga_lib.evidence.tarball import ArchiveError
from tars_ga_lib.evidence.verify import Verification, sound, verify
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
    packages.CERTIFICATION: 16 << 20,
    "ga_kpi_summary.json": 256 << 20,
    "drift_analysis.json": 256 << 20,
    packages.INFO: 1 << 20,
}


# --- what a stranger's facts must be ----------------------------------------------------------


class _Facts(Model):
    # Figures are finite: JSON is read strictly.
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow", frozen=True, strict=True)


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
    value: float | None
    target: LimitText
    warning: str | None
    weight: float
    mandatory: bool
    reason: str
    waiver: dict[str, Any] | None


class _Kpi(_Facts):
    title: str
    unit: str
    better: str
    values: dict[str, float | None]


class _Finding(_Facts):
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
    kpis: dict[str, _Kpi]
    findings: dict[str, _Finding]


# --- facts of one package ------------------------------------------------------------------------


def facts(path: Path) -> dict[str, Any]:
    """Return what there is to compare of a package, or of a file that this function's answer is in.

    Raises
    ------
    ParametersError
        If the package is not whole, or not one that this version reads.
    """
    if path.suffix == ".json" and path.is_file():
        try:
            found: dict[str, Any] = _document(path.read_bytes(), str(path))
        except OSError as error:
            raise ParametersError(f"{path}: cannot be read ({error.strerror})") from None
        if not isinstance(found, dict) or found.get("schema") != SCHEMA:
            raise ParametersError(f"{path}: does not hold the facts of a release; name its package")
    else:
        package = sound(path, _DOCUMENTS)
        documents = {
            name: _document(package.kept[name], f"{path}: {name}")
            for name in _DOCUMENTS
            if name in package.kept
        }
        try:
            found = facts_of(
                documents[packages.CERTIFICATION],
                documents["ga_kpi_summary.json"],
                documents["drift_analysis.json"],
            )
            found["policy"] = attestation.policy_digest(package.digests)
            found["archive"] = package.digest or None
            found["signed_by"] = documents.get(packages.INFO, {}).get("signed_by")
        except (KeyError, TypeError, AttributeError):
            raise ParametersError(
                f"{path}: is not a package that this version reads; use the version that wrote it"
            ) from None
    check(_Release, found, str(path))
    return found


def _document(content: bytes, name: str) -> Any:
    try:
        return sanitise.tree(parsed(content, name))
    except ArchiveError as error:
        raise ParametersError(f"{error}; take an undamaged copy") from None


def facts_of(certification: Facts, summary: Facts, analysis: Facts) -> dict[str, Any]:
    """Return the facts of a run from three of its files.

    Parameters
    ----------
    certification, summary, analysis
        Content of `certification_metadata.json`, `ga_kpi_summary.json` and `drift_analysis.json`.
    """
    keys = ("release", "window", "simulated", "decision", "because", "criteria")
    finding = ("title", "verdict", "drift", "measure", "unit")
    return {
        "schema": SCHEMA,
        **{key: certification[key] for key in keys},
        "recording": certification["derived_from"]["recording"],
        "kpis": {name: _kpi(kpi) for name, kpi in summary["kpis"].items()},
        "findings": {
            one["id"]: {key: one[key] for key in finding}
            for one in analysis["evaluations"]
            if one["verdict"] in ("warn", "fail")
        },
    }


def _kpi(kpi: Facts) -> dict[str, Any]:
    regions = {region: one["value"] for region, one in kpi.get("regions", {}).items()}
    values = {"all": kpi["overall"]["value"], **regions}
    return {**{key: kpi[key] for key in ("title", "unit", "better")}, "values": values}


# --- a difference --------------------------------------------------------------------------------

_ASPECTS = {
    "verdict": ("verdict", "waiver"),
    "value": ("value",),
    "target": ("target", "warning"),
    "weight": ("weight", "mandatory"),
}


def difference(before: Facts, after: Facts) -> dict[str, Any]:
    """Compare the facts of two releases: what changed, and only that."""
    keys = ("release", "window", "simulated", "decision", "because", "recording", "policy")
    heads = [{key: one.get(key) for key in keys} for one in (before, after)]
    return {
        "before": heads[0],
        "after": heads[1],
        "criteria": list(_criteria(before, after)),
        "kpis": list(_kpis(before["kpis"], after["kpis"])),
        "findings": [
            {"id": name, "title": (b or a)["title"], "before": a, "after": b}
            for name, a, b in sorted(_pairs(before["findings"], after["findings"]))
            if not (a and b and a["verdict"] == b["verdict"])
        ],
    }


def _pairs(old: Facts, new: Facts) -> Iterator[tuple[str, Any, Any]]:
    """Yield each name with what both have of it; None where it is not there."""
    for name in {**new, **old}:
        yield name, old.get(name), new.get(name)


def _criteria(before: Facts, after: Facts) -> Iterator[dict[str, Any]]:
    old, new = ({o["name"]: o for o in one["criteria"]} for one in (before, after))
    shown = ("verdict", "value", "target", "mandatory", "reason")
    for _, a, b in _pairs(old, new):
        if a and b:
            changed = [w for w, keys in _ASPECTS.items() if any(a[k] != b[k] for k in keys)]
        else:
            changed = ["new" if b else "gone"]
        if changed:
            sides = [
                one and {**{key: one[key] for key in shown}, "waived": bool(one["waiver"])}
                for one in (a, b)
            ]
            yield {
                **{key: (b or a)[key] for key in ("name", "title", "unit")},
                "before": sides[0],
                "after": sides[1],
                "changed": changed,
            }


def _kpis(old: Facts, new: Facts) -> Iterator[dict[str, Any]]:
    for name, a, b in _pairs(old, new):
        kpi = b or a
        if a and b and a["unit"] != b["unit"]:
            a = None  # another KPI of the same name
        sides = [one["values"] if one else {} for one in (a, b)]
        for place, before, after in _pairs(*sides):
            known = before is not None and after is not None and before
            relative = after / before - 1 if known else None
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


# --- as tables -----------------------------------------------------------------------------------


def tables(found: Facts, *, verdicts_only: bool = False) -> list[pd.DataFrame]:
    """Write a difference as tables.

    Parameters
    ----------
    verdicts_only
        Only the decision and the criteria, for two runs on one recording.
    """
    some = [_head_table(found), _criteria_table(found)]
    return some if verdicts_only else [*some, _kpi_table(found), _finding_table(found)]


def _name(head: Facts) -> str:
    return f"{head['release']['name']} {head['release']['version']}"


def _right(*titles: str) -> list[Column]:
    return [Column(title, align="right") for title in titles]


def _head_table(found: Facts) -> pd.DataFrame:
    facts = [
        {
            "Release": _name(head),
            "Decision": head["decision"],
            "Because": head["because"],
            "Window": f"{when(head['window']['start'])} to {when(head['window']['end'])}",
            "Policy (SHA-256)": (head["policy"] or "")[:16] or "not known",
            "Recording": head["recording"].removeprefix("sha256:")[:16],
            "Data": "SIMULATED" if head["simulated"] else "measured",
        }
        for head in (found["before"], found["after"])
    ]
    rows = [row for row in _pairs(*facts) if row[1] != row[2] or row[0] in ("Release", "Decision")]
    return frame(["", "Before", "After"], rows, caption="What is compared")


def _criteria_table(found: Facts) -> pd.DataFrame:
    rows = []
    # Verdicts that changed come first.
    moved = {"verdict", "new", "gone"}
    for one in sorted(found["criteria"], key=lambda c: (not moved & {*c["changed"]}, c["title"])):
        sides, unit = (one["before"], one["after"]), one["unit"]
        rows.append(
            [
                one["title"],
                *(_verdict_text(side) for side in sides),
                *(_value_text(side, unit) for side in sides),
                *(limit_text(side["target"], unit) if side else "" for side in sides),
                ", ".join(one["changed"]),
            ]
        )
    figures = _right("Value before", "After", "Target before", "After")
    return frame(
        ["Criterion", "Before", "After", *figures, "Changed"],
        rows,
        caption="Criteria that changed",
        empty="No criterion changed, and no verdict.",
    )


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
            one["title"],
            one["place"],
            quantity(one["before"], one["unit"]),
            quantity(one["after"], one["unit"]),
            *_change_texts(one),
        ]
        for one in ordered
    ]
    return frame(
        ["KPI", "Where", *_right("Before", "After", "Change"), ""],
        rows,
        caption="KPIs that changed",
        empty="No KPI changed.",
        note=f"Of single regions, only changes of {NOTEWORTHY:.0%} or more. A change says nothing "
        "of its significance; the drift analysis does.",
    )


def _change_texts(kpi: Facts) -> tuple[str, str]:
    """Write a change, and whether it is for the better."""
    before, after = kpi["before"], kpi["after"]
    if before is None or after is None:
        return "NO DATA", ""
    text = quantity(kpi["relative"], "ratio", digits=3, signed=True)
    if kpi["unit"] == "ratio":
        text = quantity(after - before, "pp", digits=3, signed=True)
    if kpi["better"] == "either":
        return text, ""
    return text, "better" if (after > before) == (kpi["better"] == "higher") else "worse"


def _finding_table(found: Facts) -> pd.DataFrame:
    rows = []
    for one in sorted(found["findings"], key=lambda f: (f["after"] is None, f["id"])):
        sides = one["before"], one["after"]
        kind = "new" if not one["before"] else "gone" if not one["after"] else "changed"
        rows.append([kind, one["id"], *(side["verdict"] if side else "none" for side in sides)])
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
    before, after = (md_escape(_name(found[key])) for key in ("before", "after"))
    parts = [as_markdown(written(table)) for table in tables(found)]
    return "\n\n".join([f"# From {before} to {after}", *parts]) + "\n"


# --- a folder of packages ------------------------------------------------------------------------


def releases(folder: Path) -> list[Verification]:
    """Verify every package below a folder, and return them by the window that they are about.

    Raises
    ------
    ParametersError
        If it is no folder.
    """
    if not folder.is_dir():
        raise ParametersError(f"{folder}: is not a folder; name one that holds packages")
    found = []
    for path in _packages(folder):
        try:
            found.append(verify(path))
        except ParametersError as error:
            found.append(Verification(path))
            found[-1].note([(path.name, str(error))])
    # What is refused may hold anything.
    return sorted(found, key=lambda r: (str(r.certification.get("window")), r.package))


def _packages(folder: Path) -> Iterator[Path]:
    """Yield archives, and unpacked packages that are not a copy beside their archive."""
    for here, inner, files in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        if packages.MANIFEST in files:
            inner.clear()
            yield Path(here)
            continue
        for name in sorted(files):
            if name.endswith(".tar.gz") and not name.startswith("."):
                yield Path(here, name)
