"""How often drift analysis cries wolf, and what it misses: ours and the usual ways.

Every draw is seeded, so a second run gives the same rates. The tables are written into
`benchmarks/README.md`.

    python -m benchmarks.drift_quality [--quick]

The whole takes less than 4 minutes on two cores; `--quick` a tenth of the pairs, and only prints.
"""

from __future__ import annotations

import argparse
import platform
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy import fft, special, stats
from scipy.signal import fftconvolve, lfilter

from benchmarks.sections import table, write
from tars_ga_lib.change.noise import noise
from tars_ga_lib.change.sequential import sequential
from tars_ga_lib.change.shifts import Shifts, fdr, shifts

Floats = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]
Draw = Callable[[np.random.Generator, int], Floats]

SAMPLES = 288
STEP = 300.0
SPREAD = 0.1  #: of the noise, as a share of the level 1


# --- noise whose truth is known ------------------------------------------------------------


def arma(
    rng: np.random.Generator, n: int, ar: list[float], ma: list[float], tails: int = 0
) -> Floats:
    """ARMA noise of unit spread; Student's t innovations of ``tails`` degrees of freedom."""
    size = (n, SAMPLES + 400)
    draws = rng.standard_t(tails, size) if tails else rng.standard_normal(size)
    x: Floats = lfilter([1, *ma], [1, *(-a for a in ar)], draws, axis=1)[:, 400:]
    response = lfilter([1, *ma], [1, *(-a for a in ar)], np.eye(1, 4000)[0])
    variance = tails / (tails - 2) if tails else 1.0
    spread = float(np.sqrt((response**2).sum() * variance))
    return x / spread


def ar1(rng: np.random.Generator, n: int, phi: float, tails: int = 0) -> Floats:
    """AR(1) noise of unit spread."""
    return arma(rng, n, [phi], [], tails)


def long_memory(rng: np.random.Generator, n: int, d: float) -> Floats:
    """Fractional noise (1/f-like) of unit spread."""
    lags = np.arange(1, 4000)
    weights = np.cumprod(np.append(1, (lags - 1 + d) / lags))
    draws = rng.standard_normal((n, SAMPLES + 4000))
    x: Floats = fftconvolve(draws, weights[None], axes=1)[:, 4000 : 4000 + SAMPLES]
    spread = float(np.sqrt((weights**2).sum()))
    return x / spread


def season(depth: float = 0.4) -> Floats:
    """A day with a busy and a calm half."""
    wave: Floats = 1 + depth * np.sin(2 * np.pi * np.arange(SAMPLES) / SAMPLES)
    return wave


def thinned(rng: np.random.Generator, x: Floats, share: float = 0.1) -> Floats:
    """Some samples lost, here and there."""
    return np.where(rng.random(x.shape) < share, np.nan, x)


def torn(rng: np.random.Generator, x: Floats) -> Floats:
    """Two hours and a half lost, an hour at a time at most."""
    x = x.copy()
    for length in (12, 12, 6):
        begin = rng.integers(0, SAMPLES - length, len(x))
        x[np.arange(len(x))[:, None], begin[:, None] + np.arange(length)] = np.nan
    return x


def _level(noise: Callable[[np.random.Generator, int], Floats]) -> Draw:
    return lambda rng, n: 1 + SPREAD * noise(rng, n)


PROMISED: dict[str, Draw] = {
    **{
        f"AR(1), φ = {phi:g}": _level(lambda r, n, p=phi: ar1(r, n, p))  # type: ignore[misc]
        for phi in (0, 0.5, 0.8, 0.9, 0.95)
    },
    "season, φ = 0.5": lambda r, n: season() + SPREAD * ar1(r, n, 0.5),
    "season, φ = 0.95": lambda r, n: season() + SPREAD * ar1(r, n, 0.95),
    "heavy tails (t3), φ = 0.5": _level(lambda r, n: ar1(r, n, 0.5, 3)),
    "counts, mean 0.05": lambda r, n: r.poisson(0.05, (n, SAMPLES)).astype(float),
    "counts, mean 0.5": lambda r, n: r.poisson(0.5, (n, SAMPLES)).astype(float),
    "10 % missing, φ = 0.5": lambda r, n: thinned(r, 1 + SPREAD * ar1(r, n, 0.5)),
    "10 % missing, φ = 0.95": lambda r, n: thinned(r, 1 + SPREAD * ar1(r, n, 0.95)),
    "10 % missing in bursts, φ = 0.9": lambda r, n: torn(r, 1 + SPREAD * ar1(r, n, 0.9)),
}

