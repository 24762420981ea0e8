"""Do the agents keep within their memory, does it grow, and was one killed for it?

Three queries are asked over the certified window, once for all checks. Growth is the slope of a
pod's memory since its longest stretch without a restart began, with an interval that allows for
autocorrelation (`tars_ga_lib.change.noise`): a check fails only where the whole interval lies
beyond the limit. Kills and restarts are counted from kube-state-metrics.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tars_ga_lib.change.noise import half_width, noise
from tars_ga_lib.change.series import ROUNDING
from tars_ga_lib.grammar import ParametersError, format_time
from tars_ga_lib.prometheus import Prometheus, QueryError, SourceError
from tars_ga_lib.system.checks import NotMeasured, Place, Reading, Scope, check
from tars_ga_lib.targets import Agents

agent_memory = partial(check, group="agent_memory")

Floats = NDArray[np.float64]

MIN_SAMPLES = 24
"""Fewer samples of a pod than this (two hours at 5m) are no basis for a slope."""


# --- samples -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Grid:
    """One query's answer: a row a pod of each region, a column a step; NaN where missing."""

    times: Floats  # epoch seconds, (steps,)
    pods: dict[str, dict[str, Floats]]  # by region and pod, (steps,) each

    def of(self, region: str) -> dict[str, Floats]:
        return self.pods.get(region, {})


class _Samples:
    """The answers to the three queries, each asked once, when a check first needs it."""

    def __init__(self, agents: Agents, scope: Scope) -> None:
        self._job = job = scope.job
        self.url = agents.prometheus or job.parameters.source.prometheus or scope.prometheus
        self._timeout = scope.targets.check_timeout
        self._region = job.parameters.labels.region
        self._pod = agents.pod_label
        self._known: dict[str, _Grid] = {}
        window = job.parameters.window
        # On the day itself the window is not over: it is read up to the last full step.
        last = min(window.stop, int(time.time()))
        self._start, self._step = window.start, window.step
        self._stop = window.start + (last - window.start) // window.step * window.step
        regions = agents.regions or job.parameters.regions
        either = "|".join(_quoted(re.escape(region).replace("\\-", "-")) for region in regions)
        marks = {
            "match": f'{self._pod}=~"{_quoted(agents.pods)}",{self._region}=~"{either}"',
            "by": f"{self._region}, {self._pod}",
        }
        self.queries = {}
        for name in ("memory", "restarts", "oom_killed"):
            try:
                text = Template(getattr(agents, name)).substitute(marks)
            except (KeyError, ValueError) as error:
                raise ParametersError(
                    f"validation: agents.{name}: has an unknown mark ({error}); use $match and "
                    "$by, and write $$ for a dollar sign"
                ) from None
            self.queries[name] = " ".join(text.split())

    def grid(self, name: str) -> _Grid:
        """Return the answer to one of the queries.

        Raises
        ------
        NotMeasured
            If no server is named, or it does not answer this query in full.
        """
        if name not in self._known:
            self._known[name] = self._ask(self.queries[name])
        return self._known[name]

    def _ask(self, query: str) -> _Grid:
        if self.url is None:
            raise NotMeasured(
                "not_configured",
                "the run reads a recording, which does not hold it; name a server as "
                "agents.prometheus",
            )
        if self._stop <= self._start:
            raise NotMeasured("no_rows", "the window has not begun")
        source = self._job.parameters.source
        try:
            with Prometheus(
                self.url, timeout=self._timeout, org_id=source.org_id, attempts=1
            ) as server:
                # From a step before, so that what happened in the first step is seen.
                first = self._start - self._step
                answer = server.range(query, first, self._stop, self._step)
        except SourceError as error:
            refused = "credentials" in str(error)
            raise NotMeasured("unauthorised" if refused else "unreachable", str(error)) from None
        except QueryError as error:
            late = "no answer in time" in str(error)
            reason = f"no answer within {self._timeout} s" if late else str(error)
            raise NotMeasured("timed_out" if late else "refused", reason) from None
        if answer.warnings:
            raise NotMeasured("error", f"the server warned about its answer: {answer.warnings[0]}")
        pods: dict[str, dict[str, Floats]] = {}
        for labels, values in zip(answer.labels, answer.values, strict=True):
            region, pod = labels.get(self._region, ""), labels.get(self._pod, "")
            if pod in pods.setdefault(region, {}):
                raise NotMeasured("error", f"the query returns several series for the pod {pod}")
            pods[region][pod] = values
        return _Grid(np.arange(self._start, self._stop + 1, self._step, dtype=np.float64), pods)

    def memory(self, region: str, min_coverage: float) -> tuple[Floats, dict[str, Floats]]:
        """Return the times and the memory of a region's pods, from the window's start on.

        Raises
        ------
        NotMeasured
            If too few of the window's steps saw any pod.
        """
        grid = self.grid("memory")
        pods = {pod: values[1:] for pod, values in grid.of(region).items()}
        pods = {pod: values for pod, values in pods.items() if np.isfinite(values).any()}
        if not pods:
            raise NotMeasured("no_rows", f"the query returned no agent of {region}")
        seen = float(np.mean(np.any([np.isfinite(values) for values in pods.values()], axis=0)))
        if seen < min_coverage:
            raise NotMeasured(
                "no_rows",
                f"only in {seen:.0%} of the window's steps was any agent of {region} seen, and "
                f"{min_coverage:.0%} are needed",
            )
        return grid.times[1:], pods


