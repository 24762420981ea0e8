"""How pytest makes and shows the suite: registered by `plugin` in `--ga-mode` only.

A limit that is broken is a failure; a check that measured nothing is an error of its set-up, so
that JUnit and HTML tell the two apart, and is called NO DATA in the terminal.
"""

from __future__ import annotations

import html
import json
import math
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tars_ga_lib.display import quantity
from tars_ga_lib.grammar import ParametersError
from tars_ga_lib.parameters import Job, load
from tars_ga_lib.recording import write_json
from tars_ga_lib.system import suite, words
from tars_ga_lib.system.check import Check, Outcome, now, targets_of
from tars_ga_lib.targets import ValidationTargets
from tars_ga_lib.wording import count


class _Session:
    """What one session of pytest validates, and what it found."""

    def __init__(self, config: pytest.Config) -> None:
        get = config.getoption
        if not get("ga_parameters"):
            raise ParametersError("--ga-mode: needs --ga-parameters FILE, the run's YAML file")
        # On the day itself the window is not over yet, so its end may lie in the future.
        self.job: Job = load(Path(get("ga_parameters")), get("ga_set"), now=math.inf)
        self.targets: ValidationTargets = targets_of(self.job)
        run = Path(get("ga_run")) if get("ga_run") else None
        self.checks: list[Check] = suite.build(self.job, run, get("ga_prometheus"))
        self.dry_run: bool = get("ga_dry_run")
        self.results: str | None = get("ga_results")
        self.note: str = get("ga_note")
        self.progress: bool = get("ga_progress")
        self.selected: list[Check] = []
        self.outcomes: dict[str, Outcome] = {}
        self.started_at = now()
        self.runner: suite.Runner | None = None
        self.exit_status = 0

    def tell(self, what: dict[str, Any]) -> None:
        """Tell the process that started this one, a line of JSON at a time."""
        if self.progress:
            # On a line of its own, whatever a driver printed before.
            sys.stdout.write(f"\n{json.dumps(what, allow_nan=False)}\n")
            sys.stdout.flush()

    def outcome(self, check: Check) -> Outcome:
        """Return a check's outcome; the first that is asked for starts them all."""
        if self.runner is None:
            targets = self.targets
            self.runner = suite.Runner(self.selected, targets.check_timeout, targets.deadline)
            self.started_at = now()
            self.runner.start()
        found = self.runner.outcome(check)
        self.outcomes[check.id] = found
        self.tell({"outcome": found.facts()})
        return found

    def document(self) -> dict[str, Any]:
        """Return the content of `validation_results.json`."""
        note = suite.note(self.targets, len(self.outcomes), len(self.checks), self.note)
        outcomes = [self.outcomes[c.id] for c in self.checks if c.id in self.outcomes]
        return suite.document(self.job, outcomes, note, self.started_at, now())


SESSION = pytest.StashKey[_Session]()
OUTCOME = pytest.StashKey[Outcome]()


def start(config: pytest.Config) -> None:
    """Read the parameters, build the checks and take over their showing.

    Raises
    ------
    ParametersError
        If the input is bad.
    """
    config.stash[SESSION] = _Session(config)
    config.pluginmanager.register(sys.modules[__name__], "tars-ga-hooks")
    config.pluginmanager.register(_Html(config), "tars-ga-html")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make an item of each check."""
    if "outcome" not in metafunc.fixturenames or not _ours(metafunc.definition):
        return
    session = metafunc.config.stash[SESSION]
    parameters = [
        pytest.param(check, id=check.id, marks=getattr(pytest.mark, check.group))
        for check in session.checks
    ]
    metafunc.parametrize("outcome", parameters, indirect=True)


def _ours(item: pytest.Item) -> bool:
    return item.path.parent == Path(__file__).parent


@pytest.fixture
def outcome(request: pytest.FixtureRequest) -> Outcome:
    """Give the outcome of a check; where nothing was measured, there is none."""
    check: Check = request.param
    found = request.config.stash[SESSION].outcome(check)
    request.node.stash[OUTCOME] = found
    facts = {**found.facts(), "value": found.value if found.value is not None else "NO DATA"}
    for name in (
        "verdict", "cause", "value", "unit", "limit", "target", "query", "region", "measured_at",
        "took_seconds", "reason",
    ):  # fmt: skip
        request.node.user_properties.append((name, "" if facts[name] is None else facts[name]))
    if found.verdict == "no_data":
        pytest.fail(words.lines(found.facts()), pytrace=False)
    return found


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep in mind which checks were selected; `-k` and `-m` have done their work."""
    session = config.stash.get(SESSION, None)
    if session is None:
        return
    session.selected = [
        item.callspec.params["outcome"]  # type: ignore[attr-defined]
        for item in items
        if _ours(item)
    ]
    session.tell({"selected": [_listed(check) for check in session.selected]})


