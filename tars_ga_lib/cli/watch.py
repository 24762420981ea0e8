"""The command `watch`: a day as it goes by, in the terminal."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tars_ga_lib.cli.console import COLOURS, File, Overrides, err, out
from tars_ga_lib.grammar import format_duration, format_time, interval_text
from tars_ga_lib.wording import count

if TYPE_CHECKING:
    from tars_ga_lib.live.alarms import Teller
    from tars_ga_lib.live.watch import Watch

CRITERIA, BUDGETS, FINDINGS, ALERTS = 6, 3, 3, 2
"""How many of each are shown: all of it fits into 80 × 24."""


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
    from tars_ga_lib.live.watch import Watch

    folder = (output or pipeline.default_output(file)).resolve()
    pipeline.refuse_foreign(folder)
    stopped: list[int] = []
    with contextlib.ExitStack() as stack:
        with atomic.writing(folder, f"--output {folder}"):
            found = stack.enter_context(
                Watch(folder, lambda: parameters.load(file, overrides or [], running=True))
            )
        stack.enter_context(_signals(found, stopped))
        teller = _teller(found) if notify else None
        found.told = _listeners(teller)
        if out.is_terminal:
            stack.enter_context(Live(Screen(found), console=out, refresh_per_second=1))
        else:
            out.print(_title(found))
        over = found.run()
        if teller:
            teller.finish(60 if over else 5)
        if not over:
            _say_stopped(found, stopped)
        recording = found.save()
        found.status.phase = "over"
    if not certify:
        out.print(f"Recording: {escape(str(recording))}")
        return
    # Of a window that is over by the server's clock, this machine's may not know it yet.
    time.sleep(max(0.0, found.job.parameters.window.stop - time.time()))
    sets = [*(overrides or []), f"source.recording={recording}"]
    raise typer.Exit(_certify(file, folder, sets, ["--notify"] if notify else []))


@contextlib.contextmanager
def _signals(found: Watch, stopped: list[int]) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the watch once what was answered is written."""

    def stop(number: int, _: object) -> None:
        stopped.append(number)
        found.stop()

    numbers = signal.SIGINT, signal.SIGTERM
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say_stopped(found: Watch, stopped: Sequence[int]) -> None:
    status = found.status
    err.print(
        f"stopped at {format_time(time.time())} with {status.answered} of {status.steps} steps "
        "collected; run the same command again to go on"
    )
    raise typer.Exit(128 + stopped[0])


def _teller(found: Watch) -> Teller:
    from tars_ga_lib.channels import LOG
    from tars_ga_lib.cli.notify import channels_of
    from tars_ga_lib.live import alarms

    # With the rest of the watch: whoever goes on with it elsewhere knows who was told.
    return alarms.Teller(channels_of(found.job.channels), found.job.parameters, found.folder / LOG)


def _certify(file: Path, folder: Path, overrides: Sequence[str], flags: Sequence[str]) -> int:
    """Certify the recording as `tars-ga run` does, in a process of its own; return its code."""
    command = "from tars_ga_lib.cli import main; main()"
    sets = [part for each in overrides for part in ("--set", each)]
    process = subprocess.Popen(
        [sys.executable, "-c", command, "run", str(file), "--output", str(folder), *sets, *flags]
    )
    previous = signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGINT))
    try:
        while True:
            with contextlib.suppress(KeyboardInterrupt):  # a terminal's goes to both
                return process.wait()
    finally:
        signal.signal(signal.SIGTERM, previous)


def _title(found: Watch) -> str:
    release, window = found.job.parameters.release, found.job.parameters.window
    simulated = "[bold yellow]SIMULATED[/] " if found.job.parameters.simulated else ""
    name = escape(f"{release.name} {release.version}")
    return f"{simulated}[bold]{name}[/] {interval_text(window.start, window.stop)}"


def _listeners(teller: Teller | None) -> Callable[[dict[str, Any]], None]:
    """Return what hears of each snapshot: who tells others, and, without a screen, a line."""
    from tars_ga_lib.live.watch import sentence

    def hear(snapshot: dict[str, Any]) -> None:
        if teller:
            teller.hear(snapshot)
        if not out.is_terminal:
            out.print(escape(sentence(snapshot)))

    return hear


