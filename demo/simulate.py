"""Make simulated days of T.A.R.S. production: those of the baseline, and the GA day.

Nothing here was measured. A seeded random process plays users, services, databases and nodes, and
this module writes what Prometheus would have scraped from them, as OpenMetrics text that
`promtool tsdb create-blocks-from openmetrics` turns into a server's history. Because the process is
ours, its truth is known exactly (every request and every error of it), and a report made from the
history can be checked against it.

    python demo/simulate.py --output days.om [--truth truth.json] [--seed N]

How the truth and the scrapes fit together: time is cut at every multiple of the scrape interval and
again at every scrape of a target (a few seconds later, as real targets are spread out). Events are
drawn for each piece. A scrape sees all pieces before it; the truth of a window is the sum of the
pieces inside of it.
"""

from __future__ import annotations

import argparse
import json
import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import compress
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Edges = tuple[float, ...]

HOUR, DAY = 3600, 86400
MIB, GIB = 1 << 20, 1 << 30
GA_DAY = int(datetime(2026, 11, 20, tzinfo=UTC).timestamp())
BASELINE_DAY = int(datetime(2026, 11, 13, tzinfo=UTC).timestamp())
WEEKEND = 0.7  # share of a working day's traffic

# The 500 ms of the objective is an edge, and edges are close where P95 and P99 lie: interpolation
# within a bucket is then fair.
EDGES = (0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 1.0, math.inf)
DB_EDGES = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, math.inf)
RELOAD_EDGES = (0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, math.inf)
PAGE_EDGES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 8.0, math.inf)
LEAK = 21  # MiB an hour


@dataclass(frozen=True)
class Profile:
    """What one service is like: its traffic, its latency and what it consumes."""

    rate: float  # requests a second over an average day, in the largest region
    median: float  # latency in seconds
    spread: float  # sigma of the log-normal latency
    cores: float  # used by an idle replica
    cores_a_request: float
    memory: int  # MiB of a replica at rest
    cpu_limit: int
    memory_limit: int  # GiB
    replicas: int = 1


PROFILES = {
    "insight-engine": Profile(9.0, 0.080, 0.62, 0.20, 0.050, 1450, 2, 4),
    "policy-learner": Profile(5.0, 0.095, 0.58, 0.60, 0.080, 1180, 4, 3),
    "meta-consensus": Profile(6.0, 0.070, 0.60, 0.15, 0.040, 640, 2, 2),
    "causal-inference": Profile(4.0, 0.110, 0.55, 0.35, 0.120, 1720, 4, 4),
    "orchestration-agent": Profile(14.0, 0.055, 0.65, 0.15, 0.020, 520, 2, 1, replicas=2),
    "automl-pipeline": Profile(2.5, 0.120, 0.52, 0.50, 0.150, 2300, 4, 6),
    "dashboard-api": Profile(20.0, 0.045, 0.68, 0.10, 0.012, 430, 2, 1, replicas=2),
    "hypersync": Profile(7.0, 0.040, 0.60, 0.10, 0.015, 310, 1, 1),
}
SERVICES = tuple(PROFILES)

# Hours from UTC, and traffic as a share of the largest region's.
PLACES = {
    "us-east-1": (-5, 1.0),
    "us-west-2": (-8, 0.75),
    "eu-central-1": (1, 0.85),
    "ap-southeast-1": (8, 0.6),
    "sa-east-1": (-3, 0.4),
}
REGIONS = ("us-east-1", "us-west-2", "eu-central-1")


@dataclass(frozen=True)
class Scenario:
    """What is simulated. The defaults make the demo; the rest makes small variants for tests."""

    seed: int = 20261120
    regions: tuple[str, ...] = REGIONS
    services: tuple[str, ...] = SERVICES
    first: int = 0  # seconds after midnight at which both days begin
    duration: int = DAY
    scrape: int = 30
    baselines: int = 1  # days of the baseline, each `apart` seconds before the next
    apart: int = 7 * DAY
    faults: bool = True  # False: a clean day that should certify
    missing_region: str = ""  # not there on GA day
    present: float = 1.0  # share of the GA window that holds data
    idle_service: str = ""  # up all of GA day, without one request
    reset_at: int | None = None  # a restart of every replica, seconds after GA day's midnight
    stagger: int = 0  # of a rolling restart: seconds between services, each down for a minute

    def __post_init__(self) -> None:
        """Refuse what could not be simulated truly."""
        for name in ("first", "duration"):
            if getattr(self, name) % self.scrape:
                raise ValueError(f"{name} must be a multiple of the scrape interval")
        if self.reset_at is not None and self.reset_at % self.scrape:
            raise ValueError("reset_at must be a multiple of the scrape interval")
        for region in self.regions:
            if region not in PLACES:
                raise ValueError(f"unknown region {region!r}: one of {', '.join(PLACES)}")

    @property
    def pad(self) -> int:
        """Seconds of history before the window, so that its first step has what it needs."""
        return max(600, 4 * self.scrape)


def scaled(services: int = 200, scrape: int = 150, duration: int = DAY) -> Scenario:
    """Make the scenario of a large installation: 5 regions and any number of services."""
    names = tuple(f"service-{number:03d}" for number in range(services))
    return Scenario(regions=tuple(PLACES), services=names, scrape=scrape, duration=duration)


def small(**changes: Any) -> Scenario:
    """Make a scenario for tests, changed as told: two regions, three services, two clean hours."""
    base = Scenario(
        regions=("us-east-1", "us-west-2"),
        services=("insight-engine", "dashboard-api", "hypersync"),
        first=12 * HOUR,
        duration=2 * HOUR,
        faults=False,
    )
    return replace(base, **changes)


@dataclass(frozen=True)
class Fact:
    """One thing that was made to happen; times in Unix seconds."""

    name: str
    about: str
    day: str
    region: str
    service: str
    start: int
    end: int

    def covers(self, region: str, service: str = "") -> bool:
        """Tell whether the fact touches this region and service ('' is any)."""
        return region == self.region and service in ("", self.service or service)


@dataclass
class Tally:
    """The exact truth of one region and service over one window.

    unseen_* happened while no scrape could see it: in a gap, in a missing region or half.
    up and scrapes count the samples of `up` that were stored inside of the window.
    """

    requests: int = 0
    errors: int = 0
    unseen_requests: int = 0
    unseen_errors: int = 0
    cpu_seconds: float = 0.0
    unseen_cpu_seconds: float = 0.0
    up: int = 0
    scrapes: int = 0
    buckets: list[int] = field(default_factory=lambda: [0] * len(EDGES))  # cumulative, as EDGES


