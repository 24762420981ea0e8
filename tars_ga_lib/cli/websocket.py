"""The command `websocket`: hold sessions open, watch them, and judge what was seen."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.markup import escape

from tars_ga_lib.cli.console import COLOURS, Overrides, err, out, print_table
from tars_ga_lib.display import duration as period
from tars_ga_lib.display import quantity
from tars_ga_lib.grammar import ParametersError, check

if TYPE_CHECKING:
    from tars_ga_lib.endpoints import WebSocketTargets
    from tars_ga_lib.system.websocket import Glance

    Progress = Callable[[float, list[Glance]], None]


def websocket(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[PARAMETERS]",
            help="The run's YAML file, whose key 'websocket' names endpoints and limits.",
        ),
    ] = None,
    endpoint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]URL",
            help="Watch wss://… (or ws://…) instead. May be given several times.",
        ),
    ] = None,
    duration: Annotated[
        str | None, typer.Option(metavar="1h", help="How long; 1h if nothing else says.")
    ] = None,
    reconnect_every: Annotated[
        str | None, typer.Option(metavar="5m", help="Time between forced reconnects; 5m.")
    ] = None,
    ping_every: Annotated[
        str | None, typer.Option(metavar="10s", help="Time between pings; 10s.")
    ] = None,
    ping_timeout: Annotated[
        str | None, typer.Option(metavar="10s", help="Time in which a ping must be answered; 10s.")
    ] = None,
    output: Annotated[Path, typer.Option(help="File of the results.")] = Path(
        "ws_health_metrics.json"
    ),
    overrides: Overrides = None,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Mark the endpoints as simulated.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Hold WebSocket sessions open, and measure uptime, pings and reconnects.

    A limit that is broken fails; one that holds passes only if the whole
    time was watched. Ctrl-C or SIGTERM ends the watch and writes what was
    seen so far.

    Headers and tokens come from the environment: TARS_GA_WS_BEARER_TOKEN,
    TARS_GA_WS_HEADERS (a JSON object); for TLS, which is always verified,
    TARS_GA_CA_BUNDLE, TARS_GA_CLIENT_CERT and TARS_GA_CLIENT_KEY.

    Exit codes: 0 every limit of every endpoint holds, 3 a limit is broken,
    4 something was not measured, 2 bad input, 1 an error of ours.
    """
    given = {
        "duration": duration,
        "reconnect_every": reconnect_every,
        "ping_every": ping_every,
        "ping_timeout": ping_timeout,
    }
    changes = {key: value for key, value in given.items() if value is not None}
    targets, release, from_file = _asked(file, endpoint or [], overrides or [], changes)
    _writable(output)

    from tars_ga_lib import atomic
    from tars_ga_lib.system import websocket

    with _progress(targets, quiet) as progress:
        results = websocket.watch(
            targets,
            release=release,
            simulated=simulated or from_file,
            progress=progress,
            signals=True,
        )
    text = json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic.writing(output, f"--output {output}"), atomic.file(output) as stream:
        stream.write(text.encode())
    _show(results)
    out.print(f"Results: {escape(str(output))}")
    raise typer.Exit(websocket.exit_code(results["verdict"]))


def _asked(
    file: Path | None,
    endpoints: Sequence[str],
    overrides: Sequence[str],
    changes: dict[str, str],
) -> tuple[WebSocketTargets, dict[str, str] | None, bool]:
    """Return targets, release and whether they are simulated, from the file or the options."""
    from tars_ga_lib.endpoints import WebSocketTargets

    if (file is None) == (not endpoints):
        raise ParametersError(
            "tars-ga websocket: give either a run's PARAMETERS or --endpoint wss://…"
            + (", not both" if file else "")
        )
    if file is None:
        if overrides:
            raise ParametersError("--set: changes a run's PARAMETERS; name them, or take it out")
        raw = {"endpoints": _named(endpoints), **changes}
        return check(WebSocketTargets, raw, "tars-ga websocket"), None, False

    import math

    from tars_ga_lib import parameters

    # The window of the day that is being watched has not ended yet.
    job = parameters.load(file, overrides, now=math.inf)
    if job.websocket is None:
        raise ParametersError(
            f"{file}: the key 'websocket' is missing; add it, with a file of endpoints like "
            "parameters/websocket.yaml"
        )
    targets = job.websocket
    if changes:
        raw = targets.model_dump(mode="json") | changes
        targets = check(WebSocketTargets, raw, "tars-ga websocket")
    release = job.parameters.release
    return (
        targets,
        {"name": release.name, "version": release.version},
        job.parameters.simulated,
    )


def _named(given: Sequence[str]) -> dict[str, str]:
    """Return URLs by name: of those without one, the host is."""
    found: dict[str, str] = {}
    for text in given:
        match = re.fullmatch(r"(?:([^=:/?#@]+)=)?(.*)", text, re.DOTALL)
        name, url = (match[1], match[2]) if match else (None, text)
        if name is None:
            with contextlib.suppress(ValueError):
                name = urlsplit(url).netloc.rpartition("@")[2]
        name = name or "endpoint"
        if name in found:
            raise ParametersError(
                f"--endpoint: the name {name!r} is there twice; write them like NAME=wss://…"
            )
        found[name] = url
    return found


def _writable(output: Path) -> None:
    """See that the results can be written, before the long watch."""
    import os

    folder = output.absolute().parent
    if not folder.is_dir():
        raise ParametersError(f"--output {output}: there is no folder {folder}; make it first")
    if output.is_dir() or not os.access(folder, os.W_OK):
        raise ParametersError(f"--output {output}: cannot be written; choose another file")


@contextlib.contextmanager
def _progress(targets: WebSocketTargets, quiet: bool) -> Iterator[Progress | None]:
    """Show how it goes on: a line that changes on a terminal, else one a minute (or ten in all)."""
    if quiet:
        yield None
        return
    whole, told = targets.duration, time.monotonic()

    def line(left: float, endpoints: list[Glance]) -> None:
        nonlocal told
        if not endpoints:
            return
        text = escape(_glance(left, whole, endpoints))
        if err.is_terminal:
            status.update(text)
        elif time.monotonic() - told >= min(60.0, whole / 10):
            told = time.monotonic()
            err.print(text)

    with err.status("opening the sessions") as status:
        yield line


def _glance(left: float, whole: int, endpoints: list[Glance]) -> str:
    up = sum(endpoint.state in ("up", "forced") for endpoint in endpoints)
    low = min(endpoints, key=lambda each: 2.0 if each.uptime is None else each.uptime)
    text = f"{period(round(whole - left))} of {period(whole)}: {up} of {len(endpoints)} up"
    text += f"; lowest uptime {quantity(low.uptime, 'ratio')} ({low.name})"
    return f"{text}: {low.problem}" if low.problem else text


def _show(results: dict[str, Any]) -> None:
    """Print the endpoints, and each limit that does not hold."""
    from tars_ga_lib.system.tables import websocket_table
    from tars_ga_lib.wording import limit_text

    print_table(websocket_table(results))
    for endpoint in results["endpoints"]:
        for one in endpoint["limits"]:
            if one["verdict"] != "pass":
                value = quantity(one["value"], one["unit"], limit=float(one["limit"].split()[1]))
                limit = limit_text(one["limit"], one["unit"])
                text = f"{endpoint['name']}: {one['title']} {value}, must be {limit}"
                text += f" ({one['reason']})" if one["reason"] else ""
                out.print(f"[{COLOURS[one['verdict']]}]{one['verdict']}[/] {escape(text)}")
    colour = COLOURS[results["verdict"]]
    out.print(f"[bold {colour}]{results['verdict']}[/]")