# --- the screen ----------------------------------------------------------------------------------


class Screen:
    """The state of a watch on 80 × 24 characters."""

    def __init__(self, found: Watch) -> None:
        self.found = found

    def __rich__(self) -> RenderableType:
        status = self.found.status
        snapshot = status.snapshot or {}
        seen = snapshot.get("outlook")
        head: list[RenderableType] = [_fit(_title(self.found)), self._progress(), self._source()]
        if not seen:
            return Group(
                *head, *_trouble(status), Text("no step is over yet" if not snapshot else "")
            )
        body = Table.grid(padding=(0, 1))
        body.add_column(min_width=8, no_wrap=True)
        body.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        for name, (shown, more) in {
            "criteria": _criteria(seen),
            "budget": _budgets(seen),
            "drift": _findings(seen),
            "alerts": _alerts(seen),
        }.items():
            rest = f"\n[dim]+ {more} more[/]" if more > 0 else ""
            body.add_row(f"[bold]{name}[/]{rest}", shown)
        return Group(*head, *_decision(snapshot, seen), body, *_trouble(status))

    def _progress(self) -> RenderableType:
        status = self.found.status
        line = Table.grid(padding=(0, 1), expand=True)
        for ratio in (None, 1, None):
            line.add_column(ratio=ratio, no_wrap=True)
        line.add_row(
            f"step {status.over} of {status.steps}, {format_duration(self.found.window.step)} each",
            ProgressBar(total=status.steps, completed=status.over),
            self._next(),
        )
        return line

    def _next(self) -> str:
        status, now = self.found.status, self.found.now()
        window = self.found.job.parameters.window
        if now < window.start:
            return f"begins in {_countdown(window.start - now)}"
        if status.phase == "over":
            return "over"
        if status.over == status.steps:
            return "the last look"
        return f"next in {_countdown(status.next_at - now)}"

    def _source(self) -> RenderableType:
        status = self.found.status
        if status.silent_since is not None:
            state = f"[red]source does not answer since {format_time(status.silent_since)}[/]"
        elif status.failing:
            failing = count(len(status.failing), "query", "queries")
            state = f"[yellow]source answers, but not {failing}[/]"
        else:
            state = "[green]source answers[/]"
        missing = status.over - status.answered
        gaps = f" · [yellow]{count(missing, 'step')} missing[/]" if missing > 0 else ""
        outlook = (status.snapshot or {}).get("outlook")
        share = f" · coverage {outlook['coverage']['samples']:.1%}" if outlook else ""
        return _fit(f"{state} {escape(self.found.url)}{gaps}{share}")


