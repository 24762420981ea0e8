"""How pytest makes and shows the checks: one `Suite` is the pytest plugin of one validation.

A limit that is broken is a failure; a check that measured nothing is an error of its set-up, so
that JUnit and HTML tell the two apart, and is called NO DATA in the terminal.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from tars_ga_lib.display import CHIPS, quantity
from tars_ga_lib.grammar import ParametersError
from tars_ga_lib.recording import write_json
from tars_ga_lib.system import results, tables
from tars_ga_lib.system.checks import (
    GROUPS,
    Check,
    Outcome,
    Runner,
    Scope,
    checks_of,
    now,
)

Progress = Callable[[dict[str, Any], int, int], None]
"""Called with the facts of each outcome, how many there are, and how many there will be."""

CHECK = pytest.StashKey[Check]()
OUTCOME = pytest.StashKey[Outcome]()


class Suite:
    """The checks of a scope, as pytest collects and runs them.

    Parameters
    ----------
    dry_run
        List the checks, and ask nothing.
    note
        A remark for the results.
    file
        Where the results are written at the end, as JSON.
    progress
        Called after each check.
    """

    def __init__(
        self,
        scope: Scope,
        *,
        dry_run: bool = False,
        note: str = "",
        file: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.scope, self.dry_run, self.note, self.file = scope, dry_run, note, file
        self.progress = progress
        self.problem = ""
        self.selected: list[Check] = []
        self.outcomes: dict[str, Outcome] = {}
        self._known: dict[str, Check] = {}
        self._runner: Runner | None = None
        self._started_at = now()

    def document(self) -> dict[str, Any]:
        """Return the content of `validation_results.json`."""
        outcomes = list(self.outcomes.values())
        note = results.note(self.scope.targets, len(outcomes), len(self._known), self.note)
        return results.document(self.scope.job, outcomes, note, self._started_at)

    # --- collecting ---

    def pytest_configure(self, config: pytest.Config) -> None:
        """Name the markers."""
        for group in GROUPS:
            config.addinivalue_line("markers", f"{group}: checks of the running system ({group})")

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make an item of each check that a function makes."""
        checks = checks_of(metafunc.function, self.scope)
        for check in checks:
            if check.id in self._known:
                raise ParametersError(
                    f"validation: two checks would be named {check.id}; give them different names"
                )
            self._known[check.id] = check
        if "at" in metafunc.fixturenames:
            places = [pytest.param(check.place, id=check.id) for check in checks]
            metafunc.parametrize("at", places)

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Tie an item to its check."""
        declared = getattr(getattr(item, "function", None), "check", None)
        identity = item.callspec.id if hasattr(item, "callspec") else getattr(declared, "name", "")
        if check := self._known.get(identity):
            item.stash[CHECK] = check
            item.add_marker(check.group)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None, None, None]:
        """Leave out what makes no check here; keep in mind what `-k` and `-m` select."""
        strangers = [item for item in items if not hasattr(getattr(item, "obj", None), "check")]
        items[:] = [item for item in items if CHECK in item.stash]
        try:
            yield
            if strangers:
                raise pytest.UsageError(
                    f"{strangers[0].nodeid}: is a test, and no check; declare it with @check"
                )
        except pytest.UsageError as error:
            if config.pluginmanager.has_plugin("terminalreporter"):
                raise
            self.problem = str(error)
            items.clear()
        self.selected = [item.stash[CHECK] for item in items]

    def pytest_exception_interact(self, call: pytest.CallInfo[Any]) -> None:
        """Keep in mind why a file could not be collected."""
        if call.excinfo is not None and call.when == "collect":
            self.problem = self.problem or str(call.excinfo.value)

    # --- running ---

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Start all checks, or list them where only that is asked for."""
        if session.testsfailed:
            return None
        if not self.dry_run:
            targets, self._started_at = self.scope.targets, now()
            self._runner = Runner(self.selected, targets.check_timeout, targets.deadline)
            return None
        terminal: Any = session.config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None:
            terminal.ensure_newline()
            terminal.write_line(tables.listing([check.facts() for check in self.selected]))
        return True

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Get a check's outcome; without one there is nothing to call."""
        assert self._runner is not None
        check = item.stash[CHECK]
        outcome = self._runner.outcome(check)
        item.stash[OUTCOME] = self.outcomes[check.id] = outcome
        if self.progress:
            self.progress(outcome.facts(), len(self.outcomes), len(self.selected))
        if outcome.verdict == "no_data":
            pytest.fail(tables.lines(outcome.facts()), pytrace=False)

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool:
        """See that what was measured keeps its limit."""
        outcome = pyfuncitem.stash[OUTCOME]
        if outcome.verdict == "fail":
            pytest.fail(tables.lines(outcome.facts()), pytrace=False)
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Give a report its outcome, and the time that the check took, not that of waiting."""
        report = yield
        outcome = item.stash.get(OUTCOME, None)
        if outcome is not None:
            report.duration = outcome.took_seconds if call.when == "setup" else 0.0
            decisive = "setup" if outcome.verdict == "no_data" else "call"
            vars(report)["ga_outcome"] = outcome if call.when == decisive else None
        return report

    def pytest_sessionfinish(self) -> None:
        """Write the results."""
        if self.file is not None and self.outcomes:
            write_json(self.file, self.document())

    # --- the terminal ---

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> Any:
        """Call a check by its verdict where that is neither a pass nor a failure."""
        outcome: Outcome | None = getattr(report, "ga_outcome", None)
        looks = {"no_data": ("N", "NO DATA", "purple"), "warn": ("W", "WARN", "yellow")}
        if outcome is None or outcome.verdict not in looks:
            return None
        letter, word, colour = looks[outcome.verdict]
        return outcome.verdict, letter, (word, {colour: True})

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say what has no data, and what warns."""
        for verdict, title in (("no_data", "NO DATA"), ("warn", "WARNINGS")):
            facts = [o.facts() for o in self.outcomes.values() if o.verdict == verdict]
            if facts:
                terminalreporter.section(title)
            for one in facts:
                terminalreporter.write_line(f"{one['id']}\n  {tables.lines(one)}")

    # --- pytest-html ---

    @pytest.hookimpl(optionalhook=True)
    def pytest_metadata(self, metadata: dict[str, Any]) -> None:
        """Keep the machine out of the results: they are evidence about another."""
        metadata.clear()

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_header(self, cells: list[str]) -> None:
        """Show verdict, value and limit as columns."""
        columns = ("Verdict", "Check", "Value", "Limit", "Took")
        rank = '<th class="sortable" data-column-type="rank">Rank</th>'
        cells[1:] = [rank, *(f"<th>{column}</th>" for column in columns)]

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_row(self, report: Any, cells: list[str]) -> None:
        """Show what was measured: a row a check, whichever phase of pytest tells it."""
        outcome: Outcome | None = getattr(report, "ga_outcome", None)
        if outcome is None:
            cells.clear()
            return
        facts = outcome.facts()
        texts = (
            CHIPS[outcome.verdict].text,
            facts["id"],
            tables.value(facts),
            tables.limit(facts["limit"], facts["unit"]),
            quantity(outcome.took_seconds, "s"),
        )
        rank = f'<td class="col-rank">{tables.ORDER.index(outcome.verdict)}</td>'
        row = (f'<td class="{outcome.verdict}">{html.escape(text)}</td>' for text in texts)
        cells[1:] = [rank, *row]

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_html(self, report: Any, data: list[str]) -> None:
        """Show below each row what was asked, and what the value rests on."""
        outcome: Outcome | None = getattr(report, "ga_outcome", None)
        if outcome is not None:
            # pytest-html takes a line that begins with an E for an error's; a title may.
            data[:] = [html.escape(tables.lines(outcome.facts(), titled=False))]

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self, summary: list[str]) -> None:
        """Say first what the results are about."""
        texts = tables.about(self.document())
        summary += [_STYLE, *(f"<p>{html.escape(text)}</p>" for text in texts)]


# pytest-html filters by its own result, which has no word for no data, and sorts by cells as text.
# Its greys and reds are too pale to be read by everybody.
_STYLE = """<style>
body, a, #results-table, .logwrapper .log { color: #222; }
.collapse button { color: #222; }
.filters, .filter, #environment-header, #environment, .col-rank, .col-result,
#results-table th:nth-child(-n+2), .logwrapper .logexpander { display: none; }
#results-table td { overflow-wrap: anywhere; }
#results-table td.fail { color: #a40e26; }
#results-table td.no_data { color: #6639ba; }
#results-table td.warn { color: #7d4e00; }
.logwrapper { max-height: none; overflow: visible; background-color: #f6f6f6; }
.logwrapper .log { top: 0; height: auto; min-height: 0; padding-right: 5px; }
</style>"""