def _quoted(text: str) -> str:
    """Write a text inside a PromQL string."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


# --- the checks ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Region(Place):
    """The agents of a region."""

    region: str
    samples: _Samples


@lru_cache(maxsize=1)  # the samples are asked once for all checks
def regions(scope: Scope) -> list[Region]:
    """Return the regions in which agents run.

    Raises
    ------
    ParametersError
        If a query holds an unknown `$` mark.
    """
    agents = scope.targets.agents
    if agents is None:
        return []
    samples = _Samples(agents, scope)
    return [
        Region(
            region=region,
            address=samples.url or "no Prometheus server",
            parts=(region,),
            settings=agents,
            samples=samples,
        )
        for region in agents.regions or scope.job.parameters.regions
    ]


@agent_memory(
    name="agents.memory",
    title="Memory of the largest agent, {at.region}",
    limit="limit",
    query=lambda at: at.samples.queries["memory"],
    measure="agent_memory",
    at=regions,
)
def test_agent_memory(at: Region) -> Reading:
    """Largest pod at the last step; a higher peak within the window warns."""
    times, pods = at.samples.memory(at.region, at.settings.min_coverage)
    last = {pod: float(values[-1]) for pod, values in pods.items() if np.isfinite(values[-1])}
    if not last:
        raise NotMeasured("no_rows", f"no agent of {at.region} at {format_time(times[-1])}")
    pod = max(last, key=lambda name: last[name])
    peak_pod = max(pods, key=lambda name: float(np.nanmax(pods[name])))
    peak, when = float(np.nanmax(pods[peak_pod])), times[int(np.nanargmax(pods[peak_pod]))]
    doubt = ""
    if not at.settings.limit.holds(peak):
        doubt = f"{peak_pod} had {peak:.4g} bytes at {format_time(when)}"
    several = f", the largest of {len(last)} pods" if len(last) > 1 else ""
    return Reading(last[pod], f"pod {pod}{several}, at {format_time(times[-1])}", doubt)


@agent_memory(
    name="agents.memory_growth",
    title="Growth of the agent that grows most, {at.region}",
    limit="growth",
    query=lambda at: at.samples.queries["memory"],
    measure="agent_memory_growth",
    at=regions,
)
def test_agent_memory_growth(at: Region) -> Reading:
    """Slope of the pod that grows most, and its interval.

    The confidence is shared out among the pods (Bonferroni), as the worst of many is picked.
    """
    times, pods = at.samples.memory(at.region, at.settings.min_coverage)
    restarts = at.samples.grid("restarts").of(at.region)
    stretches = {pod: _stretch(values, restarts.get(pod)) for pod, values in pods.items()}
    usable = {pod: one for pod, one in stretches.items() if len(one) >= MIN_SAMPLES}
    if not usable:
        raise NotMeasured(
            "no_rows", f"no agent of {at.region} ran for {MIN_SAMPLES} samples without a restart"
        )
    confidence = 1 - (1 - at.settings.confidence) / len(usable)
    slopes = {
        pod: slope(times[rows] / 3600, pods[pod][rows], confidence) for pod, rows in usable.items()
    }
    pod = max(slopes, key=lambda p: (not at.settings.growth.holds(slopes[p][1]), slopes[p][0]))
    value, low, high = slopes[pod]
    hours = (times[usable[pod][-1]] - times[usable[pod][0]]) / 3600
    details = (
        f"pod {pod} over {hours:.1f} h, {at.settings.confidence:.0%} interval {low / 1e6:.2f} to "
        f"{high / 1e6:.2f} MB/h"
    )
    short = len(pods) - len(usable)
    if short:
        details += f"; {short} of {len(pods)} pods ran too short to tell"
    return Reading(value, details, interval=(low, high))


def slope(hours: Floats, values: Floats, confidence: float) -> tuple[float, float, float]:
    """Slope of a series per hour, and the ends of its interval under autocorrelated noise."""
    if np.ptp(values) <= ROUNDING * np.abs(values).max():
        return 0.0, 0.0, 0.0  # it does not vary, so there is nothing to estimate
    fit = noise(values[None]).regress(hours[None])
    value = float(fit.slope[0])
    half = float(half_width(fit.error, fit.dof, confidence)[0])
    return value, value - half, value + half


def _stretch(values: Floats, restarts: Floats | None) -> Sequence[int]:
    """Samples of the longest stretch of a pod's memory without a restart."""
    seen = np.flatnonzero(np.isfinite(values))
    if restarts is None or not len(seen):
        return [int(i) for i in seen]
    cuts = np.flatnonzero(_increments(restarts) > 0)
    parts = np.split(seen, np.searchsorted(seen, cuts))
    return [int(i) for i in max(parts, key=len)]


