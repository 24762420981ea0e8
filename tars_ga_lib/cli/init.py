"""The command `init`: parameters for a server that nobody has described yet."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from tars_ga_lib.cli.console import err, out


def init(
    url: Annotated[str, typer.Argument(metavar="URL", help="A Prometheus HTTP API.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write, which must be new.")
    ] = Path("my_day"),
    name: Annotated[str, typer.Option(help="What is certified.")] = "my platform",
    version: Annotated[str, typer.Option(help="Its version.")] = "unnamed",
    region_label: Annotated[
        str | None, typer.Option(help="Label that names the region, if it is known.")
    ] = None,
    service_label: Annotated[
        str | None, typer.Option(help="Label that names the service, if it is known.")
    ] = None,
    requests: Annotated[
        str | None, typer.Option(help="Metric that counts requests, if it is none of those known.")
    ] = None,
    latency: Annotated[
        str | None, typer.Option(help="Metric of the buckets of their duration; with --requests.")
    ] = None,
) -> None:
    """Look at a server and write parameters for it: each choice with its reason.

    It asks for its metrics and days, for labels and values of the metrics that
    the catalogue and the profiles know, and each query at a few instants. What
    is not found is left out and listed.

    Exit codes: 0 written, 2 bad input or nothing to certify, 4 the server cannot be reached.
    """
    from tars_ga_lib import initial
    from tars_ga_lib.prometheus import SourceError

    given = {
        "region": region_label, "service": service_label, "requests": requests, "latency": latency,
    }  # fmt: skip
    try:
        found = initial.look(url, given, _ask if sys.stdin.isatty() else None)
        findings = initial.write(found, output, name=name, version=version)
    except SourceError as error:
        err.print(f"[red]error:[/] {escape(str(error))}")
        raise typer.Exit(4) from None
    chosen = ", ".join(f"{d} by {c.value}" for d, c in found.labels.items())
    out.print(f"Requests: {escape(found.requests.why)}; {escape(chosen)}")
    if found.unknown:
        some = escape(", ".join(found.unknown[:5]))
        out.print(f"[yellow]○[/] may count requests: {some}; if so, begin again with --requests")
    for dimension, members in found.members.items():
        out.print(f"{len(members)} {dimension}s: {escape(', '.join(members[:8]))}"
                  + (", …" if len(members) > 8 else ""))  # fmt: skip
    good = sum(each.ok for each in findings)
    out.print(f"[green]✓[/] {good} of {len(findings)} queries answer for all of them")
    for each in [each for each in findings if not each.ok][:8]:
        out.print(f"[yellow]○[/] {escape(each.request.id)}: {escape(each.problem)}")
    out.print(
        f"{len(found.left_out)} KPIs were not found and are left out; differences.yaml lists them"
    )
    # As it can be typed here: the script may not be on the path.
    command = "tars-ga" if shutil.which("tars-ga") else escape(sys.argv[0])
    out.print(
        f"Written: {escape(str(output))}. Next:\n  {command} run {escape(str(output / 'run.yaml'))}"
    )


def _ask(question: str, several: Sequence[str]) -> str:
    """Ask which of several is meant; the first is taken by Enter."""
    err.print(f"{escape(question)} {escape(', '.join(several))}")
    while (given := typer.prompt("label", default=several[0], err=True)) not in several:
        err.print("one of these, please")
    return str(given)
