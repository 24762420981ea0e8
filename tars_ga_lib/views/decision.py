"""What decides: the banner, the criteria, waivers, evidence files and signatures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from IPython.display import Markdown

from tars_ga_lib import fingerprint
from tars_ga_lib.display import Decision, duration, md_escape, quantity, when
from tars_ga_lib.evidence_files import SignOff, SignOffs
from tars_ga_lib.kpis import Kpis
from tars_ga_lib.run import Run
from tars_ga_lib.sparks import MOST, Spark, breaks
from tars_ga_lib.tables import Column, frame
from tars_ga_lib.views.common import Facts
from tars_ga_lib.views.sources import collection_table
from tars_ga_lib.wording import count, limit_text, value_text, why

if TYPE_CHECKING:
    import pandas as pd


def banner(run: Run, certification: Facts) -> Decision:
    """Show the decision, what it is about and how complete its data is."""
    parameters, recording = run.job.parameters, run.recording
    window, baselines = recording.window, recording.baselines
    covered = [kpis.coverage for name in run.job.kpis if (kpis := run.kpis.figure(name)).expected]
    more = [("Baseline too", _interval(span.start, span.stop)) for span in baselines[1:]]
    problems = [("Problem", text) for text in recording.problems]
    signed = ("Signed", _signed_text(_signatures(run)))
    software = ("Software", certification["software"]["certified_by"])
    return Decision(
        certification["decision"],
        why(certification),
        release=parameters.release.name,
        version=parameters.release.version,
        digest=parameters.release.digest or "",
        start=window.start,
        end=window.stop,
        baseline=(baselines[0].start, baselines[0].stop) if baselines else None,
        source=f"{recording.server} ({recording.version}), collected {recording.collected_at}",
        coverage=_coverage_text(covered),
        facts=[_binding(certification), *more, *problems, signed, software],
        proof=fingerprint.lines(certification),
        simulated=recording.simulated,
    )


def _interval(start: int, stop: int) -> str:
    return f"{when(start)} to {when(stop)}"


def _coverage_text(covered: Sequence[float]) -> str:
    if not covered:
        return "NO DATA"
    worst = sum(c < 1 for c in covered)
    known = sum(c > 0 for c in covered)
    if known == len(covered) and not worst:
        return f"complete for all {known} KPIs"
    return (
        f"{known} of {len(covered)} KPIs have data, the least complete "
        f"{quantity(min(covered), 'ratio')} of its samples"
    )


def _binding(certification: Facts) -> tuple[str, str]:
    """Name the criterion that decided; where none stands out, all did."""
    name = certification["binding_criterion"]
    found = [o for o in certification["criteria"] if o["name"] == name]
    if not found:
        mandatory = sum(o["mandatory"] for o in certification["criteria"])
        return "Decided by", f"all {mandatory} mandatory criteria together"
    target = limit_text(found[0]["target"], found[0]["unit"])
    return "Decided by", f"{found[0]['title']}: {value_text(found[0])}, target {target}"


def criteria_table(certification: Facts, run: Run | None = None) -> pd.DataFrame:
    """Return every criterion with its verdict, the mandatory ones first.

    With the run, each criterion on a KPI has a sparkline of its series over the window.
    """
    rows = []
    for outcome in sorted(certification["criteria"], key=lambda o: not o["mandatory"]):
        note = [] if outcome["mandatory"] else ["optional"]
        note += [part for part in (outcome["where"], outcome["reason"]) if part]
        if outcome["verdict"] == "warn" and not outcome["reason"]:
            note.append(f"warning limit {limit_text(outcome['warning'], outcome['unit'])}")
        rows.append(
            [
                outcome["title"],
                "waived" if outcome["waiver"] else outcome["verdict"],
                _spark(run, outcome) if run else None,
                outcome["value"],
                outcome["unit"],
                float(outcome["target"].split()[1]),
                limit_text(outcome["target"], outcome["unit"]),
                "" if outcome["coverage"] is None else quantity(outcome["coverage"], "ratio"),
                outcome["mandatory"],
                "; ".join(note),
            ]
        )
    columns: list[Column | str] = [
        "Criterion",
        Column("Verdict", "verdict"),
        Column("Window", "spark", optional=True),
        Column("Value", align="right", unit_from="unit", limit_from="limit"),
        Column("Unit", hidden=True),
        Column("Limit", hidden=True),
        Column("Target", align="right"),
        Column("Coverage", align="right"),
        Column("Mandatory", hidden=True),
        Column("Note", optional=True),
    ]
    key = "Window: the figure of each step; dashed: the target; red and underlined: steps beyond "
    key += "it; grey: no data. The verdict is on the figure of the whole window."
    drawn = any(row[2] for row in rows)
    return frame(columns, rows, caption="Criteria", note=key if drawn else "")


def _spark(run: Run, outcome: Facts) -> Spark | None:
    """Draw the series that a criterion's value was taken from; None where it has no series."""
    criterion = run.job.criteria.get(outcome["name"])
    if criterion is None or criterion.kpi is None or criterion.kpi not in run.job.kpis:
        return None
    kpi, window = run.job.kpis[criterion.kpi], run.recording.window
    series = run.kpis.series(criterion.kpi, *_place_of(run.kpis, criterion.kpi, outcome["where"]))
    operator, limit = criterion.limit.operator, float(criterion.limit.value)
    # a limit on the total of a window is none for each of its steps, unless it is nothing at all
    stepwise = kpi.kind != "counter" or kpi.per_second or limit == 0
    seen = np.flatnonzero(~np.isnan(series))
    if not seen.size:
        return Spark(series.tolist(), f"{outcome['title']}: no data.")
    worst = seen[np.argmin(series[seen]) if operator in (">=", ">") else np.argmax(series[seen])]
    said = (
        f"{outcome['title']}, step by step: worst {quantity(float(series[worst]), kpi.unit)} at "
        f"{when(window.times[worst])}"
    )
    if stepwise:
        failed = sum(breaks(float(value), limit, operator) for value in series[seen])
        said += f"; {failed} of {seen.size} steps beyond the target"
    if seen.size < series.size:
        said += f"; no data for {duration((series.size - seen.size) * window.step)}"
    if series.size > MOST:
        said += "; drawn as the worst of each stretch of steps"
    return Spark(series.tolist(), f"{said}.", limit if stepwise else None, operator)