def _increments(counter: Floats) -> Floats:
    """How much a counter rose in each step; a counter that begins anew rose by all it shows."""
    known = np.flatnonzero(np.isfinite(counter))
    rises = np.zeros(len(counter) - 1)
    if not len(known):
        return rises
    steps = np.diff(counter[known])
    rises[known[1:] - 1] = np.where(steps < 0, counter[known[1:]], steps)
    if known[0] > 0:
        rises[known[0] - 1] += counter[known[0]]  # the pod is new in the window
    return rises


def _counted(at: Region) -> dict[str, Floats]:
    """Return the restarts of each pod in each step.

    Raises
    ------
    NotMeasured
        If kube-state-metrics tells nothing of pods that ran.
    """
    _, pods = at.samples.memory(at.region, at.settings.min_coverage)
    restarts = at.samples.grid("restarts").of(at.region)
    unknown = sorted(pod for pod in pods if pod not in restarts)
    if unknown:
        raise NotMeasured(
            "no_rows",
            f"kube-state-metrics tells nothing of {len(unknown)} of {len(pods)} pods, as of "
            f"{unknown[0]}",
        )
    seen = [np.isfinite(restarts[pod][1:])[np.isfinite(values)] for pod, values in pods.items()]
    share = float(np.mean(np.concatenate(seen)))
    if share < at.settings.min_coverage:
        raise NotMeasured(
            "no_rows",
            f"kube-state-metrics was seen in only {share:.0%} of the steps in which agents ran, "
            f"and {at.settings.min_coverage:.0%} are needed",
        )
    return {pod: _increments(values) for pod, values in restarts.items()}


@agent_memory(
    name="agents.oom_kills",
    title="OOM kills of agents, {at.region}",
    limit="oom_kills",
    query=lambda at: "{restarts} while {oom_killed}".format_map(at.samples.queries),
    measure="oom_kills",
    at=regions,
)
def test_oom_kills(at: Region) -> Reading:
    """Restarts after an OOM kill, and kills after which nothing was started again."""
    times = at.samples.grid("restarts").times[1:]
    killed = at.samples.grid("oom_killed").of(at.region)
    restarted = _counted(at)
    found = {}
    for pod, values in killed.items():
        is_so = np.nan_to_num(values) > 0
        rises = restarted.get(pod, np.zeros(len(is_so) - 1))
        ended = is_so[1:] & ~is_so[:-1]  # it became so, with a restart or without
        each = np.maximum(np.where(is_so[1:], rises, 0), ended)
        if each.any():
            found[pod] = each
    return _named(found, times, "no OOM kill", restarted)


@agent_memory(
    name="agents.restarts",
    title="Restarts of agents, {at.region}",
    limit="restart_count",
    query=lambda at: at.samples.queries["restarts"],
    unit="count",
    at=regions,
)
def test_restarts(at: Region) -> Reading:
    """Count the restarts of a region's pods."""
    restarted = _counted(at)
    times = at.samples.grid("restarts").times[1:]
    found = {pod: each for pod, each in restarted.items() if each.any()}
    return _named(found, times, "no restart", restarted)


def _named(
    found: dict[str, Floats], times: Floats, none: str, pods: Sequence[str] | Any
) -> Reading:
    """Sum what was found, and name each pod with its count and the time of the last."""
    total = sum(float(each.sum()) for each in found.values())
    worst = sorted(found, key=lambda pod: -found[pod].sum())
    texts = [
        f"pod {pod}: {found[pod].sum():.0f}, the last by {format_time(times[found[pod] > 0][-1])}"
        for pod in worst[:5]
    ]
    if len(worst) > 5:
        texts.append(f"and {len(worst) - 5} more pods")
    return Reading(total, "; ".join(texts) or f"{none} of {len(pods)} pods")
