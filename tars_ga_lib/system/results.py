"""What a validation leaves: the content of its JSON file, and the same as JUnit XML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from tars_ga_lib import __version__
from tars_ga_lib.display import clean
from tars_ga_lib.parameters import Job
from tars_ga_lib.system import tables
from tars_ga_lib.system.checks import GROUPS, SECTIONS, Outcome, now
from tars_ga_lib.targets import ValidationTargets

SCHEMA = "tars-ga/validation/1"


def note(targets: ValidationTargets, made: int, known: int, more: str = "") -> str:
    """Write what a reader must know of the results: what was left out, and why."""
    parts = [more] if more else []
    if made < known:
        parts.append(f"Only {made} of {known} checks were selected.")
    parts += [
        f"{SECTIONS[section]} left out: {reason.rstrip('.')}."
        for section, reason in targets.left_out.items()
    ]
    return " ".join(parts)


def document(job: Job, outcomes: Sequence[Outcome], note: str, started_at: str) -> dict[str, Any]:
    """Return the content of `validation_results.json`; the time that it ends at is now."""
    release = job.parameters.release
    counted = Counter(outcome.verdict for outcome in outcomes)
    ordered = sorted(outcomes, key=lambda outcome: GROUPS.index(outcome.check.group))
    return {
        "schema": SCHEMA,
        "release": {"name": release.name, "version": release.version},
        "simulated": job.parameters.simulated,
        "note": note,
        "started_at": started_at,
        "ended_at": now(),
        "software": f"tars-ga {__version__}",
        "checks": [outcome.facts() for outcome in ordered],
        "counts": {verdict: counted[verdict] for verdict in ("pass", "warn", "fail", "no_data")},
    }


def junit(document: dict[str, Any]) -> bytes:
    """Write results as JUnit XML: a broken limit is a failure, and what has no data an error."""
    checks, counts = document["checks"], document["counts"]
    root = ElementTree.Element("testsuites", name="tars-ga validate")
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        name="validation",
        tests=str(len(checks)),
        failures=str(counts["fail"]),
        errors=str(counts["no_data"]),
        skipped="0",
        timestamp=document["started_at"],
    )
    for check in checks:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=check["group"],
            name=check["id"],
            time=f"{check['took_seconds']:.3f}",
        )
        properties = ElementTree.SubElement(case, "properties")
        for name in sorted(check.keys() - {"id", "title", "group", "interval"}):
            value = "" if check[name] is None else clean(check[name])
            ElementTree.SubElement(properties, "property", name=name, value=value)
        if check["verdict"] in ("fail", "no_data"):
            problem = ElementTree.SubElement(
                case,
                "failure" if check["verdict"] == "fail" else "error",
                message=clean(tables.why(check)),
                type=check["cause"] or check["verdict"],
            )
            problem.text = "\n".join(map(clean, tables.lines(check).splitlines()))
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'.encode()