def _listed(check: Check) -> dict[str, Any]:
    """Return what is known of a check before it is made."""
    return {
        "id": check.id,
        "title": check.title,
        "group": check.group,
        "target": check.target,
        "query": check.query,
        "limit": str(check.limit),
        "unit": check.unit,
    }


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """List instead of running, where only that is asked for."""
    ours = session.config.stash.get(SESSION, None)
    if ours is None or not ours.dry_run or session.testsfailed:
        return None
    terminal: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None:
        terminal.ensure_newline()
        for check in ours.selected:
            limit = words.limit(str(check.limit), check.unit)
            terminal.write_line(f"{check.id}\n  at: {check.target}\n  query: {check.query}")
            terminal.write_line(f"  limit: {limit}")
        terminal.write_line(f"{count(len(ours.selected), 'check')}; nothing was asked")
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give a report its outcome, and the time that the check took, not that of waiting for it."""
    report = yield
    found = item.stash.get(OUTCOME, None)
    if found is not None:
        report.duration = found.took_seconds if call.when == "setup" else 0.0
        vars(report)["ga_outcome"] = found
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport) -> Any:
    """Call a check by its verdict where that is neither a pass nor a failure."""
    found: Outcome | None = getattr(report, "ga_outcome", None)
    if found is not None and found.verdict == "no_data" and report.when == "setup":
        return "no_data", "N", ("NO DATA", {"purple": True})
    if found is not None and found.verdict == "warn" and report.when == "call":
        return "warn", "W", ("WARN", {"yellow": True})
    return None


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say what has no data, and what warns."""
    session = config.stash.get(SESSION, None)
    if session is None:
        return
    for verdict, title in (("no_data", "NO DATA"), ("warn", "WARNINGS")):
        found = [o for o in session.outcomes.values() if o.verdict == verdict]
        if found:
            terminalreporter.section(title)
        for each in found:
            terminalreporter.write_line(f"{each.check.id}\n  {words.lines(each.facts())}")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the results, and hand them to the process that started this one."""
    ours = session.config.stash.get(SESSION, None)
    if ours is None:
        return
    ours.exit_status = int(exitstatus)
    if ours.dry_run or not ours.outcomes:
        return
    document = ours.document()
    ours.tell({"document": document})
    if ours.results:
        write_json(Path(ours.results), document)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave at once where another process waits: a driver's thread that hangs would hold us up."""
    session = config.stash.get(SESSION, None)
    if session is not None and session.progress and session.outcomes:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(session.exit_status)


# --- pytest-html ---------------------------------------------------------------------------------

_COLUMNS = ("Verdict", "Check", "Value", "Limit", "Target", "Took")
_LOOKS = {
    "pass": ("PASS", "#1a7f37"),
    "warn": ("WARN", "#9a6700"),
    "fail": ("FAIL", "#cf222e"),
    "no_data": ("NO DATA", "#8250df"),
}
# pytest-html filters by its own result, which has no word for no data, and sorts by cells as text.
_STYLE = """<style>
#environment-header, #environment, .col-result, .col-rank { display: none; }
.col-check, .col-target { overflow-wrap: anywhere; }
.col-verdict { white-space: nowrap; }
.col-value, .col-limit, .col-took { white-space: nowrap; }
#results-table td { color: #333; }
.logwrapper { max-height: none; overflow: visible; }
.logwrapper .log { top: 0; height: auto; min-height: 0; padding-right: 5px; }
.logwrapper .logexpander { display: none; }
</style>"""


class _Html:
    """What pytest-html shows; registered in `--ga-mode` only, so that other reports stay theirs."""

    def __init__(self, config: pytest.Config) -> None:
        self._session = config.stash[SESSION]

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_report_title(self, report: Any) -> None:
        """Name the report, and what pytest calls an error."""
        report.title = "Validation of the running system"
        report.outcomes["error"]["label"] = "Without data"

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_header(self, cells: list[str]) -> None:
        """Show verdict, value and limit as columns."""
        cells[:] = [
            '<th class="sortable col-result" data-column-type="result">Result</th>',
            '<th class="sortable col-rank" data-column-type="rank">Rank</th>',
            *(f'<th class="col-{name.lower()}">{name}</th>' for name in _COLUMNS),
        ]

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_row(self, report: Any, cells: list[str]) -> None:
        """Show what was measured: a row a check, whichever phase of pytest tells it."""
        found: Outcome | None = getattr(report, "ga_outcome", None)
        if found is None:
            return
        if report.when != ("setup" if found.verdict == "no_data" else "call"):
            cells.clear()
            return
        check, (name, ink) = found.check, _LOOKS[found.verdict]
        texts = (
            check.id,
            words.value(found.facts()) if found.cause is None else found.cause.replace("_", " "),
            words.limit(str(check.limit), check.unit),
            check.target,
            quantity(found.took_seconds, "s"),
        )
        cells[:] = [
            cells[0],
            f'<td class="col-rank">{words.ORDER.index(found.verdict)}</td>',
            f'<td class="col-verdict"><b style="color:{ink}">{html.escape(name)}</b></td>',
            *(
                f'<td class="col-{column.lower()}">{html.escape(text)}</td>'
                for column, text in zip(_COLUMNS[1:], texts, strict=True)
            ),
        ]

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_html(self, report: Any, data: list[str]) -> None:
        """Show below each row what was asked, and what the value rests on."""
        found: Outcome | None = getattr(report, "ga_outcome", None)
        if found is not None:
            # pytest-html takes a line that begins with an E for an error's; a title may.
            data[:] = [html.escape(words.lines(found.facts(), titled=False))]

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self, summary: list[str]) -> None:
        """Say first what the results are about."""
        summary.append(_STYLE)
        texts = words.about(self._session.document())
        summary.extend(f"<p>{html.escape(text)}</p>" for text in texts)
