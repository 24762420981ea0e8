"""Where it all came from: queries, samples, and the release before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tars_ga_lib.display import duration, quantity
from tars_ga_lib.evidence import history
from tars_ga_lib.run import Run
from tars_ga_lib.tables import Column, frame
from tars_ga_lib.views.common import Facts

if TYPE_CHECKING:
    import pandas as pd


def collection_table(run: Run, *, problems_only: bool = False) -> pd.DataFrame:
    """Show what each query brought: series, samples, and what went wrong."""
    rows = []
    for span, each in run.recording.provenance():
        trouble = "; ".join([each.error, *each.warnings, *each.infos]).strip("; ")
        if not trouble and not each.series and each.id != "alerts.firing":
            trouble = "the query returned nothing"
        if each.nonfinite:
            trouble = "; ".join(filter(None, [trouble, f"{each.nonfinite} samples not finite"]))
        if problems_only and not trouble:
            continue
        rows.append([each.id, span.name, each.series, each.samples, trouble])
    if problems_only:
        rows = _same_taken_together(rows)
    return frame(
        [
            "Query",
            "Span",
            Column("Series", align="right", unit="whole"),
            Column("Samples", align="right", unit="whole"),
            "Note",
        ],
        rows,
        caption="Problems of the collection" if problems_only else "What was collected",
        empty="Every query was answered, without a warning.",
    )


def _same_taken_together(rows: Sequence[list[Any]]) -> list[list[Any]]:
    """Make one row of many queries with the same trouble: a server that is down is told once."""
    found: dict[str, list[list[Any]]] = {}
    for row in rows:
        found.setdefault(row[-1], []).append(row)
    return [
        row if len(same) < 4 else [f"{len(same)} queries", "", "", "", trouble]
        for trouble, same in found.items()
        for row in (same if len(same) < 4 else same[:1])
    ]


def provenance_table(run: Run) -> pd.DataFrame:
    """Show each query that the figures rest on, with the digest of its samples."""
    rows = [
        [
            each.id,
            " ".join(each.template.split()),
            _seen(run, each.id),
            each.digest.removeprefix("sha256:")[:12],
        ]
        for span, each in run.recording.provenance()
        if span.name == "window"
    ]
    step = run.recording.window.step
    columns: list[Column | str] = [
        "Query",
        Column("PromQL", "code"),
        Column("Coverage", align="right"),
        Column("Samples", "code"),
    ]
    return frame(
        columns,
        rows,
        caption="Queries of the window",
        note=f"$step is {duration(step)}, $by the dimensions, and $match the regions and services "
        "of the run; recording/recording.json has every query as it was sent. The last column is "
        "the beginning of the SHA-256 of the samples.",
    )


def _seen(run: Run, identity: str) -> str:
    """Write the coverage of a query's KPI; alerts have none."""
    name = identity.partition(".")[0]
    return quantity(run.kpis.coverage(name), "ratio") if name in run.job.kpis else ""


def changes_since_previous(run: Run, certification: Facts, analysis: Facts) -> list[pd.DataFrame]:
    """Show what changed since the last certified release, if the run was given one."""
    previous = run.job.parameters.previous
    if previous is None:
        empty = "NO DATA: the last certified release was not given to this run."
        return [frame(["What", "Change"], [], caption="Last certified release", empty=empty)]

    now = history.facts_of(certification, run.read("ga_kpi_summary.json"), analysis)
    return history.tables(history.difference(history.facts(previous), now))
