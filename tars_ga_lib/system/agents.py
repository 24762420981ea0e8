"""Memory of the agents' pods: how much, how fast it grows, and who was killed for it.

Three queries are asked over the certified window, once for all checks. Growth is the slope of a
pod's memory since its longest stretch without a restart began, with an interval that allows for
autocorrelation (`tars_ga_lib.change.noise`): a check fails only where the whole interval lies
beyond the limit. Kills and restarts are counted from kube-state-metrics.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from string import Template
from typing import TYPE_CHECKING, Any

from tars_ga_lib.change.noise import half_width, noise
from tars_ga_lib.change.series import ROUNDING
from tars_ga_lib.grammar import ParametersError, format_time
from tars_ga_lib.parameters import Job
from tars_ga_lib.prometheus import Prometheus, QueryError, SourceError
from tars_ga_lib.system.check import Check, NotMeasured, Reading, part
from tars_ga_lib.targets import Agents, ValidationTargets

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MIN_SAMPLES = 24
"""Fewer samples of a pod than this (two hours at 5m) are no basis for a slope."""


def checks(targets: ValidationTargets, job: Job, prometheus: str | None) -> list[Check]:
    """Return the checks of the agents in each region.

    Parameters
    ----------
    prometheus
        URL of the server, where neither the targets nor the job's source name one.

    Raises
    ------
    ParametersError
        If a query holds an unknown `$` mark.
    """
    agents = targets.agents
    if agents is None:
        return []
    url = agents.prometheus or job.parameters.source.prometheus or prometheus
    samples = _Samples(agents, job, url, targets.check_timeout)
    regions = agents.regions or job.parameters.regions
    return [check for region in regions for check in _of_region(agents, samples, region)]


def _of_region(agents: Agents, samples: _Samples, region: str) -> list[Check]:
    def check(name: str, title: str, read: Callable[[], Reading], **more: Any) -> Check:
        return Check(
            id=f"agents.{name}.{part(region)}",
            title=f"{title}, {region}",
            group="agent_memory",
            region=region,
            target=samples.url or "no Prometheus server",
            read=read,
            **more,
        )

    return [
        check(
            "memory",
            "Memory of the largest agent",
            partial(_memory, agents, samples, region),
            measure="agent_memory",
            query=samples.queries["memory"],
            unit="bytes",
            limit=agents.limit,
            warning=agents.warning,
        ),
        check(
            "memory_growth",
            "Growth of the agent that grows most",
            partial(_growth, agents, samples, region),
            measure="agent_memory_growth",
            query=samples.queries["memory"],
            unit="bytes/h",
            limit=agents.growth,
            warning=agents.growth_warning,
        ),
        check(
            "oom_kills",
            "OOM kills of agents",
            partial(_oom_kills, agents, samples, region),
            measure="oom_kills",
            query=f"{samples.queries['restarts']} while {samples.queries['oom_killed']}",
            unit="count",
            limit=agents.oom_kills,
            warning=None,
        ),
        check(
            "restarts",
            "Restarts of agents",
            partial(_restarts, agents, samples, region),
            measure=None,
            query=samples.queries["restarts"],
            unit="count",
            limit=agents.restart_count,
            warning=agents.restart_count_warning,
        ),
    ]


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

    def __init__(self, agents: Agents, job: Job, url: str | None, timeout: float) -> None:
        self.url, self._job, self._timeout = url, job, timeout
        self._region = job.parameters.labels.region
        self._pod = agents.pod_label
        self._lock = threading.Lock()
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
        with self._lock:
            if name not in self._known:
                self._known[name] = self._ask(self.queries[name])
            return self._known[name]

    def _ask(self, query: str) -> _Grid:
        import numpy as np

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
        import numpy as np

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


# --- what is read of them ------------------------------------------------------------------------


def _memory(agents: Agents, samples: _Samples, region: str) -> Reading:
    """Largest pod at the last step; a higher peak within the window warns."""
    import numpy as np

    times, pods = samples.memory(region, agents.min_coverage)
    last = {pod: float(values[-1]) for pod, values in pods.items() if np.isfinite(values[-1])}
    if not last:
        raise NotMeasured("no_rows", f"no agent of {region} at {format_time(times[-1])}")
    pod = max(last, key=lambda name: last[name])
    peak_pod = max(pods, key=lambda name: float(np.nanmax(pods[name])))
    peak, at = float(np.nanmax(pods[peak_pod])), times[int(np.nanargmax(pods[peak_pod]))]
    doubt = ""
    if not agents.limit.holds(peak):
        doubt = f"{peak_pod} had {peak:.4g} bytes at {format_time(at)}"
    several = f", the largest of {len(last)} pods" if len(last) > 1 else ""
    return Reading(last[pod], f"pod {pod}{several}, at {format_time(times[-1])}", doubt)


def _growth(agents: Agents, samples: _Samples, region: str) -> Reading:
    """Slope of the pod that grows most, and its interval.

    The confidence is shared out among the pods (Bonferroni), as the worst of many is picked.
    """
    times, pods = samples.memory(region, agents.min_coverage)
    restarts = samples.grid("restarts").of(region)
    stretches = {pod: _stretch(values, restarts.get(pod)) for pod, values in pods.items()}
    usable = {pod: one for pod, one in stretches.items() if len(one) >= MIN_SAMPLES}
    if not usable:
        raise NotMeasured(
            "no_rows", f"no agent of {region} ran for {MIN_SAMPLES} samples without a restart"
        )
    confidence = 1 - (1 - agents.confidence) / len(usable)
    slopes = {
        pod: slope(times[rows] / 3600, pods[pod][rows], confidence) for pod, rows in usable.items()
    }
    pod = max(slopes, key=lambda p: (not agents.growth.holds(slopes[p][1]), slopes[p][0]))
    value, low, high = slopes[pod]
    hours = (times[usable[pod][-1]] - times[usable[pod][0]]) / 3600
    details = (
        f"pod {pod} over {hours:.1f} h, {agents.confidence:.0%} interval {low / 1e6:.2f} to "
        f"{high / 1e6:.2f} MB/h"
    )
    short = len(pods) - len(usable)
    if short:
        details += f"; {short} of {len(pods)} pods ran too short to tell"
    return Reading(value, details, interval=(low, high))


def slope(hours: Floats, values: Floats, confidence: float) -> tuple[float, float, float]:
    """Slope of a series per hour, and the ends of its interval under autocorrelated noise."""
    import numpy as np

    if np.ptp(values) <= ROUNDING * np.abs(values).max():
        return 0.0, 0.0, 0.0  # it does not vary, so there is nothing to estimate
    fit = noise(values[None]).regress(hours[None])
    value = float(fit.slope[0])
    half = float(half_width(fit.error, fit.dof, confidence)[0])
    return value, value - half, value + half


def _stretch(values: Floats, restarts: Floats | None) -> Sequence[int]:
    """Samples of the longest stretch of a pod's memory without a restart."""
    import numpy as np

    seen = np.flatnonzero(np.isfinite(values))
    if restarts is None or not len(seen):
        return [int(i) for i in seen]
    cuts = np.flatnonzero(_increments(restarts) > 0)
    parts = np.split(seen, np.searchsorted(seen, cuts))
    return [int(i) for i in max(parts, key=len)]


