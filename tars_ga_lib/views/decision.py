"""What decides: the banner, what went wrong, the criteria, evidence files and signatures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from IPython.display import Markdown

from tars_ga_lib import fingerprint
from tars_ga_lib.display import CHIPS, Decision, Identity, duration, md_escape, quantity, when
from tars_ga_lib.evidence_files import EVIDENCE_MODELS, SignOff, SignOffs
from tars_ga_lib.grammar import parse_time
from tars_ga_lib.intervals import runs
from tars_ga_lib.outages import available, target
from tars_ga_lib.run import Run
from tars_ga_lib.story import Story
from tars_ga_lib.tables import Column, frame
from tars_ga_lib.views.common import Facts, as_far_as_known, clock
from tars_ga_lib.views.drift import group_place, groups
from tars_ga_lib.views.sources import collection_table
from tars_ga_lib.wording import change, count, criteria_rows, place, why

if TYPE_CHECKING:
    import pandas as pd


def banner(run: Run, certification: Facts) -> Decision:
    """Show the decision, why, and what it is about."""
    release, window = run.job.parameters.release, run.recording.window
    return Decision(
        certification["decision"],
        why(certification),
        f"{release.name} {release.version}",
        window.start,
        window.stop,
        proof=fingerprint.lines(certification),
        simulated=run.recording.simulated,
    )


def identity(run: Run, certification: Facts) -> Identity:
    """Show what exactly was certified, who has signed, and how to check it."""
    parameters, recording = run.job.parameters, run.recording
    baselines = [f"{when(b.start)} to {when(b.stop)}" for b in recording.baselines]
    facts = [
        ("Signed", _signed_text(_signatures(run))),
        ("Build", parameters.release.digest or "NO DATA: the parameters name no digest"),
        ("Baseline", "; ".join(baselines) or "none"),
        ("Source", f"{recording.server} ({recording.version}), at {recording.collected_at}"),
        *(("Problem", text) for text in recording.problems),
        ("Software", certification["software"]["certified_by"]),
        ("Fingerprint", fingerprint.of(certification)),
        ("Check", "tars-ga verify ga_certification_package.tar.gz --replay"),
    ]
    return Identity(facts, fingerprint.lines(certification))


def impact(run: Run, analysis: Facts) -> Markdown:
    """Say how bad it was, for whom and since when: incidents, then critical drifts that lasted."""
    known = {e["id"]: e for e in analysis["evaluations"]}
    lines = []
    for incident in analysis["incidents"]:
        hit = [known[identity] for identity in incident["findings"]]
        services = {e["service"] for e in hit if e["service"]}
        every = run.job.parameters.services
        where = place(incident["region"], incident["service"])
        who = f"all {len(every)} services" if len(services) == len(every) else ""
        who = who or (count(len(services), "service") if services else "")
        times = "–".join(clock(incident[key], analysis) for key in ("began", "ended"))
        text = (
            "; ".join(_during(run, incident, hit)) or f"{count(len(hit), 'series', 'series')} hit"
        )
        severe = any(e["verdict"] == "fail" for e in hit)
        lines.append((severe, f"{where}, {times} UTC", f"{text} ({who})" if who else text))
    lines += [
        (True, f"{group[0]['title']}, {group_place(analysis, group)}", _lasted(group, analysis))
        for group in groups(analysis)
        if group[0]["verdict"] == "fail" and group[0]["kind"] != "incident"
    ]
    lines.sort(key=lambda line: not line[0])
    signs = {True: f"**{CHIPS['fail'].symbol}**", False: CHIPS["warn"].symbol}
    shown = [f"- {signs[s]} **{md_escape(w)}:** {md_escape(t)}." for s, w, t in lines[:6]]
    if len(lines) > len(shown):
        shown.append(f"- {len(lines) - len(shown)} more are on the next pages.")
    counts = analysis["counts"]
    none = "No incident and no critical drift was found."
    none = as_far_as_known(none, counts["missing"], counts["evaluations"])
    return Markdown("\n".join(shown) or f"- {md_escape(none)}")


def _during(run: Run, incident: Facts, hit: Sequence[Facts]) -> list[str]:
    """Write the figures of an incident's own minutes, each beyond its target or its rule."""
    window, where = run.recording.window, (incident["region"], incident["service"])
    first, last = (
        (int(parse_time(incident[key])) - window.start) // window.step for key in ("began", "ended")
    )
    found = []
    for name in ("error_rate", "availability", "latency_p99", *(e["kpi"] for e in hit)):
        kpi, limit = run.job.kpis.get(name), target(run.job, name)
        if kpi is None or (limit is None and name not in {e["kpi"] for e in hit}):
            continue
        value = run.kpis.during(name, first, last, *where)
        if value is None or (limit and limit.holds(value)):
            continue
        text = quantity(value, kpi.unit, limit=limit.value if limit else None, digits=2)
        known_words = {"error_rate": f"{text} of its requests failed"}
        found.append(known_words.get(name, f"{kpi.title} was {text}"))
    return list(dict.fromkeys(found))[:3]


