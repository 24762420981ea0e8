"""How drift analysis fares on real production series: ours and the usual ways.

    python -m benchmarks.real_series [FOLDER] [--quick]

FOLDER (or the environment variable TARS_GA_REAL_SERIES) holds a folder a domain, of CSV files with
the columns TimeStamp, Value and Label (1 = anomalous), as Microsoft's Cloud Monitoring Dataset has
them. Its data is no part of this project. A third of the domains, chosen by a hash of their names,
is held back: no constant was set by looking at it.

A window of a day (or a week) is compared with the k latest earlier ones without a label, of like
weekday or weekend where there are enough. A window is labelled if one of its samples is. Without
ruptures (PyPI) its column is left out.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.sections import README, table, write
from tars_ga_lib.change.shifts import fdr, shifts

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

DEFAULT = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "cloud_monitoring"
DAY = 86_400
CHART = "real_series.svg"


@dataclass(frozen=True)
class Windows:
    """Windows of series beside their baselines."""

    step: float
    baseline: Floats  #: (N, k, T)
    window: Floats  #: (N, T)
    labelled: Flags  #: (N,)
    held: Flags  #: (N,) whether of a domain that is held back


# --- the data ------------------------------------------------------------------------------


def held_back(domains: Iterable[str]) -> set[str]:
    """Return the third of the domains that nothing was chosen on: those of the least digests."""
    ordered = sorted(domains, key=lambda d: hashlib.sha256(f"held back: {d}".encode()).hexdigest())
    return set(ordered[: len(ordered) // 3])


def read(folder: Path) -> Iterator[tuple[str, Floats]]:
    """Domain and samples (n, 3) of each series: seconds since the epoch, value, label."""
    for path in sorted(folder.glob("*/*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            rows = [
                (_seconds(row["TimeStamp"]), float(row["Value"]), float(row["Label"]))
                for row in csv.DictReader(file)
                if row["Value"]
            ]
        yield path.parent.name, np.array(sorted(rows))


def _seconds(text: str) -> float:
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def windows(folder: Path, step: int, days: int, k: int) -> Windows:
    """Windows of so many days at ``step`` seconds, of all series that are at most half as coarse.

    Series by the minute are averaged over 5 minutes; those by the hour are taken as they are.
    """
    found: list[tuple[Floats, Floats, bool, bool]] = []
    apart = held_back(path.name for path in folder.iterdir() if path.is_dir())
    for domain, samples in read(folder):
        every = float(np.median(np.diff(samples[:, 0])))
        if (every == step) != (step == 3600) or every > step:
            continue
        x, labelled, first = _grid(samples, step, days)
        whole = np.isfinite(x).mean(axis=1) >= 0.8
        for i in np.flatnonzero(whole).tolist():
            earlier = np.flatnonzero(whole[:i] & ~labelled[:i])[::-1]
            chosen = _like(earlier, i, first)[:k] if days == 1 else earlier[:k]
            if len(chosen) == k:
                baseline = x[np.sort(chosen)[::-1]]
                found.append((baseline, x[i], bool(labelled[i]), domain in apart))
    parts = [np.array(part) for part in zip(*found, strict=True)]
    return Windows(float(step), *parts)


def _grid(samples: Floats, step: int, days: int) -> tuple[Floats, Flags, int]:
    """Samples as (windows, T) of whole days, which windows are labelled, and the first's day."""
    begin = -(-samples[0, 0] // DAY) * DAY
    length = days * DAY // step
    at = ((samples[:, 0] - begin) // step).astype(np.int64)
    size = (at[-1] + 1) // length * length
    inside = (at >= 0) & (at < size)
    at, values, labels = at[inside], samples[inside, 1], samples[inside, 2]
    count, total = np.bincount(at, minlength=size), np.bincount(at, values, minlength=size)
    x = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    marked = np.bincount(at, labels, minlength=size).reshape(-1, length).sum(axis=1) > 0
    return np.asarray(x.reshape(-1, length)), marked, int(begin // DAY)


def _like(earlier: NDArray[np.int64], i: int, first: int) -> NDArray[np.int64]:
    """Earlier days, the same weekday first, then working days or weekends alike, then others."""

    def weekend(day: Any) -> Any:
        return (first + day + 3) % 7 >= 5

    order = np.where((i - earlier) % 7 == 0, 0, np.where(weekend(earlier) == weekend(i), 1, 2))
    return earlier[np.argsort(order, kind="stable")]


# --- the methods ---------------------------------------------------------------------------


def _pooled(w: Windows) -> tuple[Floats, Floats]:
    return w.baseline.reshape(len(w.window), -1), w.window


def _each(w: Windows, test: Callable[[Floats, Floats], float]) -> Floats:
    before, after = _pooled(w)
    return np.array(
        [test(b[np.isfinite(b)], a[np.isfinite(a)]) for b, a in zip(before, after, strict=True)]
    )


def percent(w: Windows) -> Floats:
    """Difference of the means as a share of the baseline's."""
    before, after = _pooled(w)
    with np.errstate(all="ignore"):
        share = np.abs(np.nanmean(after, axis=1) / np.nanmean(before, axis=1) - 1)
    return np.asarray(np.nan_to_num(share, nan=0.0, posinf=np.inf))


def mann_whitney(w: Windows) -> Floats:
    """Mann-Whitney, 1 - p."""
    return 1 - _each(w, lambda b, a: float(stats.mannwhitneyu(b, a).pvalue))


def kolmogorov_smirnov(w: Windows) -> Floats:
    """Kolmogorov-Smirnov, 1 - p."""
    return 1 - _each(w, lambda b, a: float(stats.ks_2samp(b, a, method="asymp").pvalue))


def otava(w: Windows) -> Floats:
    """Apache Otava's test at the border of baseline and window, 1 - p.

    Otava (Fleming et al. 2023, "Hunter", section 3) replaces the permutation test of E-divisive
    (Matteson & James 2014) by Student's t of the samples either side of a change point. The package
    pins older versions of numpy and scipy than ours, so that its algorithm is written here. A
    change point counts where it lies in the window, or at its border.
    """

    def test(before: Floats, after: Floats) -> float:
        return min(_divide(np.concatenate([before, after]), len(before)), 1.0)

    return 1 - _each(w, test)


def _divide(x: Floats, border: int, alpha: float = 0.001) -> float:
    """Least p-value of the change points at or behind the border, by binary segmentation."""
    cuts, least = [0, len(x)], 1.0
    for _ in range(20):
        best = (0.0, 0, 1.0)
        for begin, end in itertools.pairwise(cuts):
            q, at = _most_divisive(x[begin:end])
            if q > best[0]:
                left, right = x[begin : begin + at], x[begin + at : end]
                best = (q, begin + at, float(stats.ttest_ind(left, right, equal_var=False).pvalue))
        if not best[1]:
            break
        if best[1] >= border:
            least = min(least, best[2])
        if not best[2] < alpha:
            break
        cuts = sorted([*cuts, best[1]])
    return least


def _most_divisive(x: Floats) -> tuple[float, int]:
    """Where the energy distance of both sides, in its form for means, is greatest, and its size."""
    n = len(x)
    if n < 10 or np.ptp(x) == 0:
        return 0.0, 0
    at = np.arange(5, n - 4)
    total = np.cumsum(x)
    apart = total[at - 1] / at - (total[-1] - total[at - 1]) / (n - at)
    q = at * (n - at) / n * apart**2 / x.var()
    i = int(q.argmax())
    return float(q[i]), int(at[i])


def ruptures_pelt(w: Windows) -> Floats:
    """PELT (Killick et al. 2012) of ruptures: the greatest penalty at which a window has a change.

    In multiples of log n, of samples scaled by their spread from one to the next.
    """
    ruptures = importlib.import_module("ruptures")  # only this benchmark needs it

    def test(before: Floats, after: Floats) -> float:
        x = np.concatenate([before, after])
        x = (x - np.median(x)) / (np.median(np.abs(np.diff(x))) or x.std() or 1)
        algorithm = ruptures.KernelCPD(kernel="linear", min_size=3).fit(x)  # PELT in C
        for penalty in (1000, 300, 100, 30, 10, 3):
            found = algorithm.predict(pen=penalty * np.log(len(x)))[:-1]
            if any(point >= len(before) - 3 for point in found):
                return float(penalty)
        return 0.0

    return _each(w, test)


def ours(w: Windows) -> dict[str, Any]:
    """Level, incident, either after correction, any kind, doubt, and 1 - the least adjusted p."""
    found = shifts(w.baseline, w.window, step=w.step)
    adjusted = np.array([fdr(p) for p in np.stack([found.p_value, found.incident_p], axis=1)])
    level = np.abs(found.relative) > 0.05
    incident = np.array([len(parts) > 0 for parts in found.incidents])
    large = np.where(np.stack([level, incident], axis=1), adjusted, 1)
    return {
        "level": level & (found.p_value < 0.05),
        "incident": incident & (found.incident_p < 0.05),
        "finding": (large < 0.05).any(axis=1),
        "kind": found.kind != "none",
        "uncertain": (np.abs(found.relative) > 0.1) & ~(found.p_value < 0.05),
        "score": 1 - np.nan_to_num(large, nan=1.0).min(axis=1),
    }


# --- tables --------------------------------------------------------------------------------


def rates(flags: Flags, w: Windows, part: Flags) -> str:
    """Shares in percent of quiet and of labelled windows."""

    def share(which: Flags) -> str:
        return f"{100 * flags[which].mean():.0f}" if which.any() else "–"

    return f"{share(part & ~w.labelled)} / {share(part & w.labelled)}"


def report(folder: Path, quick: bool) -> str:
    """The text of the README's section; writes the chart."""
    sets = [("days at 5 min", 300, 1, k) for k in (1, 3, 7)]
    sets += [("days at 1 h", 3600, 1, k) for k in (1, 3, 7)]
    sets += [("weeks at 1 h", 3600, 7, k) for k in (1, 3)]
    rows, curves = [], {}
    for name, step, days, k in sets:
        w = windows(folder, step, days, k)
        if quick:
            some = np.random.default_rng(0).permutation(len(w.window))[:200]
            w = Windows(w.step, w.baseline[some], w.window[some], w.labelled[some], w.held[some])
        print(name, k, flush=True)
        mine = ours(w)
        scores = {
            "ours": mine["score"],
            "Mann–Whitney": mann_whitney(w),
            "Kolmogorov–Smirnov": kolmogorov_smirnov(w),
            "percent of means": percent(w),
            "Otava": otava(w),
        }
        try:
            scores["ruptures PELT"] = ruptures_pelt(w)
        except ImportError:
            print("ruptures is not installed (pip install ruptures): its column is left out")
        everything = np.ones(len(w.labelled), dtype=np.bool_)
        limits = {
            "Mann–Whitney": 0.98,
            "Kolmogorov–Smirnov": 0.98,
            "percent of means": 0.1,
            "Otava": 0.999,
            "ruptures PELT": 3,
        }
        rows.append(
            [
                f"{name}, k = {k}",
                f"{(~w.labelled).sum()} / {w.labelled.sum()}",
                f"**{rates(mine['finding'], w, everything)}**",
                f"**{rates(mine['finding'], w, w.held)}**",
                *(
                    rates(mine[name], w, everything)
                    for name in ("level", "incident", "kind", "uncertain")
                ),
                *(
                    rates(scores[m] > limit, w, everything) if m in scores else "–"
                    for m, limit in limits.items()
                ),
            ]
        )
        if (name, k) == ("days at 1 h", 7):
            curves = {m: operating_curve(s, w.labelled) for m, s in scores.items()}
    draw(curves)
    return _text(rows, curves)


def operating_curve(score: Floats, labelled: Flags) -> tuple[Floats, Floats]:
    """Share of quiet and of labelled windows with a score of at least each limit."""
    limits = np.concatenate([np.unique(score), [np.inf]])[::-1]
    quiet, hit = (np.sort(score[part]) for part in (~labelled, labelled))
    return (
        1 - np.searchsorted(quiet, limits) / len(quiet),
        1 - np.searchsorted(hit, limits) / len(hit),
    )


def draw(curves: dict[str, tuple[Floats, Floats]]) -> None:
    """Draw false alarms against hits as the limit moves."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, (quiet, hit) in curves.items():
        axes.step(100 * quiet, 100 * hit, where="post", lw=2.5 if name == "ours" else 1, label=name)
    axes.axvline(8, color="0.7", lw=0.8, ls=":")
    axes.set(
        xlabel="quiet days with a finding (%)",
        ylabel="labelled days with a finding (%)",
        title="Days at 1 h against 7 earlier days",
        xlim=(0, 60),
        ylim=(0, 100),
    )
    axes.legend(loc="lower right", frameon=False)
    with mpl.rc_context({"svg.hashsalt": "real_series"}):
        figure.savefig(README.parent / CHART, metadata={"Date": None})


def _text(rows: list[list[str]], curves: dict[str, tuple[Floats, Floats]]) -> str:
    heads = [
        "windows",
        "quiet / labelled",
        "**ours: a finding**",
        "**… held-back third**",
        "level",
        "incident",
        "any kind",
        "uncertain",
        "Mann–Whitney at 2 %",
        "Kolmogorov–Smirnov at 2 %",
        "means > 10 % apart",
        "Otava",
        "ruptures PELT",
    ]
    at_8 = [
        [name, f"{100 * hit[quiet <= 0.08].max():.0f}"] for name, (quiet, hit) in curves.items()
    ]
    return f"""## Drift on real series

`python -m benchmarks.real_series` writes this section from Microsoft's Cloud Monitoring Dataset
(60 labelled series of production telemetry, MIT licence), which is no part of this project. A
window of a day, or of a week, is compared with k earlier ones without a label. Each cell is the
percentage of quiet and of labelled windows with a finding: a good method has a small first and a
large second figure. A finding is a level beyond 5 % or an incident beyond 10 % that is
significant after the correction for both questions; "uncertain" is a level beyond 10 % that is
not. The labels mark points, so many labelled days have a level like any other.

{table(heads, rows)}

### Hits at equal false alarms

As the limit of each method moves, it has more hits and more false alarms. With the limit at
which it has 8 % false alarms (days at 1 h, k = 7), which no user knows beforehand:

{table(["method", "labelled days with a finding"], at_8)}

![False alarms against hits of six methods as their limit moves]({CHART})
"""


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    named = os.environ.get("TARS_GA_REAL_SERIES", str(DEFAULT))
    parser.add_argument("folder", nargs="?", type=Path, default=Path(named))
    parser.add_argument("--quick", action="store_true", help="200 windows a row, printed only")
    asked = parser.parse_args()
    if not any(asked.folder.glob("*/*.csv")):
        raise SystemExit(
            f"There is no series (DOMAIN/*.csv) in {asked.folder}: the data is no part of this "
            "project; name the folder that holds it, or set TARS_GA_REAL_SERIES."
        )
    text = report(asked.folder, asked.quick)
    print(text)
    if not asked.quick:
        write("real_series", text)


if __name__ == "__main__":
    main()
