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
from rich.table import Table

from tars_ga_lib.cli.console import COLOURS, Overrides, err, out, print_table
from tars_ga_lib.display import duration as period
from tars_ga_lib.display import quantity
from tars_ga_lib.grammar import ParametersError, check

if TYPE_CHECKING:
    from tars_ga_lib.endpoints import WebSocketTargets
    from tars_ga_lib.system.monitor import Glance

    Progress = Callable[[float, list[Glance]], None]

_STATES = {"up": "green", "down": "bold red", "forced": "cyan", "opening": "magenta"}


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
    from tars_ga_lib.system import monitor

    with _progress(targets, quiet) as progress:
        results = monitor.watch(
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
    raise typer.Exit(monitor.exit_code(results["verdict"]))


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


# --- progress ---------------------------------------------------------------------------------


@contextlib.contextmanager
def _progress(targets: WebSocketTargets, quiet: bool) -> Iterator[Progress | None]:
    """Show how it goes on: a live table on a terminal, else a line now and then."""
    if quiet:
        yield None
    elif err.is_terminal:
        from rich.live import Live

        with Live(console=err, auto_refresh=False, transient=True) as live:

            def draw(left: float, endpoints: list[Glance]) -> None:
                live.update(_table(left, endpoints, max(err.height - 6, 3)), refresh=True)

            yield draw
    else:
        yield _lines(targets.duration)


def _lines(whole: float) -> Progress:
    """Return what writes one line a minute, or ten in all where the watch is shorter."""
    every = min(60.0, whole / 10)
    told = time.monotonic()

    def line(left: float, endpoints: list[Glance]) -> None:
        nonlocal told
        if time.monotonic() - told < every or not endpoints:
            return
        told = time.monotonic()
        up = sum(each.state in ("up", "forced") for each in endpoints)
        low = min(endpoints, key=lambda each: 2.0 if each.uptime is None else each.uptime)
        text = f"{period(round(whole - left))} of {period(whole)}: {up} of {len(endpoints)} up"
        text += f"; lowest uptime {quantity(low.uptime, 'ratio')} ({low.name})"
        if low.problem:
            text += f": {low.problem}"
        err.print(escape(text))

    return line


def _table(left: float, endpoints: list[Glance], most: int) -> Table:
    """Return the live table: the endpoints that do worst, as many as fit."""
    table = Table(
        box=None,
        pad_edge=False,
        title=f"{period(left)} left; Ctrl-C ends the watch and writes what was seen",
        title_justify="left",
        title_style="dim",
    )
    table.add_column("endpoint", overflow="ellipsis", no_wrap=True, max_width=32)
    table.add_column("state", no_wrap=True)
    for heading in ("uptime", "last ping", "reconnects", "forced", "downtime"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", overflow="ellipsis", no_wrap=True, ratio=1)
    shown = endpoints
    if len(endpoints) > most:
        worst = sorted(
            endpoints,
            key=lambda each: (each.state != "down", 2.0 if each.uptime is None else each.uptime),
        )
        shown = worst[: most - 1]
    for each in shown:
        colour = _STATES[each.state]
        table.add_row(
            escape(each.name),
            f"[{colour}]{each.state}[/]",
            quantity(each.uptime, "ratio") if each.uptime is not None else "–",
            quantity(each.last_ping, "s", digits=3) if each.last_ping is not None else "–",
            str(each.reconnects),
            str(each.forced),
            period(round(each.down, 1)) if each.down else "0",
            f"[dim]{escape(each.problem)}[/]",
        )
    if hidden := len(endpoints) - len(shown):
        up = sum(each.state == "up" for each in endpoints)
        table.add_row(f"[dim]… {hidden} more; {up} of {len(endpoints)} up[/]")
    return table


def _show(results: dict[str, Any]) -> None:
    """Print the endpoints, and each limit that does not hold."""
    from tars_ga_lib.system.sessions import websocket_table
    from tars_ga_lib.wording import limit_text

    print_table(websocket_table(results))
    for endpoint in results["endpoints"]:
        told: dict[tuple[str, str], list[str]] = {}
        for each in endpoint["limits"]:
            if each["verdict"] != "pass":
                value = quantity(each["value"], each["unit"], limit=float(each["limit"].split()[1]))
                limit = limit_text(each["limit"], each["unit"])
                text = f"{each['title']} {value}, must be {limit}"
                told.setdefault((each["verdict"], each["reason"]), []).append(text)
        for (verdict, reason), texts in told.items():
            text = f"{endpoint['name']}: {'; '.join(texts)}" + (f" ({reason})" if reason else "")
            out.print(f"[{COLOURS[verdict]}]{verdict}[/] {escape(text)}")
    colour = COLOURS[results["verdict"]]
    out.print(f"[bold {colour}]{results['verdict']}[/]")