def _fit(markup: str) -> Text:
    text = Text.from_markup(markup)
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _countdown(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _decision(snapshot: dict[str, Any], seen: dict[str, Any]) -> list[RenderableType]:
    decision = seen["decision"]
    line = f"If it ended at {snapshot['step_end'][11:16]}: [bold {COLOURS[decision]}]{decision}[/]"
    why = Text(seen["why"], overflow="ellipsis")
    why.truncate(2 * out.width - 2, overflow="ellipsis")
    return [Text(), _fit(line), why]


_Shown = tuple[RenderableType, int]
"""A part of the screen, and how many rows were left out of it."""


def _rows() -> Table:
    table = Table.grid(padding=(0, 1))
    for _ in range(5):
        table.add_column(no_wrap=True)
    return table


def _cut(text: str, most: int) -> str:
    return escape(text if len(text) <= most else f"{text[: most - 1]}…")


def _criteria(seen: dict[str, Any]) -> _Shown:
    from tars_ga_lib.wording import criteria_rows

    rows = criteria_rows(seen["criteria"])
    ranked = sorted(rows, key=lambda row: (row.gravity[-1], not row.mandatory))
    table = _rows()
    for row in ranked[:CRITERIA]:
        table.add_row(
            f"[{COLOURS[row.verdict]}]{row.verdict}[/]",
            _cut(row.title, 33) + ("" if row.mandatory else " [dim](optional)[/]"),
            escape(row.value),
            f"[dim]{escape(row.target)}[/]",
        )
    return table, len(ranked) - CRITERIA


def _budgets(seen: dict[str, Any]) -> _Shown:
    if not seen["slo"]:
        return _fit("[dim]the parameters name no objectives (slos)[/]"), 0
    table = _rows()
    objectives = list(seen["slo"]["objectives"].values())
    for each in objectives[:BUDGETS]:
        whole = each["budget"]["whole_window"]
        if not whole:
            table.add_row(f"[{COLOURS['no_data']}]NO DATA[/]", "", _cut(each["title"], 24))
            continue
        left, minutes = 1 - whole["share_spent"], whole["minutes"]
        colour = "red" if left < 0 else "yellow" if left < 0.25 else "green"
        bar = ProgressBar(
            1.0, max(0.0, left), width=14, complete_style=colour, finished_style=colour
        )
        table.add_row(
            f"[{colour}]{left:.0%} left[/]", bar, _cut(each["title"], 24),
            f"[dim]{minutes['spent']:.1f} of {minutes['allowed']:.1f} min used[/]",
        )  # fmt: skip
    burning = seen["slo"]["firing"]
    if not burning:
        return table, len(objectives) - BUDGETS
    return Group(table, _fit(f"[red]burning[/] {escape(', '.join(burning))}")), 0


def _findings(seen: dict[str, Any]) -> _Shown:
    counts = seen["drift"]["counts"]
    known = counts.get("evaluations", 0) - counts.get("missing", 0)
    if not known:
        return _fit(f"[{COLOURS['no_data']}]NO DATA[/]"), 0
    if not seen["drift"]["worst"]:
        blind = f" [dim]({counts['missing']} without data)[/]" if counts["missing"] else ""
        return _fit(f"[green]no finding so far in {known} comparisons[/]{blind}"), 0
    # The worst of each rule: what hits a region hits all of its services.
    worst = {each["rule"]: each for each in reversed(seen["drift"]["worst"])}
    table, alarms = _rows(), seen["drift"]["first_alarms"]
    for each in [each for each in seen["drift"]["worst"] if each in worst.values()][:FINDINGS]:
        sure = alarms.get(each["id"])
        table.add_row(
            f"[{COLOURS[each['verdict']]}]{each['verdict']}[/]", _moved(each),
            _cut(each["name"], 37),
            f"[dim]sure since {sure[11:16]}[/]" if sure else "",
        )  # fmt: skip
    return table, seen["drift"]["counts"]["findings"] - table.row_count


def _moved(finding: dict[str, Any]) -> str:
    if finding["measure"] == "exact":
        return "differs"
    if finding["measure"] == "relative":
        return f"{finding['drift']:+.1%}"
    points = finding["unit"] == "ratio"
    return f"{100 * finding['drift']:+.2f} pp" if points else f"{finding['drift']:+.2g}"


def _alerts(seen: dict[str, Any]) -> _Shown:
    alerts = seen["alerts"]
    if alerts["reason"]:
        known = f"[{COLOURS['no_data']}]NO DATA[/]"
        return _fit(f"{known} [dim]{escape(alerts['reason'])}[/]"), 0
    if not alerts["firing"]:
        blind = f", rules seen in {alerts['known']:.0%} of the steps" if alerts["known"] < 1 else ""
        return _fit(f"[green]none firing[/] [dim]({alerts['count']} so far{blind})[/]"), 0
    table = _rows()
    for each in alerts["firing"][:ALERTS]:
        where = " / ".join(part for part in (each["region"], each["service"]) if part)
        table.add_row(
            f"[red]{escape(each['severity'])}[/]", _cut(each["name"], 24),
            _cut(where, 24),
            f"[dim]since {each['start'][11:16]}[/]",
        )  # fmt: skip
    return table, len(alerts["firing"]) - ALERTS


def _trouble(status: Any) -> Sequence[RenderableType]:
    texts = [
        status.cannot_write,
        status.problem,
        status.outlook_problem,
        status.job_problem,
    ]
    return [_fit(f"[red]![/] {escape(text)}") for text in texts if text][:2]
