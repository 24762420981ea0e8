"""Report fields of evidence files, and of the pipeline that made the run."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tars_ga_lib.display import duration, quantity, when
from tars_ga_lib.fields.values import (
    Found,
    Items,
    Known,
    NoDataError,
    Part,
    block,
    change_text,
    file_of,
    right,
)
from tars_ga_lib.grammar import format_time
from tars_ga_lib.parameters import MEASURED
from tars_ga_lib.tables import Column, frame

RIGHT = "right"
VALIDATION, SESSIONS = MEASURED["validation"], MEASURED["websocket"]
PACKAGE = "ga_certification_package.tar.gz"

Facts = Mapping[str, Any]


# --- evidence -------------------------------------------------------------------------------------


def deployment_status(known: Known) -> Found:
    """Say how the release was last deployed by the end of the window."""
    facts = known.given("deployments")
    stop = known.job.parameters.window.stop
    changes = [d for d in facts.deployments if d.kind != "configuration" and d.at < stop]
    if not changes:
        raise NoDataError("the deployments file names no deployment before the end of the window")
    last = max(changes, key=lambda d: d.at)
    done = {"rollback": "rolled back", "canary": "canary only"}.get(last.kind, "deployed")
    word = done if last.end is None or last.end <= stop else "in progress"
    if word == "deployed" and last.version not in (None, known.job.parameters.release.version):
        word = f"{last.version} deployed"
    where = f" in {last.region}" if last.region else ""
    text = f"{word}: {last.title}{where}, {when(last.at)}"
    return Found(word, text, file_of("deployments", facts))


def deployments_of(kind: str) -> Callable[[Known], Found]:
    """Count the deployments of a kind that began in the window."""

    def find(known: Known) -> Found:
        facts, window = known.given("deployments"), known.job.parameters.window
        count = sum(
            d.kind == kind and window.start <= d.at < window.stop for d in facts.deployments
        )
        return Found(count, source=file_of("deployments", facts))

    return find


def incidents(known: Known) -> tuple[Any, list[Any]]:
    """Return the incidents file, and those of its incidents that touch the window."""
    facts, window = known.given("incidents"), known.job.parameters.window
    inside = [
        each
        for each in facts.incidents
        if each.start < window.stop and (each.end is None or each.end > window.start)
    ]
    return facts, sorted(inside, key=lambda each: (each.severity, each.start))


def incident_count(*severities: str) -> Callable[[Known], Found]:
    """Count the incidents of some severities, or all."""

    def find(known: Known) -> Found:
        facts, inside = incidents(known)
        count = sum(not severities or each.severity in severities for each in inside)
        return Found(count, source=file_of("incidents", facts))

    return find


def response_time(known: Known) -> Found:
    """Return the mean time from an incident's start to its acknowledgement."""
    facts, inside = incidents(known)
    waits = [each.acknowledged - each.start for each in inside if each.acknowledged is not None]
    if not waits:
        why_not = "says when it was acknowledged" if inside else "was there"
        raise NoDataError(f"no incident {why_not}", file_of("incidents", facts))
    note = f"of {len(waits)} of {len(inside)} incidents" if len(waits) < len(inside) else ""
    return Found(sum(waits) / len(waits), source=file_of("incidents", facts), note=note)


def incident_table(known: Known) -> Found:
    """Show the incidents of the window."""
    facts, inside = incidents(known)
    rows = [
        [
            each.id,
            each.severity,
            each.title,
            each.region or "",
            when(each.start),
            "still open" if each.end is None else duration(each.end - each.start),
        ]
        for each in inside
    ]
    columns: list[Column | str] = ["Incident", "Severity", "What", "Where", "Since", "For"]
    table = frame(columns, rows, empty="The incidents file names none in the window.")
    return block(table, source=file_of("incidents", facts))


