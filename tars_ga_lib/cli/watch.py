"""The command `watch`: a day as it goes by, in the terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.markup import escape

from tars_ga_lib.cli.console import File, Overrides, err, out
from tars_ga_lib.grammar import format_time


def watch(
    file: File,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the run; outputs/NAME of the parameters file if not given."),
    ] = None,
    overrides: Overrides = None,
    certify: Annotated[
        bool,
        typer.Option(
            "--certify/--no-certify", help="Certify when the window is over; else only collect."
        ),
    ] = True,
    notify: Annotated[
        bool,
        typer.Option(
            "--notify",
            help="Tell critical findings, spent budgets, lost data and the decision to those who "
            "asked for it.",
        ),
    ] = False,
) -> None:
    """Watch a window while it runs, step by step, and certify it when it is over.

    What was collected is kept in OUTPUT/watch. Stopped or killed, run the same command again: it
    goes on, and what was missed is collected afterwards.

    Exit codes: those of 'run' when the window is over (0 with --no-certify), 130 and 143 if it is
    stopped before by SIGINT or SIGTERM, 2 bad input, 1 an error of ours.
    """
    from tars_ga_lib import atomic, parameters, pipeline
    from tars_ga_lib.channels import LOG
    from tars_ga_lib.cli.notify import channels_of
    from tars_ga_lib.live import notify as notifications
    from tars_ga_lib.live import screen
    from tars_ga_lib.live.watch import Watch

    folder = (output or pipeline.default_output(file)).resolve()
    pipeline.refuse_foreign(folder)
    stopped: list[int] = []
    teller: notifications.Teller | None = None

    def load() -> parameters.Job:
        return parameters.load(file, overrides or [], running=True)

    def told(snapshot: dict[str, Any]) -> None:
        if teller:
            teller.hear(snapshot)
        if not out.is_terminal:
            out.print(escape(screen.sentence(snapshot)))

    def stop(number: int, _: object) -> None:
        stopped.append(number)
        day.stop()

    with contextlib.ExitStack() as stack:
        with atomic.writing(folder, f"--output {folder}"):
            day = Watch(folder, load, told=told)
        stack.callback(day.close)
        for number in (signal.SIGINT, signal.SIGTERM):
            stack.callback(signal.signal, number, signal.signal(number, stop))
        if notify:
            # With the rest of the watch: whoever goes on with it elsewhere knows who was told.
            channels = channels_of(day.job.channels)
            teller = notifications.Teller(channels, day.job.parameters, day.folder / LOG)
        if out.is_terminal:
            stack.enter_context(Live(screen.Screen(day), console=out, refresh_per_second=1))
        else:
            out.print(screen.title(day))
        over = day.run()
        if teller:
            teller.close(60 if over else 5)
        if not over:
            err.print(
                f"stopped at {format_time(time.time())} with {day.answered} of {day.steps} steps "
                "collected; run the same command again to go on"
            )
            raise typer.Exit(128 + stopped[0])
        recording = day.save()
    if not certify:
        out.print(f"Recording: {escape(str(recording))}")
        return
    # Of a window that is over by the server's clock, this machine's may not know it yet.
    time.sleep(max(0.0, day.job.parameters.window.stop - time.time()))
    sets = [*(overrides or []), f"source.recording={recording}"]
    sys.stdout.flush()
    # In place of this process: a certification needs nothing of the watch.
    os.execv(
        sys.executable,
        [sys.executable, "-m", "tars_ga_lib", "run", str(file), "--output", str(folder),
         *(part for one in sets for part in ("--set", one)), *(["--notify"] if notify else [])],
    )  # fmt: skip