FURTHER: dict[str, Draw] = {
    "heavy tails (t3), φ = 0": _level(lambda r, n: ar1(r, n, 0, 3)),
    "heavy tails (t3), φ = 0.9": _level(lambda r, n: ar1(r, n, 0.9, 3)),
    "noise in proportion to a season": lambda r, n: season() * (1 + SPREAD * ar1(r, n, 0.8)),
    "noisy days, calm nights": lambda r, n: 1 + SPREAD * season(0.8) * ar1(r, n, 0.8),
    "lognormal, φ = 0.8": lambda r, n: np.exp(0.7 * ar1(r, n, 0.8)),
    "whole numbers, φ = 0.7": lambda r, n: np.round(2 + 0.5 * ar1(r, n, 0.7)),
    "counts of an AR(1) rate": lambda r, n: r.poisson(2 * np.exp(0.5 * ar1(r, n, 0.9))) + 0.0,
    "a third AR(1) φ = 0.95, rest white": _level(
        lambda r, n: 0.6 * ar1(r, n, 0.95) + 0.8 * ar1(r, n, 0)
    ),
    "half AR(1) φ = 0.9, half white": _level(
        lambda r, n: np.sqrt(0.5) * (ar1(r, n, 0.9) + ar1(r, n, 0))
    ),
    "ARMA(0.9, -0.6)": _level(lambda r, n: arma(r, n, [0.9], [-0.6])),
    "AR(2), swinging": _level(lambda r, n: arma(r, n, [1.2, -0.6], [])),
    "AR(2), slow": _level(lambda r, n: arma(r, n, [1.3, -0.4], [])),
    "MA(3)": _level(lambda r, n: arma(r, n, [], [0.8, 0.6, 0.4])),
    "MA(1), negative": _level(lambda r, n: arma(r, n, [], [-0.6])),
    "long memory, d = 0.2": _level(lambda r, n: long_memory(r, n, 0.2)),
    "long memory, d = 0.4": _level(lambda r, n: long_memory(r, n, 0.4)),
}


# --- other ways ----------------------------------------------------------------------------


def mann_whitney(before: Floats, after: Floats) -> Floats:
    """Mann-Whitney p-values of raw samples."""
    found = stats.mannwhitneyu(before, after, axis=1, method="asymptotic", nan_policy="omit")
    return np.asarray(found.pvalue)


def kolmogorov_smirnov(before: Floats, after: Floats) -> Floats:
    """Kolmogorov-Smirnov p-values of raw samples."""
    return np.array(
        [
            stats.ks_2samp(b[np.isfinite(b)], w[np.isfinite(w)], method="asymp").pvalue
            for b, w in zip(before, after, strict=True)
        ]
    )


def percent_difference(before: Floats, after: Floats) -> Floats:
    """Difference of the means as a share of the baseline's."""
    share: Floats = np.abs(np.nanmean(after, axis=1) / np.nanmean(before, axis=1) - 1)
    return share


def _centred(difference: Floats) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Differences about their mean with 0 for the missing, the means and the counts."""
    seen = np.isfinite(difference)
    mean = np.nanmean(difference, axis=1)
    return np.where(seen, difference - mean[:, None], 0), mean, seen.sum(axis=1)


def plain_t(difference: Floats) -> Floats:
    """Student's t, as if samples were independent."""
    x, mean, n = _centred(difference)
    return _p(mean, np.sqrt((x**2).sum(axis=1) / (n - 1) / n), n - 1.0)


def effective_samples_t(difference: Floats) -> Floats:
    """Student's t with a bias-corrected AR(1) effective sample size (Kendall 1954)."""
    x, mean, n = _centred(difference)
    seen = np.isfinite(difference[:, 1:]) & np.isfinite(difference[:, :-1])
    variance = (x**2).sum(axis=1) / n
    r = (x[:, 1:] * x[:, :-1]).sum(axis=1) / seen.sum(axis=1) / variance
    r = np.clip(r + (1 + 3 * r) / n, -0.5, 0.99)
    lags = np.arange(1, SAMPLES)
    inflation = 1 + 2 * (np.clip(1 - lags / n[:, None], 0, None) * r[:, None] ** lags).sum(axis=1)
    error = np.sqrt(variance / (1 - inflation / n) * inflation / n)
    return _p(mean, error, np.maximum(n / inflation - 1, 1))