def _lasted(group: Sequence[Facts], analysis: Facts) -> str:
    """Write how far off a lasting drift is, and since when."""
    e, begun = group[0], [e["began"] for e in group if e["began"]]
    since = f", since {clock(min(begun), analysis)} UTC" if begun else ""
    if e["measure"] == "exact":
        figures = (quantity(e[key], e["unit"]) for key in ("current", "baseline"))
        return "{} now, {} in the baseline".format(*figures) + since
    text = f"{change(e['drift'], e['measure'], e['unit'])} against the baseline"
    if e["kind"] == "trend":
        verb = "grows" if e["slope_per_hour"] > 0 else "falls"
        slope = quantity(abs(e["slope_per_hour"]), e["unit"], digits=3)
        return f"{verb} by {slope} an hour, {text}{since or ', all through the window'}"
    return f"{text}{since or ', all through the window'}"


def criteria_table(certification: Facts) -> pd.DataFrame:
    """Return every criterion with its verdict: failures first, the mandatory ones before others."""
    outcomes = certification["criteria"]
    order = sorted(zip(criteria_rows(outcomes), outcomes, strict=True), key=lambda o: o[0].gravity)
    rows = [
        [
            row.name,
            "waived" if row.waived else row.verdict,
            row.value,
            row.target,
            row.reason or ("" if row.verdict == "pass" else outcome["where"]),
        ]
        for row, outcome in order
    ]
    return frame(
        [
            "Criterion",
            Column("Verdict", "verdict"),
            Column("Measured", align="right"),
            Column("Target", align="right"),
            Column("Note", optional=True),
        ],
        rows,
        caption="Criteria",
    )


def certainty(run: Run, certification: Facts) -> Markdown:
    """Say how much of the data was seen, and what is not known for want of it."""
    names = list(run.job.kpis)
    covered = [f.coverage for name in names if (f := run.kpis.figure(name)).expected]
    silent = sum(share == 0 for share in covered)
    said = ["Every sample of every KPI was seen."]
    if not covered or silent == len(covered):
        said = ["Nothing was seen: no KPI has data."]
    elif min(covered) < 1:
        least = quantity(min(c for c in covered if c), "ratio")
        said = [f"At least {least} of the samples of each KPI were seen."]
        said += [f"{count(silent, 'KPI has', 'KPIs have')} no data at all."] if silent else []
    if gaps := _gaps(run):
        more = f" and {len(gaps) - 3} more" if len(gaps) > 3 else ""
        said.append(f"Not seen at all: {'; '.join(gaps[:3])}{more}.")
    unknown = [o["title"] for o in certification["criteria"] if o["verdict"] == "no_data"]
    if unknown:
        said.append(f"Not known for want of data: {', '.join(unknown)}.")
    return Markdown(md_escape(" ".join(said)))


