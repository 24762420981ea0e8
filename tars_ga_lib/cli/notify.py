"""The command `notify`: tell a run's decision, or its failure, to those who asked for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from tars_ga_lib import extras
from tars_ga_lib.channels import Apprise
from tars_ga_lib.cli.console import File, Overrides, err, out
from tars_ga_lib.grammar import ParametersError

if TYPE_CHECKING:
    from tars_ga_lib.channels import Channels
    from tars_ga_lib.live.notify import Event, Receipt
    from tars_ga_lib.parameters import Parameters

_MARKS = {
    "delivered": "[green]✓[/]",
    "duplicate": "[dim]=[/]",
    "held_back": "[yellow]…[/]",
    "failed": "[red]✗[/]",
}


def notify(
    file: File,
    folder: Annotated[
        Path | None,
        typer.Option("--run", help="Folder of the finished run; outputs/NAME if not given."),
    ] = None,
    failure: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Tell that the run failed, and why; no run is needed."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be sent, and send nothing.")
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Tell a finished run's decision to the channels of the parameters' `notify` file.

    What was delivered before is not sent again. Exit codes: 0 told to all, 3 a message was not
    delivered, 2 bad input.
    """
    from tars_ga_lib import parameters, pipeline
    from tars_ga_lib.live import notify as notifications
    from tars_ga_lib.run import Run

    told_by, given = parameters.whom_to_tell(file, overrides or [])
    channels = channels_of(given)
    target = folder or pipeline.default_output(file)
    if failure is not None:
        event = notifications.failure(told_by, failure)
    else:
        event = notifications.decision(Run(target).read("certification_metadata.json"))
    if dry_run:
        preview(channels, event)
        return
    receipts = notifications.tell(channels, event, notifications.log_of(target))
    show(receipts)
    raise typer.Exit(3 if any(one.status == "failed" for one in receipts) else 0)


def channels_of(given: Channels | None) -> Channels:
    """Return the channels of a run's parameters.

    Raises
    ------
    ParametersError
        If they name none, or one needs what is not installed.
    """
    if given is None:
        raise ParametersError(
            "notify: the parameters name no such file, so there is nobody to tell; add the key"
        )
    if any(isinstance(one.service, Apprise) for one in given.channels.values()) and (
        sentence := extras.missing("apprise")
    ):
        raise ParametersError(f"notify: {sentence}")
    return given


@contextlib.contextmanager
def told(channels: Channels | None, parameters: Parameters, folder: Path) -> Iterator[None]:
    """Tell whoever asked for it if what is done inside fails; None: nobody."""
    from tars_ga_lib.live import notify as notifications

    try:
        yield
    except Exception as error:
        if channels is not None and not isinstance(error, typer.Exit):
            event = notifications.failure(parameters, str(error))
            show(notifications.tell(channels, event, notifications.log_of(folder)))
        raise


def show(receipts: Sequence[Receipt], where: Console = out) -> None:
    """Print what became of an event, a line a channel; failures on the error stream."""
    for one in receipts:
        tries = f" after {one.attempts} attempts" if one.attempts > 1 else ""
        reason = f": {escape(one.reason)}" if one.reason else ""
        word = one.status.replace("_", " ")
        line = f"{_MARKS[one.status]} {escape(one.channel)} ({one.service}): {word}{tries}{reason}"
        (err if one.status == "failed" else where).print(line)


def preview(channels: Channels, event: Event) -> None:
    """Print what would be sent to whom; secrets stay unread."""
    for name, channel in channels.channels.items():
        service = type(channel.service).__name__.lower()
        wanted = event.kind in channel.events
        what = (
            f"[bold]{escape(event.heading)}[/] {escape(event.text)}"
            if wanted
            else "[dim]not asked for[/]"
        )
        out.print(f"{escape(name)} ({service}): {what}")
