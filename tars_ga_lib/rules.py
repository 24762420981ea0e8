"""Prometheus rules from the objectives, so that paging and certification share one definition.

For each objective they record the burn rates over the windows of `slo.ALERTS`, by region and over
all, and alert where both burn rates of a pair are too high. The expressions are the objectives' own
templates with the window in the place of the step. Names follow level:metric:operations.

What is sampled (a threshold's values, and time slices) is recorded once a step or a slice, so these
groups have an interval of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tars_ga_lib import __version__, slo
from tars_ga_lib.display import duration, quantity
from tars_ga_lib.grammar import ParametersError, format_duration
from tars_ga_lib.objectives import Objective
from tars_ga_lib.parameters import Job
from tars_ga_lib.queries import dimensions, resolve
from tars_ga_lib.recording import write_text

_NOT = {"lte": ">", "gte": "<", "lt": ">=", "gt": "<="}
GLOBAL = "global"

Rule = dict[str, Any]


def write(job: Job, path: Path) -> None:
    """Write the rules of a job's objectives as a rule file of Prometheus.

    Raises
    ------
    ParametersError
        If the run has no objectives.
    """
    write_text(path, text(job))


def text(job: Job) -> str:
    """Return the rule file.

    Raises
    ------
    ParametersError
        If the run has no objectives.
    """
    head = (
        f"# Written by tars-ga {__version__} from the objectives of {job.parameters.release.name} "
        "(tars-ga rules).\n# Change these, not this file.\n"
    )
    body = yaml.safe_dump({"groups": groups(job)}, sort_keys=False, allow_unicode=True, width=100)
    return head + body


def groups(job: Job) -> list[dict[str, Any]]:
    """Return the rule groups of every objective.

    Raises
    ------
    ParametersError
        If the run has no objectives.
    """
    if not job.slos:
        raise ParametersError(
            "slos: the run has no objectives to make rules of; name their file, like slos.yaml"
        )
    return [group for each in job.slos.values() for group in _Objective(job, each).groups()]


class _Objective:
    """The rules of one objective.

    `levels` maps each level of aggregation to the label that it keeps, if any.
    """

    def __init__(self, job: Job, objective: Objective) -> None:
        parameters = job.parameters
        if objective.service in parameters.services and "service" in objective.by:
            parameters = parameters.model_copy(update={"services": [objective.service]})
        self.objective = objective
        self.parameters = parameters
        self.by = dimensions(objective.kpi, parameters)
        self.levels = {"region": self.by["region"]} if "region" in self.by else {}
        self.levels |= {GLOBAL: ""}
        self.step = parameters.window.step

    def groups(self) -> Iterator[dict[str, Any]]:
        """Yield the groups: first what is sampled, then what is told from it."""
        name, each = f"slo-{self.objective.name}", self.objective
        if each.counts == "samples":
            rules = [self._record(self._sample_name, self._sample())]
            yield {"name": f"{name}-samples", "interval": format_duration(self.step),
                   "rules": rules}  # fmt: skip
        rules, interval = [], {}
        if each.slice_seconds:
            rules += [self._slice(level) for level in self.levels]
            interval = {"interval": format_duration(each.slice_seconds)}
        elif each.counts == "samples":
            interval = {"interval": format_duration(self.step)}
        for seconds in self._windows():
            for level in self.levels:
                rules += self._burn(level, seconds)
        rules += [self._alert(alert, level) for alert in self._alerts() for level in self.levels]
        rules.append(self._no_data())
        yield {"name": name, **interval, "rules": rules}

    def _alerts(self) -> list[slo.BurnAlert]:
        """Return the alerts that can fire, and whose windows are whole units of what is counted."""
        unit = self.objective.slice_seconds or (
            self.step if self.objective.counts == "samples" else 1
        )
        return [
            each
            for each in slo.ALERTS
            if not each.long % unit and not each.short % unit and each.possible(self.objective)
        ]

    def _windows(self) -> Sequence[int]:
        return sorted({seconds for each in self._alerts() for seconds in (each.long, each.short)})

    # --- recording rules ---

    def _record(self, record: str, expression: str) -> Rule:
        return {"record": record, "expr": expression, "labels": {"slo": self.objective.name}}

    def _recorded(self, record: str) -> str:
        return f'{record}{{slo="{self.objective.name}"}}'

    def _resolved(self, template: str, seconds: int) -> str:
        file = self.parameters.slos
        assert file is not None
        return resolve(template, self.by, self.parameters, file, seconds)

    def _sum(self, level: str, expression: str) -> str:
        label = self.levels[level]
        return f"sum by ({label}) ({expression})" if label else f"sum({expression})"

    def _events(self, seconds: int) -> tuple[str, str]:
        """Bad and all events over a window, for each series of which both parts are there."""
        part = self._resolved(self.objective.part, seconds)
        total = self._resolved(self.objective.total, seconds)
        bad = (
            f"({part}) and ({total})" if self.objective.counts == "bad" else f"({total}) - ({part})"
        )
        return bad, f"({total}) and ({part})"

    @property
    def _sample_name(self) -> str:
        return f"{'_'.join(self.by) or GLOBAL}:slo_bad_sample:bool"

    def _sample(self) -> str:
        """1 where a sample misses the threshold, 0 where it does not, nothing where it is none."""
        value = self._resolved(self.objective.value, self.step)
        finite = f"((({value}) < Inf) > -Inf)"
        return f"{finite} {_NOT[str(self.objective.op)]} bool {self.objective.threshold!r}"

    def _counted(self, level: str, seconds: int) -> tuple[str, str]:
        """Bad and all events or samples over a window, at a level."""
        if self.objective.counts == "samples":
            inside = f"{self._recorded(self._sample_name)}[{_within(seconds)}]"
            bad, total = f"sum_over_time({inside})", f"count_over_time({inside})"
        else:
            bad, total = self._events(seconds)
        return self._sum(level, bad), self._sum(level, total)

    def _slice(self, level: str) -> Rule:
        """1 for a slice that missed its share, 0 for another, nothing for one without traffic."""
        every = self.objective.slice_seconds or 0
        bad, total = self._counted(level, every)
        allowed = 1 - float(self.objective.slice_target or 0.0) + slo.ROUNDING
        expression = f"{bad} > bool {allowed!r} * ({total} > 0)"
        return self._record(f"{level}:slo_bad_slice:bool", expression)

    def _burn(self, level: str, seconds: int) -> list[Rule]:
        """Record bad and all over a window, and the burn rate."""
        length = format_duration(seconds)
        names = [f"{level}:slo_bad:sum{length}", f"{level}:slo_all:sum{length}"]
        if level == GLOBAL and len(self.levels) > 1 and not self.objective.slice_seconds:
            bad, total = (
                f"sum({self._recorded(name.replace(GLOBAL, 'region', 1))})" for name in names
            )
        elif self.objective.slice_seconds:
            inside = f"{self._recorded(f'{level}:slo_bad_slice:bool')}[{_within(seconds)}]"
            bad, total = f"sum_over_time({inside})", f"count_over_time({inside})"
            bad, total = self._sum(level, bad), self._sum(level, total)
        else:
            bad, total = self._counted(level, seconds)
        rate = (
            f"{self._recorded(names[0])} / {self._recorded(names[1])} / {self.objective.allowed!r}"
        )
        return [
            self._record(names[0], bad),
            self._record(names[1], total),
            self._record(_rate(level, seconds), rate),
        ]

    # --- alerting rules ---

    def _alert(self, alert: slo.BurnAlert, level: str) -> Rule:
        long, short = (
            f"{self._recorded(_rate(level, seconds))} > {alert.factor:g}"
            for seconds in (alert.long, alert.short)
        )
        return {
            "alert": self._name("BudgetBurn"),
            "expr": f"{long} and {short}",
            "for": format_duration(alert.hold),
            "labels": {
                "severity": alert.severity,
                "level": level,
                "long": format_duration(alert.long),
                "short": format_duration(alert.short),
            },
            "annotations": self._annotations(alert, level),
        }

    def _no_data(self) -> Rule:
        """Alert where nothing is measured any more: it is not good news."""
        longest = max(self._windows(), default=0)
        first = min((s for s in self._windows() if s >= slo.HOUR), default=longest)
        return {
            "alert": self._name("NoData"),
            "expr": f"absent({self._recorded(_rate(GLOBAL, first))})",
            "for": "15m",
            "labels": {"severity": "ticket", "level": GLOBAL},
            "annotations": {
                "summary": f"{_plain(self.objective.title)}: no data",
                "description": (
                    f"Nothing of this objective was seen in the last {format_duration(first)}, so "
                    "nobody knows what its budget does."
                ),
                **self._runbook(),
            },
        }

    def _name(self, what: str) -> str:
        words = self.objective.name.split("-")
        return "".join(word[:1].upper() + word[1:] for word in words if word) + what

    def _annotations(self, alert: slo.BurnAlert, level: str) -> dict[str, str]:
        label = self.levels[level]
        where = f" in {{{{ $labels.{label} }}}}" if label else ""
        times = "more" if alert.factor == 1 else f"more than {alert.factor:g} times as much"
        than = "than" if alert.factor == 1 else "as"
        target = quantity(self.objective.target, "ratio")
        window = self.objective.window
        lasts = ""
        if window is not None and window.duration.seconds:
            left = duration(window.duration.seconds / alert.factor)
            lasts = f" At this rate the whole budget of {window.duration.text} is spent in {left}."
        return {
            "summary": (
                f"{_plain(self.objective.title)}{where}: its error budget burns "
                "{{ $value | humanize }} times as fast as it may"
            ),
            "description": (
                f"Over the last {format_duration(alert.long)}, and over the last "
                f"{format_duration(alert.short)}, {times} was bad {than} the target of {target} "
                f"allows.{lasts}"
            ),
            **self._runbook(),
        }

    def _runbook(self) -> dict[str, str]:
        runbook = self.objective.runbook
        return {"runbook_url": _plain(runbook)} if runbook else {}


def _rate(level: str, seconds: int) -> str:
    return f"{level}:slo_burn_rate:ratio{format_duration(seconds)}"


def _within(seconds: int) -> str:
    """Range that holds each sample of a window once, on servers that count both of its ends too."""
    return f"{seconds - 1}s"


def _plain(words: str) -> str:
    """Keep the server from reading a user's words as a template."""
    return words.replace("{{", '{{ "{{" }}')