def equal_weighted_cosines(terms: int) -> Callable[[Floats], Floats]:
    """Equal-weighted cosines (Müller 2004; Lazarus, Lewis, Stock & Watson 2018)."""

    def test(difference: Floats) -> Floats:
        x, mean, n = _centred(difference)
        power = (fft.dct(x, norm="ortho", axis=1)[:, 1 : terms + 1] ** 2).mean(axis=1)
        return _p(mean, np.sqrt(power * SAMPLES) / n, np.full(len(x), float(terms)))

    return test


def batch_means(difference: Floats, batches: int = 12) -> Floats:
    """Student's t of the means of 12 batches."""
    x, mean, n = _centred(difference)
    sums = np.add.reduceat(x, np.arange(batches) * SAMPLES // batches, axis=1)
    error = np.sqrt((sums**2).sum(axis=1) / (batches - 1) * batches) / n
    return _p(mean, error, np.full(len(x), batches - 1.0))


def stationary_bootstrap(difference: Floats) -> Floats:
    """Stationary block bootstrap (Politis & Romano 1994), in the closed form of its variance.

    The mean block length is the best for AR(1) noise (Politis & White 2004).
    """
    x, mean, n = _centred(difference)
    variance = (x**2).sum(axis=1) / n
    r = np.clip((x[:, 1:] * x[:, :-1]).sum(axis=1) / n / variance, 0, 0.99)
    block = np.maximum(1, (np.sqrt(6) * r / (1 - r**2)) ** (2 / 3) * n ** (1 / 3))
    spectrum = np.abs(fft.rfft(x, 2 * SAMPLES, axis=1)) ** 2
    covariance = fft.irfft(spectrum, axis=1)[:, :SAMPLES] / n[:, None]
    lags = np.arange(SAMPLES)
    keep = (1 - 1 / block)[:, None]
    weight = (1 - lags / SAMPLES) * keep**lags + lags / SAMPLES * keep ** (SAMPLES - lags)
    total = covariance[:, 0] + 2 * (weight * covariance)[:, 1:].sum(axis=1)
    return _p(mean, np.sqrt(np.maximum(total, 1e-12) / n), np.full(len(x), 1e9))


def weighed_shapes(difference: Floats) -> Floats:
    """Ours, without the care for outliers and changes: noise shapes weighed by fit."""
    p = np.empty(len(difference))
    seen = np.isfinite(difference)
    for n in np.unique(seen.sum(axis=1)):
        rows = np.flatnonzero(seen.sum(axis=1) == n)
        x = difference[rows][seen[rows]].reshape(len(rows), n)
        error, dof = noise(x.astype(np.float64)).error_of_mean()
        p[rows] = _p(x.mean(axis=1), error, dof)
    return p


def _p(mean: Floats, error: Floats, dof: Floats) -> Floats:
    p: Floats = 2 * special.stdtr(dof, -np.abs(mean) / error)
    return p


CANDIDATES: dict[str, Callable[[Floats], Floats]] = {
    "Student's t": plain_t,
    "AR(1) effective samples": effective_samples_t,
    "cosines, 8": equal_weighted_cosines(8),
    "cosines, 18": equal_weighted_cosines(18),
    "12 batches": batch_means,
    "block bootstrap": stationary_bootstrap,
    "**shapes weighed**": weighed_shapes,
}


# --- tables --------------------------------------------------------------------------------


def percent(flags: Any) -> str:
    """Share of true ones, in percent."""
    return f"{100 * np.mean(flags):.1f}"


def varied(draw: Draw, seed: int, n: int) -> tuple[Floats, Floats]:
    """Baselines and windows without change; pairs of which both never vary are left out."""
    rng = np.random.default_rng(seed)
    before, after = draw(rng, n), draw(rng, n)
    some = np.nanstd(after - before, axis=1) > 0
    return before[some], after[some]


def false_alarms(n: int, few: int) -> str:
    """Rates without change, ours and of the usual ways."""
    rows = []
    for seed, (name, draw) in enumerate(PROMISED.items()):
        before, after = varied(draw, seed, n)
        found = shifts(before, after, step=STEP)
        checks = sequential(before[:few], after[:few], step=STEP)
        share = percent_difference(before, after)
        rows.append(
            [
                name,
                f"**{percent(found.p_value < 0.05)}**",
                percent((found.low <= 0) & (found.high >= 0)),
                percent(found.kind != "none"),
                percent(checks.first_alarm >= 0),
                percent(mann_whitney(before[:few], after[:few]) < 0.05),
                percent(kolmogorov_smirnov(before[:few], after[:few]) < 0.05),
                percent(share > 0.05),
                percent(share > 0.1),
            ]
        )
    return table(
        [
            "no change",
            "**shift**",
            "interval covers 0",
            "any kind",
            "any check of the day",
            "Mann–Whitney",
            "Kolmogorov–Smirnov",
            "means > 5 % apart",
            "> 10 % apart",
        ],
        rows,
    )


def choice_of_error(n: int) -> str:
    """False alarms of ways to judge the error of a mean, over a wide family of noises."""
    rows = []
    for seed, (name, draw) in enumerate({**PROMISED, **FURTHER}.items()):
        before, after = varied(draw, 100 + seed, n)
        difference = after - before
        rows.append([name, *(percent(test(difference) < 0.05) for test in CANDIDATES.values())])
    return table(["no change", *CANDIDATES], rows)


def _caught(found: Shifts, change: str) -> Flags:
    """Whether ours names the change for what it is."""
    if change.startswith("incident"):
        near = (np.abs(found.begin - 200) <= 3) & (np.abs(found.end - 206) <= 3)
        right: Flags = (found.kind == "incident") & near
        return right
    if change.startswith("leak"):
        return found.slope_p < 0.05
    return found.p_value < 0.05


def power(n: int, few: int) -> str:
    """Share of true changes found, by persistence of the noise."""
    hours = np.arange(SAMPLES) / SAMPLES
    incident = (np.arange(SAMPLES) >= 200) & (np.arange(SAMPLES) < 206)
    changes: dict[str, Floats] = {
        **{f"shift of {100 * s:g} %": np.full(SAMPLES, s) for s in (0.02, 0.05, 0.1, 0.2)},
        "shift of 20 % from noon on": 0.2 * (hours >= 0.5),
        "incident, 30 min of +50 %": 0.5 * incident,
        "incident, 30 min of +100 %": 1.0 * incident,
        "leak of 10 % in a day": 0.1 * hours,
        "leak of 20 % in a day": 0.2 * hours,
        "leak of 50 % in a day": 0.5 * hours,
    }
    rows = []
    for name, change in changes.items():
        row = [name]
        for phi in (0, 0.5, 0.8, 0.9, 0.95):
            before, after = varied(PROMISED[f"AR(1), φ = {phi:g}"], 200, n)
            after = after * (1 + change)
            row.append(f"**{percent(_caught(shifts(before, after, step=STEP), name))}**")
            if phi == 0.5:
                row += [
                    percent(mann_whitney(before[:few], after[:few]) < 0.05),
                    percent(kolmogorov_smirnov(before[:few], after[:few]) < 0.05),
                    percent(percent_difference(before, after) > 0.1),
                ]
        rows.append(row)
    return table(
        [
            "change",
            "**φ = 0**",
            "**φ = 0.5**",
            "Mann–Whitney, φ = 0.5",
            "Kolmogorov–Smirnov, φ = 0.5",
            "means > 10 % apart, φ = 0.5",
            "**φ = 0.8**",
            "**φ = 0.9**",
            "**φ = 0.95**",
        ],
        rows,
    )


def whole_days(days: int) -> str:
    """Days of 36 series without change on which anything is called critical."""
    rng = np.random.default_rng(300)
    persistence = np.resize([0, 0.5, 0.8, 0.9, 0.95, 0.95], 36)
    before, after = (
        np.stack([1 + SPREAD * ar1(rng, days, phi) for phi in persistence], axis=1)
        for _ in range(2)
    )
    found = shifts(before.reshape(-1, SAMPLES), after.reshape(-1, SAMPLES), step=STEP)
    adjusted = np.stack([fdr(p) for p in found.p_value.reshape(days, 36)])
    beyond = np.abs(found.relative.reshape(days, 36)) > 0.1
    raw = np.array([mann_whitney(b, w) for b, w in zip(before, after, strict=True)])
    plain = np.stack([fdr(p) for p in raw])
    return table(
        [f"{days} days of 36 series", "days with a critical finding"],
        [
            [
                "**ours: beyond 10 % and significant after Benjamini–Hochberg**",
                f"**{percent((beyond & (adjusted < 0.05)).any(axis=1))} %**",
            ],
            [
                "Mann–Whitney with the same limit and correction",
                f"{percent((beyond & (plain < 0.05)).any(axis=1))} %",
            ],
            ["means more than 10 % apart", f"{percent(beyond.any(axis=1))} %"],
        ],
    )


def speed(pairs: int, sample: int) -> str:
    """Time and memory for many pairs, and for a loop over a sample of them."""
    rng = np.random.default_rng(400)
    before = np.concatenate([PROMISED["AR(1), φ = 0.5"](rng, pairs // 6) for _ in range(6)])
    after = np.concatenate([PROMISED["AR(1), φ = 0.5"](rng, pairs // 6) for _ in range(6)])
    begin = time.perf_counter()
    shifts(before, after, step=STEP)
    ours = time.perf_counter() - begin
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    begin = time.perf_counter()
    for b, w in zip(before[:sample], after[:sample], strict=True):
        stats.mannwhitneyu(b, w)
        stats.bootstrap((b, w), _medians_apart, n_resamples=999, method="percentile", rng=rng)
    loop = (time.perf_counter() - begin) / sample * pairs
    return (
        table(
            [f"{pairs:,} pairs of {SAMPLES} samples", "seconds", "times as fast"],
            [
                ["**ours, all kinds of change**", f"**{ours:.1f}**", f"**{loop / ours:.0f}**"],
                [
                    f"loop of mannwhitneyu and a bootstrap of the median (999 resamples), from "
                    f"{sample} pairs",
                    f"{loop:,.0f}",
                    "1",
                ],
            ],
        )
        + f"\n\nPeak memory of the whole process, {pairs:,} pairs held in it: {memory:.2f} GiB."
    )


def _medians_apart(before: Floats, after: Floats, axis: int) -> Floats:
    apart: Floats = np.median(after, axis=axis) - np.median(before, axis=axis)
    return apart


def report(n: int, few: int, days: int, pairs: int, sample: int) -> str:
    """All tables, as the text of the README's section."""
    fast = speed(pairs, sample)
    error = 100 * np.sqrt(0.05 * 0.95 / n)
    error_few = 100 * np.sqrt(0.05 * 0.95 / few)
    return f"""## Drift: false alarms, power, speed

`python -m benchmarks.drift_quality` writes this section. A pair is a baseline and a window of
{SAMPLES} samples (24 h at 5 min) of level 1 with noise of spread {SPREAD:g}. All figures are in
percent; the test level is 5 %. Ours and the percent differences are of {n:,} pairs a row (standard
error {error:.2f} at 5 %), checks of the day, Mann–Whitney and Kolmogorov–Smirnov of {few:,}
({error_few:.2f}). Python {platform.python_version()}, numpy {np.__version__}, scipy
{scipy.__version__}.

### Without change: how often is something called?

"Shift" is the p-value of the level, "any kind" a named shift, incident, trend or change of spread,
"any check of the day" an alarm of any check while the window unfolds.

{false_alarms(n, few)}

{whole_days(days)}

### How the error of a level was chosen

The same question put to ways to judge the error of the mean difference of like hours, over a
wider family of noises ({n:,} pairs a row). Well below 5 means wider intervals than need be, well
above it means alarms. The two long-memory rows have no right answer in a single day: what wanders
over days cannot be told from a change of the day. Baselines of several days are for that.

{choice_of_error(n)}

### With a change: how often is it found?

The noise is AR(1). An incident counts where its kind, begin and end (within three samples) are
right, a leak by the p-value of its trend, a shift by that of the level. The other ways only say
that something differs, and say so as well where nothing does (above).

{power(n // 2, few)}

### Speed

{fast}
"""


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a tenth of the pairs, printed only")
    if parser.parse_args().quick:
        print(report(n=600, few=100, days=30, pairs=6_000, sample=5))
    else:
        write("drift_quality", report(n=6_000, few=1_000, days=400, pairs=60_000, sample=40))


if __name__ == "__main__":
    main()