def _place_of(kpis: Kpis, name: str, where: str) -> tuple[str | None, str | None]:
    """Return the region and service that a criterion names as `REGION, SERVICE`."""
    places: list[tuple[str | None, str | None]] = [(None, None)]
    places += [(region, None) for region in kpis.regions(name)]
    places += [(None, service) for service in kpis.services(name)]
    places += kpis.places(name)
    named = {", ".join(part for part in place if part): place for place in reversed(places)}
    return named.get(where, (None, None))


def waiver_table(certification: Facts) -> pd.DataFrame:
    """Show who accepted which failure, why and until when."""
    waivers = [o["waiver"] for o in certification["criteria"] if o["waiver"]]
    rows = [[w["criterion"], w["who"], w["why"], w["until"]] for w in waivers]
    return frame(
        ["Criterion", "Who", "Why", "Until"], rows, caption="Waivers", empty="Nothing is waived."
    )


def evidence_table(run: Run) -> pd.DataFrame:
    """Show the facts that no metric holds, and the files that were not given."""
    from tars_ga_lib.evidence_files import EVIDENCE_MODELS

    rows: list[list[object]] = []
    for kind in EVIDENCE_MODELS:
        facts = run.job.evidence.get(kind)
        given = None if facts is None else facts.source
        rows.append([kind, _facts_text(facts) if facts else None, given])
    return frame(
        ["Evidence", "What it says", "Source"],
        rows,
        caption="Evidence files",
        note="NO DATA: no such file was given to this run.",
    )


_NOUNS = {"fixes": ("fix", "fixes"), "compared": ("comparison", "comparisons")}
"""What the entries of a list are called, where its key does not say."""


def _facts_text(facts: Any) -> str:
    """Write the plain facts of an evidence file in one line."""
    raw = facts.model_dump(mode="json", exclude_none=True, exclude={"source", "simulated"})
    parts = []
    for key, value in raw.items():
        name = key.replace("_", " ")
        if isinstance(value, list):
            parts.append(count(len(value), *_NOUNS.get(key, (name.removesuffix("s"), name))))
        elif isinstance(value, dict):
            parts.append(f"{name} " + ", ".join(f"{k} {v}" for k, v in value.items()))
        else:
            parts.append(f"{name}: {_fact_text(facts, key, value)}")
    return "; ".join(parts) + (" (simulated)" if facts.simulated else "")