@dataclass(frozen=True)
class Count:
    """The exact number of events of one kind in one region and window; unseen: in a gap."""

    total: float
    unseen: float = 0.0

    @property
    def seen(self) -> float:
        """Events that a scrape could see."""
        return self.total - self.unseen


@dataclass
class DayTruth:
    """What really happened in one window: name is that of its `Day`."""

    name: str
    start: int
    end: int
    tallies: dict[str, dict[str, Tally]]  # by region, then by service
    facts: list[Fact]
    counts: dict[str, dict[str, Count]] = field(default_factory=dict)  # by region, then by series

    def total(self, key: str, region: str = "", service: str = "") -> float:
        """Sum one figure of the tallies; '' is every region or service."""
        return sum(
            float(getattr(tally, key))
            for r, services in self.tallies.items()
            for s, tally in services.items()
            if region in ("", r) and service in ("", s)
        )


# --- What happens on which day --------------------------------------------------------------------


@dataclass(frozen=True)
class Day:
    """One of the days of a scenario: `ga`, `baseline`, `baseline-2`, the latest first."""

    name: str
    midnight: int
    scenario: Scenario

    @property
    def start(self) -> int:
        """Begin of the window."""
        return self.midnight + self.scenario.first

    @property
    def end(self) -> int:
        """End of the window, not part of it."""
        return self.start + self.scenario.duration

    @property
    def faulty(self) -> bool:
        """Tell whether the demo's faults happen on this day."""
        return self.scenario.faults and self.name == "ga"

    def effect(self, spread: float, *what: str) -> float:
        """Draw by how much a level of this day differs from the usual one, as a factor.

        Days differ by more than their hours tell. The GA day is an average one, so that what is
        made to happen on it can be known exactly.
        """
        if self.name == "ga":
            return 1.0
        return math.exp(spread * float(_random(self, "effect", *what).standard_normal()))

    def facts(self) -> list[Fact]:
        """List what was made to happen on this day and touches its window."""
        return [
            fact
            for fact in (*_variation(self), *_story(self))
            if fact.start < self.end
            and fact.end > self.start
            and fact.region in self.scenario.regions
            and fact.service in ("", *self.scenario.services)
        ]

    def named(self, name: str, region: str, service: str = "") -> list[Fact]:
        """List the facts of one name that touch a region and service."""
        return [f for f in self.facts() if f.name == name and f.covers(region, service)]

    def during(self, name: str, times: Floats, region: str, service: str = "") -> Mask:
        """Tell for each time whether a fact of this name was going on."""
        mask = np.zeros(len(times), dtype=np.bool_)
        for fact in self.named(name, region, service):
            mask |= (times >= fact.start) & (times < fact.end)
        return mask


def days(scenario: Scenario) -> list[Day]:
    """Return the days of a scenario: those of the baseline, the latest first, and the GA day."""
    before = [
        Day(f"baseline-{k + 1}" if k else "baseline", BASELINE_DAY - k * scenario.apart, scenario)
        for k in range(scenario.baselines)
    ]
    return [*before, Day("ga", GA_DAY, scenario)]


def _fact(day: Day, name: str, where: str, start: int, end: int, about: str) -> Fact:
    """Make a fact; `where` is a region or region/service."""
    region, _, service = where.partition("/")
    return Fact(name, about, day.name, region, service, start, end)


def _variation(day: Day) -> Iterator[Fact]:
    """Tell what the scenario's options do to the GA day."""
    if day.name != "ga":
        return
    scenario, begin, close = day.scenario, day.start - day.scenario.pad, day.end
    if scenario.missing_region:
        yield _fact(day, "gap", scenario.missing_region, begin, close, "region without data")
    for region in scenario.regions:
        if scenario.present < 1:
            cut = day.start + int(scenario.duration * scenario.present)
            yield _fact(day, "gap", region, cut, close, "data end here")
        if scenario.idle_service:
            where = f"{region}/{scenario.idle_service}"
            yield _fact(day, "idle", where, begin, close, "no request all day")
        if scenario.reset_at is not None:
            moment = day.midnight + scenario.reset_at
            if not scenario.stagger:
                yield _fact(day, "restart", region, moment, moment + 1, "every replica restarted")
                continue
            for number, service in enumerate(scenario.services):
                at, where = moment + number * scenario.stagger, f"{region}/{service}"
                yield _fact(day, "down", where, at - 30, at + 30, "pods replaced")
                yield _fact(day, "restart", where, at, at + 1, "counters began again at zero")


def _story(day: Day) -> Iterator[Fact]:
    """Tell the demo's story; `Day.facts` keeps what touches the window."""
    if not day.faulty:
        return

    def at(hours: int, minutes: int, seconds: int = 0) -> int:
        return day.midnight + hours * HOUR + minutes * 60 + seconds

    def fact(name: str, where: str, start: int, end: int, about: str) -> Fact:
        return _fact(day, name, where, start, end, about)

    begin, close = day.start - day.scenario.pad, day.end  # all that is simulated
    yield fact("gap", "eu-central-1", at(3, 20), at(3, 40), "no target of the region was scraped")
    restarted, west = "us-east-1/causal-inference", "us-west-2"
    yield fact("down", restarted, at(9, 17, 30), at(9, 18, 30), "pod stopped, and started again")
    yield fact("restart", restarted, at(9, 18), at(9, 18) + 1, "counters began again at zero")
    yield fact("incident", west, at(13, 10), at(13, 40), "database failover: errors and latency")
    for service in ("dashboard-api", "orchestration-agent"):
        yield fact("down", f"{west}/{service}", at(13, 14), at(13, 24), "targets did not answer")
    yield fact("probe_down", west, at(13, 15), at(13, 17), "WebSocket probe failed")
    leak = "eu-central-1/policy-learner"
    yield fact("leak", leak, begin, close, "memory grows all day")
    slow = "eu-central-1/insight-engine"
    yield fact("slower", slow, begin, close, "8 % slower than at the baseline")
    yield fact("fuller", "us-east-1", begin, close, "disks fuller than at the baseline")
    scale = f"{west}/orchestration-agent"
    yield fact("scaled_down", scale, begin, close, "1 replica where the baseline had 2")


@dataclass(frozen=True)
class Alert:
    """An alert that fired; service may be ''."""

    name: str
    severity: str
    region: str
    service: str
    start: int
    end: int


