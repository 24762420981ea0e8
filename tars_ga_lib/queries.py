"""The queries of a run: the templates of its KPIs and objectives, resolved for its regions,
services and step.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from string import Template

from tars_ga_lib.catalogues import Kpi
from tars_ga_lib.grammar import ParametersError, format_duration
from tars_ga_lib.parameters import Job, Parameters

EVALUATIONS = "alerts.evaluations"
FIRING = "alerts.firing"
TARGETS = "scrapes.targets"
SEEN = "scrapes.seen"
INTERVAL = "scrapes.interval"
"""Sample set of the seconds between two scrapes, which no query of the grid can tell."""

_COUNTER = re.compile(
    r"(?:increase|rate)\s*\(\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\{((?:[^{}\"]|\"(?:[^\"\\]|\\.)*\")*)\}"
    r"\s*\[\$step\]"
)


@dataclass(frozen=True)
class Request:
    """One query to be sent: its template, the labels of its dimensions, and the resolved text."""

    id: str
    template: str
    by: dict[str, str]
    query: str


def dimensions(kpi: Kpi, parameters: Parameters) -> dict[str, str]:
    """Label that names each dimension of a KPI's queries."""
    names = parameters.labels.model_dump() | kpi.labels
    return {str(dimension): names[dimension] for dimension in kpi.by}


def sample_count(kpi: Kpi) -> str | None:
    """Template of how many samples of a step the best-seen series of a KPI's counters has.

    None where the KPI is made of no counter, or of a query that is not understood.
    """
    text = kpi.population or kpi.denominator or kpi.buckets or kpi.increase or ""
    match = _COUNTER.search(text)
    if match is None:
        return None
    name, inside = match[1], match[2].strip()
    if kpi.kind == "histogram" and "le=" not in inside:
        inside = f'le="+Inf",{inside}'  # one edge stands for all of them
    return f"max by ($by) (count_over_time({name}{{{inside}}}[$step]))"


def needed(job: Job) -> dict[str, Kpi]:
    """KPIs that mandatory criteria and objectives rest on, by name; `slo:NAME` is an objective's.

    Those that only the drift criterion rests on are not among them.
    """
    names = {c.kpi for c in job.criteria.values() if c.kpi and c.mandatory}
    found = {name: kpi for name, kpi in job.kpis.items() if name in names}
    return found | {f"slo:{name}": objective.kpi for name, objective in job.slos.items()}


def _matchers(by: dict[str, str], parameters: Parameters) -> str:
    wanted = {"region": parameters.regions, "service": parameters.services}
    parts = []
    for dimension, label in by.items():
        pattern = "|".join(re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", n) for n in wanted[dimension])
        # What is escaped for the regular expression is escaped once more for PromQL's string.
        quoted = pattern.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        parts.append(f'{label}=~"{quoted}"')
    return ",".join(parts)


def resolve(
    template: str, by: dict[str, str], parameters: Parameters, file: object, step: int
) -> str:
    """Put the run's regions and services, and a step in seconds, into a template of a file.

    Raises
    ------
    ParametersError
        If it holds an unknown `$` mark.
    """
    try:
        text = Template(template).substitute(
            match=_matchers(by, parameters),
            by=", ".join(by.values()),
            step=format_duration(step),
            step_seconds=step,
        )
    except (KeyError, ValueError) as error:
        raise ParametersError(
            f"{file}: the query {template!r} has an unknown mark ({error}); "
            "use $match, $by, $step and $step_seconds, and write $$ for a dollar sign"
        ) from None
    return " ".join(text.split())


def requests(job: Job) -> list[Request]:
    """Return every query that the catalogue and the objectives ask for, each once.

    Raises
    ------
    ParametersError
        If a query holds an unknown `$` mark.
    """
    parameters = job.parameters
    step = parameters.window.step
    found: dict[tuple[str, ...], Request] = {}
    asked = [(name, kpi, parameters.kpis) for name, kpi in job.kpis.items()]
    if parameters.slos is not None:
        asked += [(f"slo:{name}", each.kpi, parameters.slos) for name, each in job.slos.items()]
    for name, kpi, file in asked:
        by = dimensions(kpi, parameters)
        for part, template in kpi.queries().items():
            key = (template, *by.values())
            if key not in found:
                query = resolve(template, by, parameters, file, step)
                found[key] = Request(f"{name}.{part}", template, by, query)

    def add(identity: str, template: str, by: dict[str, str]) -> None:
        key = (template, *by.values())
        if key not in found:
            query = resolve(template, by, parameters, parameters.kpis, step)
            found[key] = Request(identity, template, by, query)

    scraped = job.scrapes.dimensions(parameters.labels.model_dump())
    add(TARGETS, job.scrapes.targets, scraped)
    add(SEEN, job.scrapes.seen, scraped)
    for name, kpi in needed(job).items():
        counts = sample_count(kpi) if "service" in kpi.by else None
        if counts is not None:
            add(f"scrapes.{name}", counts, dimensions(kpi, parameters))
    if job.alerts:
        by = parameters.labels.model_dump()
        alerts = {FIRING: job.alerts.firing, EVALUATIONS: job.alerts.evaluations}
        for identity, template in alerts.items():
            query = resolve(template, by, parameters, parameters.kpis, step)
            found[(identity,)] = Request(identity, template, by, query)
    return list(found.values())