def _fact_text(facts: Any, key: str, value: object) -> str:
    """Write one fact: a share as a share of 100, yes and no as words, a count as it is."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)) and key in facts.SHARES:
        return quantity(value, "ratio")
    return str(value)


# --- signatures ---

ROLES = (
    "Engineering lead",
    "Release manager",
    "QA lead",
    "DevOps lead",
    "SRE lead",
    "Product manager",
    "VP Engineering",
)
"""Who signs a release."""

_ALIASES = {"eng lead": "engineering lead", "pm": "product manager", "vp eng": "vp engineering",
            "vp of engineering": "vp engineering"}  # fmt: skip


def _sign_offs(run: Run) -> tuple[SignOffs | None, str]:
    """Return the signatures that count for this release, and where they are from, or why none."""
    given, parameters = run.job.evidence.get("sign_off"), run.job.parameters
    if not isinstance(given, SignOffs):
        return None, "No sign-off file was given to this run."
    source = f"{given.source}{' (simulated)' if given.simulated else ''}"
    if given.release != parameters.release.version:
        return None, f"The sign-off file ({source}) is for {given.release}: nobody signed this one."
    if given.simulated and not parameters.simulated:
        return None, f"The sign-off file ({source}) says that it is simulated, and this run is not."
    return given, f"From the sign-off file ({source}), for release {given.release}."


def _signatures(run: Run) -> list[tuple[str, SignOff | None]]:
    """Return each role with its signature for this release; other roles that signed come last."""
    given, _ = _sign_offs(run)
    if given is None:
        return [(role, None) for role in ROLES]
    found: list[tuple[str, SignOff | None]] = []
    for role in ROLES:
        own = [each for each in given.sign_offs if _role(each.role) == role.casefold()]
        found += [(role, each) for each in own] or [(role, None)]
    known = {role.casefold() for role in ROLES}
    found += [(each.role, each) for each in given.sign_offs if _role(each.role) not in known]
    return found


def _role(text: str) -> str:
    """Read `SRE_Lead`, `sre-lead` and `SRE lead` as one role."""
    role = re.sub(r"[\s_-]+", " ", text).strip().casefold()
    return _ALIASES.get(role, role)


def _signed_text(signatures: Sequence[tuple[str, SignOff | None]]) -> str:
    """Say on the first page who signed; a refusal before anything else."""
    refused = [role for role, each in signatures if each and not each.approved]
    agreed = [role for role, each in signatures if each and each.approved]
    text = f"REFUSED by {', '.join(refused)}; " if refused else ""
    missing = sum(each is None for _, each in signatures)
    text += f"approved by {', '.join(agreed)}" if agreed else "approved by nobody"
    return text + (f"; {missing} not signed" if missing else "")


def sign_off_table(run: Run) -> pd.DataFrame:
    """Show who signed and who refused, with a line for a pen where nobody has yet."""
    rows = [
        [role, each.name, "approved" if each.approved else "refused", when(each.at), ""]
        if each
        else [role, "", "not_signed", "", ""]
        for role, each in _signatures(run)
    ]
    columns: list[Column | str] = [
        "Role",
        Column("Name", "blank"),
        Column("Decision", "verdict"),
        Column("Date", "blank"),
        Column("Signature", "blank"),
    ]
    return frame(columns, rows, caption="Signatures", note=_sign_offs(run)[1])


def check_note(certification: Facts) -> Markdown:
    """Write how a reader of this report checks that it belongs to a package."""
    return Markdown(
        f"The fingerprint {md_escape(fingerprint.of(certification))}, on the first page and at the "
        "foot of each, is the beginning of the SHA-256 of the lines that the QR code holds: "
        "release, decision, and the digests of recording and parameters. "
        "`tars-ga verify ga_certification_package.tar.gz --replay` checks a package against its "
        "manifest, and computes its figures again; in a package that is whole, this prints the "
        f"fingerprint without any of our software:\n\n```\n{fingerprint.COMMAND}\n```"
    )


def notices(run: Run, certification: Facts) -> list[pd.DataFrame]:
    """Show what a reviewer must not overlook: waivers, and queries that went wrong."""
    found = [collection_table(run, problems_only=True)]
    if run.job.left_out:
        found.insert(0, frame(
            ["What", "Name"],
            [list(each) for each in run.job.left_out],
            caption="Left out by the parameters",
            note="Nothing is known of these: the parameters drop a KPI, and what rests on it.",
        ))  # fmt: skip
    if any(o["waiver"] for o in certification["criteria"]):
        found.insert(0, waiver_table(certification))
    return [table for table in found if len(table)]