def incident_notes(key: str) -> Callable[[Known], Found]:
    """List what the incidents file says of each incident: its root cause, or its remediation."""

    def find(known: Known) -> Found:
        facts, inside = incidents(known)
        source, missing = file_of("incidents", facts), f"no {key.replace('_', ' ')} is given"
        if not inside:
            return block(Items(["The incidents file names none in the window."]), source=source)
        items = [f"{each.id}: {getattr(each, key) or missing}" for each in inside]
        return block(Items(items), source=source)

    return find


def compared_rows(compared: Sequence[Any]) -> list[list[object]]:
    """Write what was measured before and after."""
    return [
        [
            each.title,
            quantity(each.before, each.unit),
            quantity(each.after, each.unit),
            change_text(each.before, each.after, each.unit),
        ]
        for each in compared
    ]


def fix(identity: str) -> Callable[[Any], Found]:
    """Show how one fix of the release was validated."""

    def read(facts: Any) -> Found:
        named = [each for each in facts.fixes if each.id == identity]
        if not named:
            raise NoDataError(f"the hotfix file does not name {identity}", file_of("hotfix", facts))
        parts: list[Part] = []
        for each in named:
            verdict = "validated" if each.successful else "NOT validated"
            said = f"{each.id}, {each.title}: {verdict} {when(each.validated_at)} by {each.method}"
            parts.append(Items([said]))
            if each.compared:
                columns: list[Column | str] = ["Measured", *right("Before", "After", "Change")]
                parts.append(frame(columns, compared_rows(each.compared)))
        return block(*parts)

    return read


def canary_summary(facts: Any) -> Found:
    """Say what the canary was and what was decided."""
    items = [
        f"{quantity(facts.traffic, 'ratio')} of the traffic for {duration(facts.duration)} from "
        f"{when(facts.start)}",
        f"Decision: {facts.decision}",
    ]
    return block(Items([*items, *([facts.summary] if facts.summary else [])]))


def canary_comparison(facts: Any) -> Found | None:
    """Show the canary beside the release that it was compared with."""
    if not facts.compared:
        return None
    columns: list[Column | str] = ["Measured", *right("Old release", "Canary", "Change")]
    return block(frame(columns, compared_rows(facts.compared)))


def canary_gates(facts: Any) -> Found | None:
    """Show the conditions that had to hold."""
    if not facts.gates:
        return None
    rows = [[g.title, "pass" if g.passed else "fail", g.value, g.target] for g in facts.gates]
    return block(frame(["Gate", Column("Verdict", "verdict"), *right("Value", "Target")], rows))


def gate_decision(facts: Any) -> Found:
    """Say what was decided after the canary, and how many gates held."""
    held = sum(gate.passed for gate in facts.gates)
    note = f"{held} of {len(facts.gates)} gates held" if facts.gates else ""
    return Found(facts.decision, note=note)


def load_test(facts: Any) -> Found:
    """Show a load test's scenarios."""
    rows = [
        [
            each.title,
            "pass" if each.successful else "fail",
            quantity(each.requests, ""),
            quantity(each.errors / each.requests if each.requests else None, "ratio"),
            quantity(each.p95, "s") if each.p95 is not None else None,
            quantity(each.p99, "s") if each.p99 is not None else None,
        ]
        for each in facts.scenarios
    ]
    columns: list[Column | str] = [
        "Scenario", Column("Verdict", "verdict"), *right("Requests", "Error rate", "P95", "P99"),
    ]  # fmt: skip
    note = f"{facts.tool}, {when(facts.tested_at)}"
    return block(frame(columns, rows, note=note))


def scan(facts: Any) -> Found:
    """Write a security scan."""
    found = f"{facts.critical} critical, {facts.high} high"
    more = f", {facts.patched} patched" if facts.patched is not None else ""
    return block(Items([f"{facts.scanner}, {when(facts.scanned_at)}: {found}{more}"]))


