"""The screen of a watch: its state on 80 × 24 characters, and a snapshot as one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tars_ga_lib import display
from tars_ga_lib.grammar import format_duration, format_time, interval_text
from tars_ga_lib.wording import count, criteria_rows

if TYPE_CHECKING:
    from tars_ga_lib.live.watch import Watch

CRITERIA, BUDGETS, FINDINGS, ALERTS = 6, 3, 3, 2
"""How many of each are shown: all of it fits into 80 × 24."""

_TONES = {"pass": "green", "warn": "yellow", "fail": "red", "none": "magenta", "info": "blue"}
_NO_DATA = f"[{_TONES['none']}]{display.NO_DATA}[/]"

_Part = tuple[list[tuple[RenderableType, ...]] | str, int]
"""The first rows of a part of the screen, or a line in their place; and how many rows there are."""


def sentence(snapshot: Mapping[str, Any]) -> str:
    """Write a snapshot as one line."""
    source, outlook, parts = snapshot["source"], snapshot["outlook"], []
    if outlook:
        parts.append(f"if it ended now: {outlook['decision']}")
        objectives = outlook["slo"]["objectives"].values() if outlook["slo"] else ()
        budgets = [(1 - spent["share_spent"], each["title"]) for each in objectives
                   if (spent := each["budget"]["whole_window"])]  # fmt: skip
        if budgets:
            parts.append("budget left {:.0%} ({})".format(*min(budgets)))
        counts, alerts = outlook["drift"]["counts"], outlook["alerts"]
        parts.append(f"{counts['findings']} findings" if _compared(outlook) else "drift NO DATA")
        firing = "NO DATA" if alerts["reason"] else f"{len(alerts['firing'])} firing"
        parts.append(f"alerts {firing}")
        parts.append(f"coverage {outlook['coverage']['samples']:.1%}")
    if not source["answers"]:
        parts.append(f"the source does not answer since {source['silent_since']}")
    elif source["answered_steps"] < snapshot["step"]:
        parts.append(f"{snapshot['step'] - source['answered_steps']} steps not answered whole")
    start = f"step {snapshot['step']}/{snapshot['steps']}, {snapshot['step_end']}"
    return f"{start}: " + "; ".join(parts or ["caught up with"])


def title(watch: Watch) -> str:
    """Write in markup what is watched."""
    release, window = watch.job.parameters.release, watch.job.parameters.window
    simulated = "[bold yellow]SIMULATED[/] " if watch.job.parameters.simulated else ""
    name = escape(f"{release.name} {release.version}")
    return f"{simulated}[bold]{name}[/] {interval_text(window.start, window.stop)}"


class Screen:
    """The state of a watch, as it is when it is drawn."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """Draw it."""
        watch, snapshot = self.watch, self.watch.snapshot
        yield _line(title(watch))
        yield self._progress()
        yield self._source()
        outlook = snapshot["outlook"] if snapshot else None
        if snapshot and outlook:
            yield Text()
            decision = _toned(outlook["decision"], f"[bold]{outlook['decision']}[/]")
            yield _line(f"If it ended at {snapshot['step_end'][11:16]}: {decision}")
            why = Text(outlook["why"])
            why.truncate(2 * options.max_width - 2, overflow="ellipsis")
            yield why
            body = Table.grid(padding=(0, 1))
            body.add_column(min_width=8, no_wrap=True)
            body.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
            parts = {"criteria": _criteria, "budget": _budgets, "burning": _burning,
                     "drift": _findings, "alerts": _alerts}  # fmt: skip
            if not (outlook["slo"] and outlook["slo"]["firing"]):
                del parts["burning"]
            for name, part in parts.items():
                body.add_row(*_part(name, *part(outlook)))
            yield body
        elif not snapshot:
            yield "no step is over yet"
        for text in list(watch.problems.values())[:2]:
            yield _line(f"[red]![/] {escape(text)}")

    def _progress(self) -> RenderableType:
        watch = self.watch
        line = Table.grid(padding=(0, 1), expand=True)
        for ratio in (None, 1, None):
            line.add_column(ratio=ratio, no_wrap=True)
        begins, until = watch.job.parameters.window.start - watch.now(), watch.next_at - watch.now()
        line.add_row(
            f"step {watch.over} of {watch.steps}, {format_duration(watch.step)} each",
            ProgressBar(total=watch.steps, completed=watch.over),
            f"begins in {display.duration(round(begins))}" if begins > 0
            else "the last look" if watch.over == watch.steps
            else f"next in {display.duration(round(max(until, 0)))}",
        )  # fmt: skip
        return line

    def _source(self) -> RenderableType:
        watch = self.watch
        if watch.silent_since is not None:
            state = f"[red]source does not answer since {format_time(watch.silent_since)}[/]"
        elif watch.failing:
            failing = count(len(watch.failing), "query", "queries")
            state = f"[yellow]source answers, but not {failing}[/]"
        else:
            state = "[green]source answers[/]"
        parts = [f"{state} {escape(watch.url)}"]
        if missing := max(0, watch.over - watch.answered):
            parts.append(f"[yellow]{count(missing, 'step')} missing[/]")
        if watch.snapshot and (outlook := watch.snapshot["outlook"]):
            parts.append(f"coverage {outlook['coverage']['samples']:.1%}")
        return _line(" · ".join(parts))


def _line(markup: str) -> Text:
    text = Text.from_markup(markup)
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _toned(word: str, markup: str | None = None) -> str:
    """Give a verdict, severity or decision its colour."""
    return f"[{_TONES[display.chip(word).tone]}]{markup or escape(word)}[/]"


def _cut(text: str, most: int) -> str:
    return escape(text if len(text) <= most else f"{text[: most - 1]}…")


def _part(name: str, rows: list[tuple[RenderableType, ...]] | str, of: int) -> Sequence[Any]:
    if isinstance(rows, str):
        return f"[bold]{name}[/]", _line(rows)
    table = Table.grid(padding=(0, 1))
    for row in rows:
        table.add_row(*row)
    more = f"\n[dim]+ {of - len(rows)} more[/]" if of > len(rows) else ""
    return f"[bold]{name}[/]{more}", table


def _criteria(outlook: Mapping[str, Any]) -> _Part:
    ranked = sorted(
        criteria_rows(outlook["criteria"]), key=lambda row: (row.gravity[-1], not row.mandatory)
    )
    return [
        (
            _toned(row.verdict),
            _cut(row.title, 33) + ("" if row.mandatory else " [dim](optional)[/]"),
            escape(row.value),
            f"[dim]{escape(row.target)}[/]",
        )
        for row in ranked[:CRITERIA]
    ], len(ranked)


def _budgets(outlook: Mapping[str, Any]) -> _Part:
    if not outlook["slo"]:
        return "[dim]the parameters name no objectives (slos)[/]", 0
    rows: list[tuple[RenderableType, ...]] = []
    objectives = list(outlook["slo"]["objectives"].values())
    for objective in objectives[:BUDGETS]:
        whole, title = objective["budget"]["whole_window"], _cut(objective["title"], 24)
        if not whole:
            rows.append((_NO_DATA, "", title))
            continue
        left, minutes = 1 - whole["share_spent"], whole["minutes"]
        colour = "red" if left < 0 else "yellow" if left < 0.25 else "green"
        bar = ProgressBar(1.0, max(0.0, left), 14, complete_style=colour, finished_style=colour)
        used = f"[dim]{minutes['spent']:.1f} of {minutes['allowed']:.1f} min used[/]"
        rows.append((f"[{colour}]{left:.0%} left[/]", bar, title, used))
    return rows, len(objectives)


def _burning(outlook: Mapping[str, Any]) -> _Part:
    return f"[red]{escape(', '.join(outlook['slo']['firing']))}[/]", 0


def _compared(outlook: Mapping[str, Any]) -> int:
    """Return how many comparisons of the drift analysis had data."""
    counts = outlook["drift"]["counts"]
    return int(counts.get("evaluations", 0) - counts.get("missing", 0))


def _findings(outlook: Mapping[str, Any]) -> _Part:
    analysis, compared = outlook["drift"], _compared(outlook)
    if not compared:
        return _NO_DATA, 0
    if not analysis["worst"]:
        missing = analysis["counts"]["missing"]
        blind = f" [dim]({missing} without data)[/]" if missing else ""
        return f"[green]no finding so far in {compared} comparisons[/]{blind}", 0
    # The worst of each rule: what hits a region hits all of its services.
    worst = {finding["rule"]: finding for finding in reversed(analysis["worst"])}
    rows: list[tuple[RenderableType, ...]] = []
    for finding in [one for one in analysis["worst"] if one in worst.values()][:FINDINGS]:
        sure = analysis["first_alarms"].get(finding["id"], "")
        rows.append((
            _toned(finding["verdict"]), _moved(finding), _cut(finding["name"], 37),
            sure and f"[dim]sure since {sure[11:16]}[/]",
        ))  # fmt: skip
    return rows, analysis["counts"]["findings"]


def _moved(finding: Mapping[str, Any]) -> str:
    if finding["measure"] == "exact":
        return "differs"
    points = "pp" if finding["unit"] == "ratio" else finding["unit"]
    unit = "ratio" if finding["measure"] == "relative" else points
    return display.quantity(finding["drift"], unit, signed=True)


def _alerts(outlook: Mapping[str, Any]) -> _Part:
    alerts = outlook["alerts"]
    if alerts["reason"]:
        return f"{_NO_DATA} [dim]{escape(alerts['reason'])}[/]", 0
    if not alerts["firing"]:
        blind = f", rules seen in {alerts['known']:.0%} of the steps" if alerts["known"] < 1 else ""
        return f"[green]none firing[/] [dim]({alerts['count']} so far{blind})[/]", 0
    return [
        (
            f"[red]{escape(alert['severity'])}[/]",
            _cut(alert["name"], 24),
            _cut(" / ".join(filter(None, (alert["region"], alert["service"]))), 24),
            f"[dim]since {alert['start'][11:16]}[/]",
        )
        for alert in alerts["firing"][:ALERTS]
    ], len(alerts["firing"])