def alerts(day: Day) -> list[Alert]:
    """List the alerts that fired on a day, as its facts would have raised them."""
    rules = {  # fact: (alert, severity, seconds until it fires, seconds until it ends)
        "incident": ("HighErrorRate", "critical", 120, 120),
        "down": ("TargetDown", "warning", 120, 30),
        "restart": ("PodRestarted", "info", 30, 600),
        "leak": ("ContainerMemoryGrowing", "warning", 15 * HOUR + 40 * 60, 0),
    }
    found = []
    for fact in day.facts():
        if fact.name in rules and day.scenario.faults:
            name, severity, wait, tail = rules[fact.name]
            start, end = max(fact.start, day.midnight) + wait, fact.end + tail
            if start < end:
                found.append(Alert(name, severity, fact.region, fact.service, start, end))
    if day.scenario.faults and day.name == "baseline" and "us-east-1" in day.scenario.regions:
        begin = day.midnight + 2 * HOUR + 600
        found.append(Alert("BackupSlow", "info", "us-east-1", "", begin, begin + 900))
    return found


# --- Random processes -----------------------------------------------------------------------------


def _random(day: Day, *what: object) -> np.random.Generator:
    """Give each thing a stream of its own, so that leaving one out changes none of the others."""
    key = "/".join(str(part) for part in (day.name, *what))
    return np.random.default_rng([day.scenario.seed, zlib.crc32(key.encode())])


def _wander(random: np.random.Generator, size: int, step: int, minutes: float) -> Floats:
    """Draw autocorrelated noise of unit variance that forgets itself in about these minutes."""
    phi = math.exp(-step / (minutes * 60))
    memory = math.ceil(8 / (1 - phi))  # further back nothing is remembered (e^-8)
    shocks = random.standard_normal(size + memory) * math.sqrt(1 - phi * phi)
    # A convolution rather than a loop; the part that wraps around is cut off.
    length = 2 * (size + memory)
    spectrum = np.fft.rfft(shocks, length) * np.fft.rfft(phi ** np.arange(memory), length)
    return np.asarray(np.fft.irfft(spectrum, length)[memory : memory + size], dtype=np.float64)


def _daylight(times: Floats, region: str) -> Floats:
    """Return the traffic of the time of day, around 1: busy in the local afternoon."""
    hours = times / HOUR + PLACES[region][0]
    wave = 0.5 * np.cos((hours - 15) * math.pi / 12) + 0.12 * np.cos((hours - 11) * math.pi / 6)
    return np.asarray(1 + wave, dtype=np.float64)


def _traffic(day: Day) -> float:
    """Return the traffic of a day beside an average working day's, in all regions."""
    weekend = datetime.fromtimestamp(day.midnight, UTC).weekday() >= 5
    return (WEEKEND if weekend else 1.0) * day.effect(0.015, "traffic")


def _shares(median: Floats, spread: float, edges: tuple[float, ...]) -> Floats:
    """Return for each time (row) the share of log-normal latencies in each bucket (column)."""
    logs = np.log(np.asarray(edges[:-1]))
    below = ndtr((logs[None, :] - np.log(median)[:, None]) / spread)
    full = np.column_stack([np.zeros(len(median)), below, np.ones(len(median))])
    return np.diff(full, axis=1)


# --- Scrapes --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clock:
    """When one target is scraped, and the pieces of time between."""

    start: int  # multiple of the scrape interval
    scrape: int
    offset: int  # the target's own place within the interval
    count: int

    @property
    def samples(self) -> Ints:
        """Times of the scrapes."""
        return self.start + self.offset + self.scrape * np.arange(self.count, dtype=np.int64)

    @property
    def pieces(self) -> Floats:
        """Begin of each piece: a grid line, a scrape, a grid line, a scrape ..."""
        grid = self.start + self.scrape * np.arange(self.count, dtype=np.float64)
        return np.column_stack([grid, grid + self.offset]).ravel()

    @property
    def lengths(self) -> Floats:
        """Seconds of each piece."""
        return np.tile([self.offset, self.scrape - self.offset], self.count).astype(np.float64)

    def seen(self, events: npt.NDArray[Any], restarts: Iterable[float] = ()) -> npt.NDArray[Any]:
        """Return what a counter of these events (one row a piece) shows at each scrape."""
        total = np.cumsum(events, axis=0)
        pieces = self.pieces
        for moment in sorted(restarts):
            first = int(np.searchsorted(pieces, moment))
            if 0 < first < len(pieces):
                total[first:] = total[first:] - total[first - 1]
        return total[0::2]


def _clock(day: Day, random: np.random.Generator) -> Clock:
    """Give a target its place within the scrape interval."""
    scenario = day.scenario
    start = day.start - scenario.pad
    count = (scenario.pad + scenario.duration) // scenario.scrape
    return Clock(start, scenario.scrape, int(random.integers(1, scenario.scrape)), count)


@dataclass
class Series:
    """The samples of one series."""

    head: str  # name and labels, with the space that follows
    values: npt.NDArray[Any]
    times: list[str]  # the text after each value
    kept: Mask | None = None  # samples that were scraped; None: all

    def text(self) -> str:
        """Return the lines of the series."""
        values: Iterable[Any] = self.values.tolist()
        times: Iterable[str] = self.times
        if self.kept is not None:
            kept = self.kept.tolist()
            values, times = compress(values, kept), compress(times, kept)
        head = self.head
        return "".join([f"{head}{value}{time}" for value, time in zip(values, times, strict=True)])


@dataclass
class Page:
    """All series of a scenario's day, by metric family, as OpenMetrics wants them."""

    milliseconds: bool = False
    families: dict[tuple[str, str], list[Series]] = field(default_factory=dict)

    def stamps(self, samples: Ints) -> list[str]:
        """Format the times of a target's scrapes once, for all of its series."""
        unit = "000\n" if self.milliseconds else "\n"
        return [f" {time}{unit}" for time in samples.tolist()]

    def add(
        self,
        name: str,
        labels: dict[str, str],
        values: npt.NDArray[Any],
        times: list[str],
        kept: Mask | None = None,
        kind: str = "",
    ) -> None:
        """Add a series; a name that ends in _total is a counter, else a gauge unless told."""
        family = name
        if kind == "histogram":
            family = name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
        elif name.endswith("_total"):
            family, kind = name.removesuffix("_total"), "counter"
        body = ",".join(f'{key}="{value}"' for key, value in labels.items() if value)
        series = Series(f"{name}{{{body}}} ", values, times, kept)
        self.families.setdefault((family, kind or "gauge"), []).append(series)