def scan_status(facts: Any) -> Found:
    """Say when the release was scanned, and what was found."""
    word = "clean" if not facts.critical + facts.high else "vulnerabilities found"
    text = f"scanned {when(facts.scanned_at)}: {facts.critical} critical, {facts.high} high"
    return Found(word, text)


def vulnerabilities(key: str, kpi: str) -> Callable[[Known], Found]:
    """Return the vulnerabilities of the release's scan or of what ran, whichever is more."""

    def find(known: Known) -> Found:
        found: dict[str, float] = {}
        reasons, coverage = [], None
        try:
            facts = known.given("security_scan")
            found[file_of("security_scan", facts)] = getattr(facts, key)
        except NoDataError as missing:
            reasons.append(str(missing))
        try:
            figure = known.figure(kpi)
            found[f"KPI {kpi}"], coverage = figure["value"], figure["coverage"]
        except NoDataError as missing:
            reasons.append(str(missing))
        if not found:
            raise NoDataError("; ".join(reasons))
        worst = max(found, key=lambda source: found[source])
        others = [f"{source} says {value:g}" for source, value in found.items() if source != worst]
        note = "; ".join(others) if len(set(found.values())) > 1 else ""
        return Found(
            found[worst],
            source=worst,
            coverage=coverage if worst.startswith("KPI") else None,
            note=note,
        )

    return find


TITLES = {
    "ENG_LEAD": "engineering lead",
    "RELEASE_MANAGER": "release manager",
    "QA_LEAD": "QA lead",
    "DEVOPS_LEAD": "DevOps lead",
    "SRE_LEAD": "SRE lead",
    "PM": "product manager",
    "VP_ENG": "VP of engineering",
}
"""Who signs, by the beginning of the fields' names."""

_ROLES = {
    "ENG_LEAD": ("engineeringlead", "englead", "leadengineer"),
    "RELEASE_MANAGER": ("releasemanager", "releaselead"),
    "QA_LEAD": ("qalead", "qualitylead", "qualityassurancelead"),
    "DEVOPS_LEAD": ("devopslead",),
    "SRE_LEAD": ("srelead", "sitereliabilitylead", "sitereliabilityengineeringlead"),
    "PM": ("pm", "productmanager"),
    "VP_ENG": ("vpeng", "vpengineering", "vpofengineering", "vicepresidentofengineering"),
}


def sign_off(role: str, key: str) -> Callable[[Any], Found]:
    """Return a role's name, word or date in the sign-off file."""

    def read(facts: Any) -> Found:
        source = file_of("sign_off", facts)
        signed = [
            each
            for each in facts.sign_offs
            if re.sub(r"[^a-z]", "", each.role.lower()) in _ROLES[role]
        ]
        if not signed:
            raise NoDataError(f"the sign_off file names no {TITLES[role]}", source)
        if key == "name":
            return Found(", ".join(each.name for each in signed), source=source)
        if key == "date":
            latest = max(each.at for each in signed)
            return Found(format_time(latest), when(latest), source)
        word = "approved" if all(each.approved for each in signed) else "refused"
        marks = [each.signature for each in signed if each.signature]
        return Found(word, note=", ".join(marks), source=source)

    return read


def rollback_status(facts: Any) -> Found:
    """Say whether the rollback test passed, when and where."""
    word = "passed" if facts.successful else "failed"
    where = f" in {facts.environment}" if facts.environment else ""
    return Found(word, f"{word}: {when(facts.tested_at)}{where}")


def rollback_plan(known: Known) -> Found:
    """Show where the plan is, and the test that it rests on."""
    items: list[str | tuple[str, str]] = []
    sources, reasons = [], []
    try:
        links = known.links()
        planned = links.of("rollback_plan")
        items += [(link.title, link.url) for link in planned]
        sources += [file_of("links", links)] if planned else []
        reasons += [] if planned else ["the links file names no rollback plan"]
    except NoDataError as missing:
        reasons.append(str(missing))
    try:
        facts = known.given("rollback")
        took = f" in {duration(facts.duration)}" if facts.duration else ""
        items.append(f"Rollback test {rollback_status(facts).text}{took}")
        sources.append(file_of("rollback", facts))
    except NoDataError as missing:
        reasons.append(str(missing))
    if not items:
        raise NoDataError("; ".join(reasons))
    return block(Items(items), source="; ".join(sources))