def _gaps(run: Run) -> list[str]:
    """Write where and when nothing was seen, the longest first."""
    start, step = run.recording.window.start, run.recording.window.step
    found = [
        (b - a, f"{region or 'everything'}, {when(start + a * step)[11:16]}–"
         f"{when(start + b * step)[11:16]} UTC ({duration((b - a) * step)})")
        for region, values in available(run.kpis).items()
        for a, b in runs(np.isnan(values))
    ]  # fmt: skip
    return [text for _, text in sorted(found, key=lambda gap: -gap[0])]


_TERMS = {"immediate": "now", "short": "soon", "long": "later"}


def todo_table(told: Story, *terms: str, most: int = 12) -> pd.DataFrame:
    """Show what to do by when, with room for who does it; of some terms only, if they are given."""
    rows = [
        [_TERMS[a.term], a.text, "; ".join(a.answers[:1]), ""]
        for a in told.actions
        if not terms or a.term in terms
    ]
    columns: list[Column | str] = ["When", "What to do", "Because of", Column("Who", "blank")]
    return frame(
        columns,
        rows,
        caption="What to do",
        empty="No finding asks for an action.",
        most=most,
        rest="The appendix has the others.",
    )


def waiver_table(certification: Facts) -> pd.DataFrame:
    """Show who accepted which failure, why and until when."""
    waivers = [o["waiver"] for o in certification["criteria"] if o["waiver"]]
    rows = [[w["criterion"], w["who"], w["why"], w["until"]] for w in waivers]
    return frame(
        ["Criterion", "Who", "Why", "Until"], rows, caption="Waivers", empty="Nothing is waived."
    )


def evidence_table(run: Run) -> pd.DataFrame:
    """Show the facts that no metric holds, and the files that were not given."""
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
    text += f"approved by {', '.join(agreed)}" if agreed else "nobody has approved yet"
    return text + (f"; {count(missing, 'signature')} missing" if missing else "")


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
        kinds: dict[str, list[str]] = {}
        for what, name in run.job.left_out:
            kinds.setdefault(what, []).append(name)
        rows = [[what, str(len(names)), ", ".join(names)] for what, names in kinds.items()]
        left_out = frame(
            ["What", Column("Number", align="right"), "Names"],
            rows,
            caption="Left out by the parameters",
            note="Nothing is known of these: the parameters drop them, and what rests on them.",
        )
        found.insert(0, left_out)
    if any(o["waiver"] for o in certification["criteria"]):
        found.insert(0, waiver_table(certification))
    return [table for table in found if len(table)]


GLOSSARY = {
    "Baseline": "Earlier days without the release, with which the window is compared.",
    "Burn rate": "How fast an error budget is used; at 1 it lasts exactly its whole period.",
    "Coverage": "Samples seen, as a share of those that should be there.",
    "Criterion": "One target that the release must meet.",
    "Drift": "A lasting difference between window and baseline, in the bad direction.",
    "Error budget": "How much may go wrong while the objective is still met.",
    "Fingerprint": "Beginning of a SHA-256 over decision, recording and parameters.",
    "Incident": "Something that began and ended within the window.",
    "Inconclusive": "A mandatory criterion has no data; nothing is known to have failed.",
    "NO DATA": "Not measured, or too little to tell; never counted as good.",
    "P95, P99": "95 or 99 of 100 requests were faster than this.",
    "pp": "Percentage points: the difference of two percentages.",
    "Step": "The interval in which samples are taken together.",
    "Waiver": "A failure that somebody accepted, with a reason and an end.",
    "Window": "The period that is certified.",
}


def glossary_table() -> pd.DataFrame:
    """Explain the words that a reader of the report may not know."""
    return frame(["Word", "Meaning"], list(GLOSSARY.items()), caption="Words")