def _emit(file: TextIO, pages: list[Page]) -> None:
    """Write the families of all pages; OpenMetrics wants each family in one place."""
    names = dict.fromkeys(name for page in pages for name in page.families)
    for family, kind in names:
        file.write(f"# HELP {family} Simulated, not measured.\n# TYPE {family} {kind}\n")
        for page in pages:
            for series in page.families.get((family, kind), []):
                file.write(series.text())
    file.write("# EOF\n")


# --- The services ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Weather:
    """What the replicas of one service in one region share, at each piece of time."""

    rate: Floats  # requests a second, all replicas together
    median: Floats  # latency
    failing: Floats  # share of requests that end in 5xx


def _weather(day: Day, region: str, service: str, times: Floats) -> Weather:
    """Play the users of one service in one region, and how well it serves them."""
    random, profile = _random(day, "weather", region, service), _profile(service)
    half, step = len(times) // 2, day.scenario.scrape
    slow_noise = [np.repeat(_wander(random, half, step, 25), 2) for _ in range(3)]
    light = _daylight(times, region) * _traffic(day)
    rate = profile.rate * PLACES[region][1] * light * np.exp(0.05 * slow_noise[0])
    rate = rate * day.effect(0.01, "rate", region, service)
    median = profile.median * (1 + 0.06 * (light - 1)) * np.exp(0.025 * slow_noise[1])
    median = median * day.effect(0.01, "latency", region, service)
    failing = 2.5e-4 * np.exp(0.25 * slow_noise[2])
    if day.faulty:
        rate = rate * 1.015  # a launch brings a few users more
        # The incident swells for two minutes and ebbs for two, as retries and caches do.
        swell = np.zeros(len(times))
        for fact in day.named("incident", region):
            ramp = np.minimum((times - fact.start) / 120, (fact.end - times) / 120)
            swell = np.maximum(swell, np.clip(ramp, 0, 1))
        median = median * (1 + 0.5 * swell)
        failing = failing + 0.48 * swell * np.exp(0.1 * slow_noise[2])
        rate = rate * (1 - 0.15 * swell)
    if day.named("slower", region, service):
        median = median * 1.08
    if day.named("idle", region, service):
        rate = np.zeros(len(times))
    return Weather(rate, median, failing)


def _profile(service: str) -> Profile:
    """Return the profile of a service; an unknown one gets one of the known."""
    return PROFILES.get(service) or PROFILES[SERVICES[zlib.crc32(service.encode()) % len(SERVICES)]]


def _replicas(day: Day, region: str, service: str) -> int:
    """Return how many replicas run."""
    replicas = _profile(service).replicas
    return replicas - len(day.named("scaled_down", region, service))


def _service(day: Day, region: str, service: str, page: Page | None) -> Tally:
    """Play one service in one region, add its series to the page, and return its truth."""
    tally, replicas = Tally(), _replicas(day, region, service)
    for number in range(replicas):
        life = _live(day, region, service, number, replicas)
        _count(life, tally)
        if page is not None:
            _application(life, page)
    return tally


@dataclass(frozen=True)
class Life:
    """What one replica went through: events at each piece of time, scrapes at each sample."""

    day: Day
    region: str
    service: str
    number: int
    random: np.random.Generator
    clock: Clock
    latencies: Ints  # one column a bucket
    codes: dict[str, Ints]
    busy: Floats  # CPU seconds
    up: Mask
    dark: Mask  # nobody scraped
    restarts: list[int]

    def counter(self, events: npt.NDArray[Any], past: Any) -> npt.NDArray[Any]:
        """Return what a counter shows that had counted something before our history."""
        return self.clock.seen(_with_past(events, past), self.restarts)


def _live(day: Day, region: str, service: str, number: int, replicas: int) -> Life:
    """Play one replica of a service."""
    random, profile = _random(day, "replica", region, service, number), _profile(service)
    clock = _clock(day, random)
    pieces, lengths, samples = clock.pieces, clock.lengths, clock.samples.astype(np.float64)
    weather = _weather(day, region, service, pieces)
    stopped = day.during("down", pieces, region, service)  # it serves nobody
    rate = np.where(stopped, 0.0, weather.rate / replicas)
    shares = _shares(weather.median, profile.spread, EDGES)
    latencies = random.poisson((rate * lengths)[:, None] * shares)
    codes = _codes(random, latencies.sum(axis=1), weather.failing)
    busy = _busy(random, day, rate, profile, lengths) * np.where(stopped, 0.05, 1.0)
    busy = busy * day.effect(0.01, "cpu", region, service)
    # Now and then a scrape fails for no reason, as it does.
    up = ~day.during("down", samples, region, service) & (random.random(clock.count) >= 5e-5)
    dark = day.during("gap", samples, region)
    restarts = [fact.start for fact in day.named("restart", region, service)]
    return Life(
        day, region, service, number, random, clock, latencies, codes, busy, up, dark, restarts
    )


def _application(life: Life, page: Page) -> None:
    """Add what the application says of itself."""
    random, profile, clock = life.random, _profile(life.service), life.clock
    times, seen = page.stamps(clock.samples), life.up & ~life.dark
    pod = f"{life.service}-{life.number}"
    app = {"job": "tars", "region": life.region, "service": life.service, "instance": pod}
    page.add("up", app, life.up.astype(np.int64), times, ~life.dark)

    age = float(random.uniform(4, 20)) * HOUR  # the process ran before our history begins
    shares = _shares(np.array([profile.median]), profile.spread, EDGES)[0]
    mean = profile.rate / profile.replicas * PLACES[life.region][1] * age
    past = random.poisson(mean * shares)
    buckets = np.cumsum(life.counter(life.latencies, past), axis=1)
    histogram = "http_request_duration_seconds"
    for column, edge in enumerate(EDGES):
        label = app | {"le": "+Inf" if math.isinf(edge) else str(edge)}
        page.add(f"{histogram}_bucket", label, buckets[:, column], times, seen, "histogram")
    middles = (np.array([0.0, *EDGES[:-1]]) + np.array([*EDGES[:-1], 1.5])) / 2
    spent = np.round(life.counter(life.latencies @ middles, float(past @ middles)), 3)
    page.add(f"{histogram}_count", app, buckets[:, -1], times, seen, "histogram")
    page.add(f"{histogram}_sum", app, spent, times, seen, "histogram")

    split = _split(random, int(past.sum()))
    for code, events in life.codes.items():
        shown = life.counter(events, split[code])
        # A client library makes a series at its first event, not before.
        page.add("http_requests_total", app | {"code": code}, shown, times, seen & (shown > 0))
    memory = _memory(life)
    work = np.round(
        life.counter(life.busy, age * float(life.busy.mean() / clock.lengths.mean())), 2
    )
    page.add("process_cpu_seconds_total", app, work, times, seen)
    page.add("process_resident_memory_bytes", app, memory, times, seen)
    _container(life, page, pod, work, memory)