def _increments(counter: Floats) -> Floats:
    """How much a counter rose in each step; a counter that begins anew rose by all it shows."""
    import numpy as np

    known = np.flatnonzero(np.isfinite(counter))
    rises = np.zeros(len(counter) - 1)
    if not len(known):
        return rises
    steps = np.diff(counter[known])
    rises[known[1:] - 1] = np.where(steps < 0, counter[known[1:]], steps)
    if known[0] > 0:
        rises[known[0] - 1] += counter[known[0]]  # the pod is new in the window
    return rises


def _counted(agents: Agents, samples: _Samples, region: str) -> dict[str, Floats]:
    """Return the restarts of each pod in each step.

    Raises
    ------
    NotMeasured
        If kube-state-metrics tells nothing of pods that ran.
    """
    import numpy as np

    _, pods = samples.memory(region, agents.min_coverage)
    restarts = samples.grid("restarts").of(region)
    unknown = sorted(pod for pod in pods if pod not in restarts)
    if unknown:
        raise NotMeasured(
            "no_rows",
            f"kube-state-metrics tells nothing of {len(unknown)} of {len(pods)} pods, as of "
            f"{unknown[0]}",
        )
    seen = [np.isfinite(restarts[pod][1:])[np.isfinite(values)] for pod, values in pods.items()]
    share = float(np.mean(np.concatenate(seen)))
    if share < agents.min_coverage:
        raise NotMeasured(
            "no_rows",
            f"kube-state-metrics was seen in only {share:.0%} of the steps in which agents ran, "
            f"and {agents.min_coverage:.0%} are needed",
        )
    return {pod: _increments(values) for pod, values in restarts.items()}


def _oom_kills(agents: Agents, samples: _Samples, region: str) -> Reading:
    """Restarts after an OOM kill, and kills after which nothing was started again."""
    import numpy as np

    times = samples.grid("restarts").times[1:]
    killed = samples.grid("oom_killed").of(region)
    restarted = _counted(agents, samples, region)
    found = {}
    for pod, values in killed.items():
        is_so = np.nan_to_num(values) > 0
        rises = restarted.get(pod, np.zeros(len(is_so) - 1))
        ended = is_so[1:] & ~is_so[:-1]  # it became so, with a restart or without
        each = np.maximum(np.where(is_so[1:], rises, 0), ended)
        if each.any():
            found[pod] = each
    return _named(found, times, "no OOM kill", restarted)


def _restarts(agents: Agents, samples: _Samples, region: str) -> Reading:
    restarted = _counted(agents, samples, region)
    times = samples.grid("restarts").times[1:]
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
