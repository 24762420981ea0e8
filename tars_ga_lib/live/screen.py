"""The screen of a watch: its state on 80 × 24 characters, and a snapshot as one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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

_Row = tuple[str, str, str, RenderableType]
"""Of the screen: a verdict, what it is of, its value, and what more there is to say."""

_TONES = {"pass": "green", "warn": "yellow", "fail": "red", "none": "magenta", "info": "blue"}


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
        """Draw it; each part has as many rows as fit into 24 lines."""
        watch, snapshot = self.watch, self.watch.snapshot
        yield _line(title(watch))
        yield self._progress()
        yield self._source()
        if snapshot is None:
            yield "no step is over yet"
        elif outlook := snapshot["outlook"]:
            decision = _toned(outlook["decision"])
            yield Text()
            yield _line(f"If it ended at {snapshot['step_end'][11:16]}: [bold]{decision}[/]")
            why = Text(outlook["why"])
            why.truncate(2 * options.max_width - 2, overflow="ellipsis")
            yield why
            body = Table.grid(padding=(0, 1), expand=True)
            for ratio in (None, None, 1, None, None):
                body.add_column(ratio=ratio, no_wrap=True, overflow="ellipsis")
            for name, most, rows in (
                ("criteria", 6, list(_criteria(outlook))),
                ("budget", 3, list(_budgets(outlook))),
                ("burning", 1, list(_burning(outlook))),
                ("drift", 3, list(_findings(outlook))),
                ("alerts", 2, list(_alerts(outlook))),
            ):
                more = f"[dim]+ {len(rows) - most} more[/]" if len(rows) > most else ""
                labels = (f"[bold]{name}[/]", more, *[""] * most)
                for label, row in zip(labels, rows[:most], strict=False):
                    body.add_row(label, *row)
            yield body
        for text in list(watch.problems.values())[:2]:
            yield _line(f"[red]![/] {escape(text)}")

    def _progress(self) -> RenderableType:
        watch, now = self.watch, self.watch.now()
        begins = watch.job.parameters.window.start - now
        if begins > 0:
            state = f"begins in {display.duration(round(begins))}"
        elif watch.over == watch.steps:
            state = "the last look"
        else:
            state = f"next in {display.duration(round(max(watch.next_at - now, 0)))}"
        line = Table.grid(padding=(0, 1), expand=True)
        for ratio in (None, 1, None):
            line.add_column(ratio=ratio, no_wrap=True)
        line.add_row(
            f"step {watch.over} of {watch.steps}, {format_duration(watch.step)} each",
            ProgressBar(total=watch.steps, completed=watch.over),
            state,
        )
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


def _toned(word: str) -> str:
    """Give a verdict, severity or decision its colour."""
    return f"[{_TONES[display.chip(word).tone]}]{escape(word)}[/]"


def _note(text: str, tone: str = "pass", value: str = "", more: str = "") -> _Row:
    """Return a row that begins with a sentence."""
    return "", f"[{_TONES[tone]}]{escape(text)}[/]", value, more


def _criteria(outlook: Mapping[str, Any]) -> Iterator[_Row]:
    rows = criteria_rows(outlook["criteria"])
    for row in sorted(rows, key=lambda row: (row.gravity[-1], not row.mandatory)):
        target = escape(row.target) + ("" if row.mandatory else " [dim]optional[/]")
        yield _toned(row.verdict), escape(row.title), escape(row.value), target


def _budgets(outlook: Mapping[str, Any]) -> Iterator[_Row]:
    if not outlook["slo"]:
        yield _note("no objectives are named", "info")
        return
    for objective in outlook["slo"]["objectives"].values():
        whole, name = objective["budget"]["whole_window"], escape(objective["title"])
        if not whole:
            yield _toned("no_data"), name, display.NO_DATA, ""
            continue
        left, minutes = 1 - whole["share_spent"], whole["minutes"]
        colour = "red" if left < 0 else "yellow" if left < 0.25 else "green"
        bar = ProgressBar(1.0, max(0.0, left), 14, complete_style=colour, finished_style=colour)
        used = f"{minutes['spent']:.1f} of {minutes['allowed']:.1f} min"
        yield f"[{colour}]{left:.0%} left[/]", name, used, bar


def _burning(outlook: Mapping[str, Any]) -> Iterator[_Row]:
    if outlook["slo"] and outlook["slo"]["firing"]:
        yield _note(", ".join(outlook["slo"]["firing"]), "fail")


def _compared(outlook: Mapping[str, Any]) -> int:
    """Return how many comparisons of the drift analysis had data."""
    counts = outlook["drift"]["counts"]
    return int(counts.get("evaluations", 0) - counts.get("missing", 0))


def _findings(outlook: Mapping[str, Any]) -> Iterator[_Row]:
    """Yield the worst finding of each rule: what hits a region hits all of its services."""
    analysis = outlook["drift"]
    rules = set()
    if not _compared(outlook):
        yield _note(display.NO_DATA, "none")
    elif not analysis["worst"]:
        missing = analysis["counts"]["missing"]
        blind = f"{missing} without data" if missing else ""
        yield _note("no finding so far", "pass", f"{_compared(outlook)} compared", blind)
    for finding in analysis["worst"]:
        if finding["rule"] in rules:
            continue
        rules.add(finding["rule"])
        points = "pp" if finding["unit"] == "ratio" else finding["unit"]
        unit = "ratio" if finding["measure"] == "relative" else points
        moved = display.quantity(finding["drift"], unit, digits=3, signed=True)
        sure = analysis["first_alarms"].get(finding["id"], "")
        yield (
            _toned(finding["verdict"]),
            escape(finding["name"]),
            "differs" if finding["measure"] == "exact" else moved,
            sure and f"sure since {sure[11:16]}",
        )


def _alerts(outlook: Mapping[str, Any]) -> Iterator[_Row]:
    alerts = outlook["alerts"]
    if alerts["reason"]:
        yield _note(f"{display.NO_DATA}: {alerts['reason']}", "none")
    elif not alerts["firing"]:
        blind = f"rules seen {alerts['known']:.0%}" if alerts["known"] < 1 else ""
        yield _note("none firing", "pass", f"{alerts['count']} so far", blind)
    for alert in () if alerts["reason"] else alerts["firing"]:
        where = " / ".join(filter(None, (alert["name"], alert["region"], alert["service"])))
        since = f"since {alert['start'][11:16]}"
        yield f"[red]{escape(alert['severity'])}[/]", escape(where), "", since