def _with_past(events: npt.NDArray[Any], past: Any) -> npt.NDArray[Any]:
    """Put what happened before our history into its first piece."""
    events = events.copy()
    events[0] += past
    return events


def _codes(random: np.random.Generator, requests: Ints, failing: Floats) -> dict[str, Ints]:
    """Split requests by their answer; in an incident the errors are mostly 503."""
    errors = random.binomial(requests, np.minimum(failing, 1.0))
    unavailable = random.binomial(errors, np.where(failing > 0.01, 0.9, 0.2))
    absent = random.binomial(requests - errors, 0.008)
    return {
        "200": requests - errors - absent,
        "404": absent,
        "500": errors - unavailable,
        "503": unavailable,
    }


def _split(random: np.random.Generator, requests: int) -> dict[str, Any]:
    """Split the requests of the time before our history likewise."""
    errors = int(random.binomial(requests, 2.5e-4))
    absent = int(random.binomial(requests - errors, 0.008))
    return {"200": requests - errors - absent, "404": absent, "500": errors, "503": 0}


def _busy(
    random: np.random.Generator, day: Day, rate: Floats, profile: Profile, lengths: Floats
) -> Floats:
    """Return the CPU seconds that a replica used in each piece."""
    noise = np.repeat(_wander(random, len(rate) // 2, day.scenario.scrape, 15), 2)
    cores = (profile.cores + profile.cores_a_request * rate) * np.exp(0.04 * noise)
    return np.minimum(cores, profile.cpu_limit) * lengths


def _memory(life: Life) -> Ints:
    """Return the resident bytes of a replica at each scrape."""
    day, samples = life.day, life.clock.samples.astype(np.float64)
    noise = _wander(life.random, len(samples), day.scenario.scrape, 90)
    size = _profile(life.service).memory * np.exp(0.015 * noise)
    size = size * day.effect(0.01, "memory", life.region, life.service)
    for moment in life.restarts:  # a fresh process is small, and grows back within the hour
        since = np.maximum(samples - moment, 0)
        size = np.where(samples >= moment, size * (1 - 0.4 * np.exp(-since / 1500)), size)
    if day.named("leak", life.region, life.service):
        size = size + LEAK * np.maximum(samples - day.midnight, 0) / HOUR
    return np.round(size * 4).astype(np.int64) * (MIB // 4)


def _count(life: Life, tally: Tally) -> None:
    """Add the truth of one replica to its service's."""
    day, pieces, samples = life.day, life.clock.pieces, life.clock.samples
    inside = (pieces >= day.start) & (pieces < day.end)
    unseen = inside & day.during("gap", pieces, life.region)
    requests, errors = life.latencies.sum(axis=1), life.codes["500"] + life.codes["503"]
    tally.requests += int(requests[inside].sum())
    tally.errors += int(errors[inside].sum())
    tally.unseen_requests += int(requests[unseen].sum())
    tally.unseen_errors += int(errors[unseen].sum())
    tally.cpu_seconds += float(life.busy[inside].sum())
    tally.unseen_cpu_seconds += float(life.busy[unseen].sum())
    window = (samples >= day.start) & (samples < day.end) & ~life.dark
    tally.up += int((life.up & window).sum())
    tally.scrapes += int(window.sum())
    new = np.cumsum(life.latencies[inside].sum(axis=0)).tolist()
    tally.buckets = [old + more for old, more in zip(tally.buckets, new, strict=True)]


# --- What the services stand on -------------------------------------------------------------------


def _container(life: Life, page: Page, pod: str, work: Floats, memory: Ints) -> None:
    """Add what cAdvisor and kube-state-metrics say about a replica."""
    profile, clock = _profile(life.service), life.clock
    kept, times = ~life.dark, page.stamps(clock.samples)
    where = {"region": life.region, "namespace": "tars", "pod": pod, "container": life.service}
    cadvisor, state = {"job": "cadvisor"} | where, {"job": "kube-state-metrics"} | where
    page.add("container_cpu_usage_seconds_total", cadvisor, np.round(work * 1.04, 2), times, kept)
    page.add("container_memory_working_set_bytes", cadvisor, memory + 24 * MIB, times, kept)
    restarts = np.zeros(clock.count, dtype=np.int64)
    for moment in life.restarts:
        restarts += clock.samples >= moment
    page.add("kube_pod_container_status_restarts_total", state, restarts, times, kept)
    limits = (("cpu", "core", profile.cpu_limit), ("memory", "byte", profile.memory_limit * GIB))
    for resource, unit, limit in limits:
        label = state | {"resource": resource, "unit": unit}
        values = np.full(clock.count, limit, dtype=np.int64)
        page.add("kube_pod_container_resource_limits", label, values, times, kept)


def _region(day: Day, region: str, page: Page | None) -> dict[str, Count]:
    """Add what one region's infrastructure says, and return the truth of its counts."""
    random = _random(day, "region", region)
    clock = _clock(day, random)
    kept = ~day.during("gap", clock.samples.astype(np.float64), region)
    light = _daylight(clock.pieces, region) * (1.015 if day.faulty else _traffic(day))
    load = light * PLACES[region][1]
    stands = _Stands(page, day, region, random, clock, kept, load)
    # What follows draws from streams of its own: it can be left out, or grow.
    own = {part: replace(stands, random=_random(day, part, region)) for part in _PARTS}
    for part, add in _PARTS.items():
        add(own[part])
    if page is not None:
        _foundations(stands, page)
    return stands.counts


def _foundations(stands: _Stands, page: Page) -> None:
    """Add the database, the cache, the nodes and the WebSocket probe."""
    day, region, random = stands.day, stands.region, stands.random
    clock, kept = stands.clock, stands.kept
    _database(stands)
    _cache(stands)
    _nodes(stands)
    _deployments(stands)
    up = np.ones(clock.count, dtype=np.int64)
    samples = clock.samples.astype(np.float64)
    up[day.during("probe_down", samples, region) | (random.random(clock.count) < 1e-4)] = 0
    label = {"job": "blackbox-websocket", "region": region, "instance": "wss://tars.invalid/ws"}
    page.add("probe_success", label, up, page.stamps(clock.samples), kept)


@dataclass(frozen=True)
class _Stands:
    """What the parts of one region's infrastructure share."""

    page: Page | None  # None: only the truth is wanted
    day: Day
    region: str
    random: np.random.Generator
    clock: Clock
    kept: Mask
    load: Floats  # at each piece; 1 is the largest region's average
    counts: dict[str, Count] = field(default_factory=dict)

    def noise(self, minutes: float, pieces: bool = False) -> Floats:
        """Draw noise, one value a scrape or one a piece."""
        found = _wander(self.random, self.clock.count, self.day.scenario.scrape, minutes)
        return np.repeat(found, 2) if pieces else found

    def incident(self) -> Mask:
        """Tell for each piece whether the incident was going on."""
        return self.day.during("incident", self.clock.pieces, self.region)

    def add(self, job: str, name: str, values: npt.NDArray[Any], **labels: str) -> None:
        """Add a series of one of the region's exporters."""
        if self.page is None:
            return
        parts = ("_bucket", "duration_seconds_sum", "duration_seconds_count")
        kind = "histogram" if name.endswith(parts) else ""
        label = {"job": job, "region": self.region} | labels
        times = self.page.stamps(self.clock.samples)
        self.page.add(name, label, values, times, self.kept, kind)

    def flow(self, a_second: Floats, past: float) -> Ints:
        """Return the counter of a flow of whole things, each piece drawn by chance."""
        events = self.random.poisson(a_second * self.clock.lengths)
        return self.clock.seen(_with_past(events, int(a_second.mean() * past)))

    def count(self, job: str, name: str, a_second: Floats, past: float, **labels: str) -> Ints:
        """Add the counter of a flow of events, keep its truth, and return the events."""
        events = self.random.poisson(a_second * self.clock.lengths)
        self.keep(name, events, **labels)
        seen = self.clock.seen(_with_past(events, int(a_second.mean() * past)))
        self.add(job, name, seen, **labels)
        return events

    def keep(self, name: str, events: npt.NDArray[Any], **labels: str) -> None:
        """Keep the truth of events: what fell into the window, and what of it was unseen."""
        pieces, day = self.clock.pieces, self.day
        inside = (pieces >= day.start) & (pieces < day.end)
        unseen = inside & day.during("gap", pieces, self.region)
        key = name + "".join(f",{key}={value}" for key, value in labels.items())
        self.counts[key] = Count(float(events[inside].sum()), float(events[unseen].sum()))

    def histogram(
        self, job: str, name: str, rate: Floats, median: Floats, spread: float, edges: Edges
    ) -> None:
        """Add a histogram of a flow of events that take log-normal times, and keep its truth."""
        lengths = self.clock.lengths
        events = self.random.poisson((rate * lengths)[:, None] * _shares(median, spread, edges))
        seen = np.cumsum(self.clock.seen(events), axis=1)
        for column, edge in enumerate(edges):
            le = "+Inf" if math.isinf(edge) else str(edge)
            self.keep(f"{name}_bucket", events[:, : column + 1].sum(axis=1), le=le)
            self.add(job, f"{name}_bucket", seen[:, column], le=le)


def _gateway(stands: _Stands) -> None:
    """Add what the region's gateway and service mesh count: tokens, access rules, limits, mTLS."""
    rate = 60 * stands.load * np.exp(0.05 * stands.noise(20, pieces=True))
    bad = stands.incident()

    def count(name: str, a_second: Floats) -> Ints:
        return stands.count("envoy", name, a_second, 2e5)

    count("envoy_http_jwt_authn_allowed", rate * 0.9992)
    count("envoy_http_jwt_authn_denied", rate * 0.0008)
    count("envoy_http_rbac_allowed", rate * 0.999)
    count("envoy_http_rbac_denied", rate * 0.00004)
    # Impatient clients come over the limit while the database is away.
    over = count("envoy_http_local_rate_limit_rate_limited", rate * np.where(bad, 0.03, 0.0004))
    refused = stands.random.binomial(over, 0.97)  # one route only observes its limit
    stands.keep("envoy_http_local_rate_limit_enforced", refused)
    seen = stands.clock.seen(_with_past(refused, int(0.97 * over.mean() * 2e5 / 15)))
    stands.add("envoy", "envoy_http_local_rate_limit_enforced", seen)
    for policy, share in (("mutual_tls", 0.9997), ("none", 0.0003)):
        labels = {"reporter": "destination", "connection_security_policy": policy}
        stands.count("istio", "istio_requests_total", 4 * rate * share, 2e5, **labels)
    left = 61 * DAY + GA_DAY - stands.day.midnight
    expiry = np.full(stands.clock.count, stands.day.midnight + DAY + left, dtype=np.int64)
    stands.add("blackbox-frontend", "probe_ssl_earliest_cert_expiry", expiry, instance="frontend")
    for severity, number in (("Critical", 0), ("High", 2), ("Medium", 14)):
        found = np.full(stands.clock.count, number, dtype=np.int64)
        stands.add("trivy-operator", "trivy_image_vulnerabilities", found, severity=severity)


def _agents(stands: _Stands) -> None:
    """Add what the agents say of their learning, and of living together."""
    steady = 1 + 0.1 * stands.noise(60, pieces=True)
    for result, share in (("success", 0.9985), ("failure", 0.0015)):
        rate = 0.5 * share * np.maximum(steady, 0.1)
        stands.count("tars", "tars_hypersync_operations_total", rate, 5e5, result=result)
    reload_rate = np.full(len(steady), 1 / 300)
    reload_time = np.full(len(steady), 0.085)
    stands.histogram(
        "tars", "tars_hot_reload_duration_seconds", reload_rate, reload_time, 0.4, RELOAD_EDGES
    )
    runs = stands.count("tars", "tars_automl_runs_total", np.full(len(steady), 1 / 3600), 1e6)
    trials = np.where(runs > 0, 20 * runs, 0)  # of each run
    stands.keep("tars_optuna_trials_total", trials)
    stands.add("tars", "tars_optuna_trials_total", stands.clock.seen(_with_past(trials, 5540)))
    conflicts = stands.count(
        "tars", "tars_agent_conflicts_total", np.full(len(steady), 1 / 2400), 1e6
    )
    resolved = stands.random.binomial(conflicts, 0.98)
    stands.keep("tars_agent_conflicts_resolved_total", resolved)
    shown = stands.clock.seen(_with_past(resolved, 408))
    stands.add("tars", "tars_agent_conflicts_resolved_total", shown)
    level = 0.82 if stands.day.name == "ga" else 0.79
    reward = np.round(level + 0.01 * stands.noise(120), 4)
    stands.add("tars", "tars_agent_episode_reward", reward, agent="policy-learner")
    apart = stands.day.during("incident", stands.clock.samples.astype(np.float64), stands.region)
    stands.add("tars", "tars_nash_converged", 1 - apart.astype(np.int64))


def _browsers(stands: _Stands) -> None:
    """Add what users' browsers measured, and the probes from outside."""
    rate = 6 * stands.load * np.exp(0.05 * stands.noise(20, pieces=True))
    slow = 0.9 * np.where(stands.incident(), 2.2, 1.0)
    stands.histogram("frontend", "tars_page_load_seconds", rate, slow, 0.45, PAGE_EDGES)
    samples = stands.clock.samples.astype(np.float64)
    down = stands.day.during("probe_down", samples, stands.region)
    for job in ("blackbox-frontend", "blackbox-api", "blackbox-dashboard"):
        up = (stands.random.random(stands.clock.count) >= 1e-4).astype(np.int64)
        if job == "blackbox-api":
            up[down] = 0
        stands.add(job, "probe_success", up, instance=job.removeprefix("blackbox-"))


def _logs(stands: _Stands) -> None:
    """Add what the log collectors count."""
    rate = 400 * stands.load * np.exp(0.05 * stands.noise(20, pieces=True))
    bad = stands.incident()
    shares = {
        "info": np.full(len(rate), 0.96),
        "warning": np.where(bad, 0.05, 0.008),
        "error": np.where(bad, 0.06, 0.0006),
    }
    lines = sum(
        stands.count("fluent-bit", "log_messages_total", rate * share, 1e5, level=level)
        for level, share in shares.items()
    )
    size = np.asarray(lines, dtype=np.int64) * 240  # bytes of a line
    stands.keep("fluentbit_input_bytes_total", size)
    seen = stands.clock.seen(_with_past(size, 9_000_000_000))
    stands.add("fluent-bit", "fluentbit_input_bytes_total", seen, instance="collector")


_PARTS = {"gateway": _gateway, "agents": _agents, "browsers": _browsers, "logs": _logs}


def _database(stands: _Stands) -> None:
    """Add the queries as the services time them, and PgBouncer's pool."""
    bad = stands.incident()
    median = 0.0042 * np.exp(0.03 * stands.noise(40, pieces=True)) * np.where(bad, 5.0, 1.0)
    median = median * stands.day.effect(0.01, "database", stands.region)
    rate = 60 * stands.load * np.exp(0.04 * stands.noise(30, pieces=True))
    lengths = stands.clock.lengths
    counts = stands.random.poisson((rate * lengths)[:, None] * _shares(median, 0.8, DB_EDGES))
    seen = np.cumsum(stands.clock.seen(counts), axis=1)
    for column, edge in enumerate(DB_EDGES):
        text = "+Inf" if math.isinf(edge) else str(edge)
        stands.add("tars", "db_query_duration_seconds_bucket", seen[:, column], le=text)
    middles = (np.array([0.0, *DB_EDGES[:-1]]) + np.array([*DB_EDGES[:-1], 0.4])) / 2
    spent = np.round(stands.clock.seen(counts @ middles), 4)
    stands.add("tars", "db_query_duration_seconds_count", seen[:, -1])
    stands.add("tars", "db_query_duration_seconds_sum", spent)
    load = 18 * stands.load[0::2] * np.exp(0.1 * stands.noise(10)) + 60 * bad[0::2]
    active = np.minimum(np.round(load), 80).astype(np.int64)
    stands.add("pgbouncer", "pgbouncer_pools_server_active_connections", active, database="tars")
    size = np.full(stands.clock.count, 80, dtype=np.int64)
    stands.add("pgbouncer", "pgbouncer_databases_pool_size", size, database="tars")


def _cache(stands: _Stands) -> None:
    """Add what Redis says; after the incident its keys are cold and come back by and by."""
    pieces = stands.clock.pieces
    rate = 220 * stands.load * np.exp(0.05 * stands.noise(20, pieces=True))
    hit = 0.935 + 0.006 * stands.noise(45, pieces=True)
    for fact in stands.day.named("incident", stands.region):
        since = np.maximum(pieces - fact.start, 0)
        hit = np.where(pieces >= fact.start, hit - 0.3 * np.exp(-since / 1200), hit)
    hit = np.clip(hit, 0, 1)
    stands.add("redis", "redis_keyspace_hits_total", stands.flow(rate * hit, 4e5))
    stands.add("redis", "redis_keyspace_misses_total", stands.flow(rate * (1 - hit), 4e5))
    memory = np.round((1900 + 250 * stands.load[0::2]) * np.exp(0.01 * stands.noise(120)) * 4)
    stands.add("redis", "redis_memory_used_bytes", memory.astype(np.int64) * (MIB // 4))
    clients = np.round(40 + 25 * stands.load[0::2] + 2 * stands.noise(15)).astype(np.int64)
    stands.add("redis", "redis_connected_clients", clients)
    stands.add("redis", "up", np.ones(stands.clock.count, dtype=np.int64))


def _nodes(stands: _Stands, nodes: int = 3, cores: int = 16, memory: int = 64 * GIB) -> None:
    """Add the node exporter's and kube-state-metrics' view of each node."""
    clock, count = stands.clock, stands.clock.count
    elapsed = (clock.samples - clock.start) / DAY
    fuller = 0.033 if stands.day.named("fuller", stands.region) else 0.006
    used = 0.505 * stands.day.effect(0.003, "disk", stands.region) + 0.004 * elapsed
    used = used + (fuller if stands.day.name == "ga" else 0.0)
    for number in range(nodes):
        node = f"node-{number}"
        busy = 0.26 + 0.16 * stands.load + 0.01 * stands.noise(20, pieces=True)
        waiting = np.full(len(busy), 0.01)
        modes = {"user": busy * 0.8, "system": busy * 0.2, "iowait": waiting, "idle": 0.99 - busy}
        for mode, share in modes.items():
            seconds: Floats = share * cores * clock.lengths
            spent = clock.seen(_with_past(seconds, seconds.mean() * 1e5))
            # One series for the node's cores together: the demo needs no more.
            label = {"instance": node, "cpu": "all", "mode": mode}
            stands.add("node", "node_cpu_seconds_total", np.round(spent, 1), **label)
        share_free = (0.46 - 0.06 * stands.load[0::2]) * np.exp(0.02 * stands.noise(60))
        free = np.round(share_free * memory / MIB).astype(np.int64) * MIB
        disk = np.round(200 * GIB * (1 - used) / MIB).astype(np.int64) * MIB
        speed = 4e6 * stands.load * np.exp(0.06 * stands.noise(20, pieces=True)) / 1500
        stands.add("node", "node_memory_MemAvailable_bytes", free, instance=node)
        disk_label = {"instance": node, "mountpoint": "/", "fstype": "ext4", "device": "/dev/sda1"}
        stands.add("node", "node_filesystem_avail_bytes", disk, **disk_label)
        for name, factor in (("receive", 1.0), ("transmit", 2.2)):
            total = stands.flow(speed * factor, 2e5) * 1500  # whole packets
            label = {"instance": node, "device": "eth0"}
            stands.add("node", f"node_network_{name}_bytes_total", total, **label)
        _constants(stands, node, count, cores, memory)


def _constants(stands: _Stands, node: str, count: int, cores: int, memory: int) -> None:
    """Add what does not change about a node."""

    def constant(job: str, name: str, value: int, **labels: str) -> None:
        stands.add(job, name, np.full(count, value, dtype=np.int64), **labels)

    disk = {"instance": node, "mountpoint": "/", "fstype": "ext4", "device": "/dev/sda1"}
    constant("node", "node_memory_MemTotal_bytes", memory, instance=node)
    constant("node", "node_filesystem_size_bytes", 200 * GIB, **disk)
    constant("node", "node_vmstat_oom_kill", 0, instance=node)
    state = "kube-state-metrics"
    constant(state, "kube_node_info", 1, node=node)
    for resource, unit, size in (("cpu", "core", cores), ("memory", "byte", memory)):
        label = {"node": node, "resource": resource, "unit": unit}
        constant(state, "kube_node_status_capacity", size, **label)
    for condition in ("MemoryPressure", "DiskPressure"):
        label = {"node": node, "condition": condition, "status": "true"}
        constant(state, "kube_node_status_condition", 0, **label)


def _deployments(stands: _Stands) -> None:
    """Add how many replicas each deployment asks for."""
    for service in stands.day.scenario.services:
        number = _replicas(stands.day, stands.region, service)
        values = np.full(stands.clock.count, number, dtype=np.int64)
        label = {"namespace": "tars", "deployment": service}
        stands.add("kube-state-metrics", "kube_deployment_spec_replicas", values, **label)


def _server(day: Day, page: Page) -> None:
    """Add what Prometheus says of itself: its rules, and the alerts that they raised."""
    random = _random(day, "server")
    clock = _clock(day, random)
    times, samples = page.stamps(clock.samples), clock.samples
    scenario = day.scenario
    there = np.ones(clock.count, dtype=np.bool_)
    if day.name == "ga" and scenario.present < 1:
        there = samples < day.start + scenario.duration * scenario.present
    rules = 24 * np.arange(1, clock.count + 1, dtype=np.int64)
    page.add("prometheus_rule_evaluations_total", {"job": "prometheus"}, rules, times, there)
    _itself(clock, page, there)
    info = {"generator": "demo/simulate.py", "seed": str(scenario.seed)}
    page.add("tars_simulated_info", info, np.ones(clock.count, dtype=np.int64), times, there)
    for alert in alerts(day):
        for state, start, end in (
            ("pending", alert.start - 60, alert.start),
            ("firing", alert.start, alert.end),
        ):
            label = {
                "alertname": alert.name,
                "alertstate": state,
                "severity": alert.severity,
                "region": alert.region,
                "service": alert.service,
            }
            on = (samples >= start) & (samples < end) & there
            if on.any():
                page.add("ALERTS", label, np.ones(clock.count, dtype=np.int64), times, on)


def _itself(clock: Clock, page: Page, there: Mask) -> None:
    """Add that the server was up, how much it stored, and for how long it keeps it."""
    own, times = {"job": "prometheus"}, page.stamps(clock.samples)
    stored = 21_000 * np.arange(1, clock.count + 1, dtype=np.int64)
    page.add("up", own, np.ones(clock.count, dtype=np.int64), times, there)
    page.add("prometheus_tsdb_head_samples_appended_total", own, stored, times, there)
    kept_for = np.full(clock.count, 60 * DAY, dtype=np.int64)
    page.add("prometheus_tsdb_retention_limit_seconds", own, kept_for, times, there)


# --- All of it ------------------------------------------------------------------------------------


def _play(day: Day, page: Page | None) -> DayTruth:
    """Play one day, into a page or for its truth alone."""
    tallies: dict[str, dict[str, Tally]] = {}
    counts: dict[str, dict[str, Count]] = {}
    for region in day.scenario.regions:
        tallies[region] = {
            service: _service(day, region, service, page) for service in day.scenario.services
        }
        counts[region] = _region(day, region, page)
    if page is not None:
        _server(day, page)
    return DayTruth(day.name, day.start, day.end, tallies, day.facts(), counts)


def truth(scenario: Scenario) -> dict[str, DayTruth]:
    """Return what really happens in a scenario, as {'baseline': …, 'ga': …}."""
    return {day.name: _play(day, None) for day in days(scenario)}


def write(
    path: Path,
    scenario: Scenario,
    only: str = "",
    milliseconds: bool = False,
    change: Callable[[str, Page], None] | None = None,
) -> dict[str, DayTruth]:
    """Write the scrapes of a scenario (of one day, if told) and return the truth behind them.

    OpenMetrics has its times in seconds; with `milliseconds` the text is what VictoriaMetrics'
    /api/v1/import/prometheus reads. `change` is given a day's name and series before they are
    written, and may damage them: the truth stays what it was.
    """
    pages, found = [], {}
    for day in days(scenario):
        if only in ("", day.name):
            page = Page(milliseconds)
            found[day.name] = _play(day, page)
            if change is not None:
                change(day.name, page)
            pages.append(page)
    with path.open("w", encoding="utf-8") as file:
        _emit(file, pages)
    return found


def as_data(found: dict[str, DayTruth]) -> dict[str, Any]:
    """Return a truth as plain data, for JSON."""
    return {"simulated": True, "days": {name: asdict(day) for name, day in found.items()}}


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="the OpenMetrics file to write")
    parser.add_argument("--truth", type=Path, help="a JSON file for what really happened")
    parser.add_argument("--seed", type=int, default=Scenario.seed)
    parser.add_argument("--day", default="", help="only this day: ga, baseline, baseline-2 …")
    parser.add_argument("--clean", action="store_true", help="no fault at all")
    options = parser.parse_args(arguments)
    scenario = Scenario(seed=options.seed, faults=not options.clean)
    found = write(options.output, scenario, options.day)
    if options.truth:
        text = json.dumps(as_data(found), indent=1, sort_keys=True)
        options.truth.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