def linked(*kinds: str, own: Callable[[Known], Sequence[str]] | None = None) -> Any:
    """List the links of some kinds, after what the run itself holds of it."""

    def find(known: Known) -> Found:
        items: list[str | tuple[str, str]] = list(own(known) if own else [])
        source = "the run's folder" if items else ""
        try:
            links = known.links()
            found = links.of(*kinds)
            items += [(link.title, link.url) for link in found]
            if found:
                source = "; ".join(filter(None, [source, file_of("links", links)]))
            reason = f"the links file names no {kinds[0].replace('_', ' ')}"
        except NoDataError as missing:
            reason = str(missing)
        if not items:
            raise NoDataError(reason, "links file")
        return block(Items(items), source=source)

    return find


def log_retention(facts: Any) -> Found | None:
    """Return how long logs are kept, of several the shortest."""
    kept = [link.retention for link in facts.of("logs") if link.retention]
    return Found(min(kept)) if kept else None


def own_parameters(known: Known) -> list[str]:
    """Name the run's own configuration, which the package holds."""
    digest = known.run.digests["parameters"].removeprefix("sha256:")
    return [f"parameters/ of the evidence package, SHA-256 {digest}"]


def own_results(known: Known) -> list[str]:
    """Name the validation's own results, where there are some."""
    try:
        known.measured("validation")
    except NoDataError:
        return []
    names = ("validation_results.html", "validation_results.xml", VALIDATION)
    there = [name for name in names if (known.run.folder / name).is_file()]
    return [f"{', '.join(there)} of the evidence package"]


# --- the pipeline ---------------------------------------------------------------------------------


def _pipeline(known: Known, key: str, in_ci: Callable[[Mapping[str, str]], str]) -> Found:
    try:
        links = known.links()
        said = getattr(links.pipeline, key, None)
        if said:
            return Found(said, source=file_of("links", links))
        reason = "the links file names no pipeline"
    except NoDataError as missing:
        reason = str(missing)
    if known.beside is not None:
        if said := in_ci(known.beside):
            return Found(said, source="environment of the pipeline")
        raise NoDataError(f"{reason}, and no pipeline is known from the environment")
    raise NoDataError(f"{reason}; 'tars-ga fill' takes it from the environment of a pipeline")


def pipeline_run(known: Known) -> Found:
    """Return the pipeline's run, from the links file or the environment of CI."""
    return _pipeline(known, "run", lambda beside: beside.get("GITHUB_RUN_ID", ""))


def artifact_location(known: Known) -> Found:
    """Return where the pipeline left the package, from the links file or the environment of CI."""

    def in_ci(beside: Mapping[str, str]) -> str:
        parts = [
            beside.get(f"GITHUB_{key}", "").strip("/")
            for key in ("SERVER_URL", "REPOSITORY", "RUN_ID")
        ]
        return f"{parts[0]}/{parts[1]}/actions/runs/{parts[2]}#artifacts" if all(parts) else ""

    return _pipeline(known, "artifacts", in_ci)


def artifact_digest(known: Known) -> Found:
    """Return the SHA-256 of the evidence package; inside of it, where to find it."""
    name = f"{PACKAGE}.sha256"
    if known.beside is None:
        return Found(None, f"in {name}, beside the package", name)
    try:
        text = (known.run.folder / name).read_text(encoding="utf-8")
    except (OSError, ValueError):
        raise NoDataError(f"there is no {name} in the run's folder", name) from None
    match = re.match(r"([0-9a-f]{64})\b", text)
    if not match:
        raise NoDataError(f"{name} holds no SHA-256", name)
    return Found(match[1], source=name)
