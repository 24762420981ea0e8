"""How far the mean of correlated samples wanders by itself.

Monitoring samples are not independent: a busy minute is followed by a busy minute. The error of
a mean is then many times what Student's formula says, and the share that autocorrelation adds
must be estimated from the same short series. Plugging in one estimate (an AR(1) coefficient, a
block length, a bandwidth) and calling it known is what makes detectors cry wolf.

So nothing is plugged in. A family of noise shapes is laid out: autocorrelation
``a * exp(-k / h)``, that is an AR(1) process of any persistence ``h`` on top of any share
``1 - a`` of white noise, and fractional (long-memory) noise. Each is weighed by how well it
explains the cosine transform of the series, and the error of the mean is averaged over all of
them. A slow process that the data cannot exclude keeps its weight, so the interval is as wide
as our ignorance.

Sources: Whittle (1953), the likelihood of a spectrum; Heidelberger & Welch (1981), the error
of a mean from the low frequencies; Müller (2014, "HAC corrections for strongly autocorrelated
time series"), weighing over persistence; Müller & Watson (2018, "Long-run covariability"),
low-frequency cosines; Satterthwaite (1946), the degrees of freedom of the average.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, special

Floats = NDArray[np.float64]

#: Frequencies used at most: only the slow ones bear on a mean.
MAX_FREQUENCIES = 512
#: Cosines that a slow course is made of (over a day: waves of 6 hours and longer).
SLOW_COSINES = 8
#: Fewer samples than this are no basis for an error.
MIN_SAMPLES = 12
#: From so many samples on, slow noise is presumed to be rarer in proportion to its persistence.
SAMPLES_THAT_TELL = 240


@dataclass(frozen=True, slots=True)
class Shapes:
    """The family of noise shapes for series of one length ``n`` (K shapes, q frequencies)."""

    autocorrelation: Floats  #: (K, n) correlation of samples 0, 1, 2 ... apart
    precision: Floats  #: (q, K) 1 / variance of each cosine coefficient of unit noise
    at_zero: Floats  #: (K,) n x variance of the mean of unit noise
    log_weight: Floats  #: (K,) log prior - half the log determinant


@lru_cache(maxsize=1024)
def shapes(n: int) -> Shapes:
    """The noise shapes for series of ``n`` samples.

    The variance of each orthonormal cosine (DCT-II) coefficient is exact, not the spectrum's
    value there: for slow noise in a short series the two differ by much.
    """
    lags = np.arange(1, n)
    correlation, prior = _family(lags)
    q = min(n // 2, MAX_FREQUENCIES)
    angle = np.pi * np.arange(1, q + 1)[:, None] / n
    share = 1 - lags / n
    overlap = share * np.cos(angle * lags) - np.sin(angle * lags) / (n * np.sin(angle))
    variance = 1 + 2 * overlap @ correlation.T
    return Shapes(
        autocorrelation=np.hstack([np.ones((len(prior), 1)), correlation]),
        precision=1 / variance,
        at_zero=1 + 2 * correlation @ share,
        log_weight=np.log(prior) - 0.5 * np.log(variance).sum(axis=0),
    )


def _family(lags: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Autocorrelations (K, lags) and prior weights (K,) of the shapes.

    Persistence is the less likely beforehand the longer it is, but a short series, which cannot
    tell, is presumed less; the slowest shape stands for all that are slower still. The weights
    are set so that the error rate stays near its nominal value, and on its safe side, for any
    persistence (a matching prior): see
    ``benchmarks/drift_quality.py``.
    """
    slowest = max(40.0, len(lags) / 8)
    persistence = np.geomspace(0.4, slowest, round(np.log(slowest / 0.4) / np.log(1.75)) + 1)
    likely = persistence ** -min(1.0, len(lags) / SAMPLES_THAT_TELL)
    likely[-1] *= 5
    slow_share = np.array([1, 0.9, 0.7, 0.4])
    usual = np.array([0.6, 0.4 / 3, 0.4 / 3, 0.4 / 3])
    decay = np.exp(-lags / persistence[:, None, None])
    mixed = (slow_share[:, None] * decay).reshape(-1, len(lags))
    memory = np.array([[0.2], [0.4]])
    fractional = np.cumprod((lags - 1 + memory) / (lags - memory), axis=1)
    white = np.zeros((1, len(lags)))
    prior = np.outer(likely / likely.sum(), usual).ravel()
    return (
        np.vstack([mixed, fractional, white]),
        np.concatenate([0.487 * prior, [0.02, 0.003], [0.49]]),
    )


@dataclass(frozen=True, slots=True)
class Noise:
    """What is known of the noise of ``m`` complete series of ``n`` samples."""

    n: int
    weight: Floats  #: (m, K) weight of each shape
    variance: Floats  #: (m, K) variance of one sample under each shape
    cosines: Floats  #: (m, q) cosine coefficients
    power: Floats  #: (m, K) sum of the squared coefficients over their unit variance

    @property
    def frequencies(self) -> int:
        """How many cosine coefficients were used."""
        return int(self.cosines.shape[1])

    def error_of_mean(self) -> tuple[Floats, Floats]:
        """Standard error of the mean and its degrees of freedom, each (m,)."""
        return averaged(
            self.weight, self.variance * shapes(self.n).at_zero / self.n, self.frequencies
        )

    def effective_samples(self) -> Floats:
        """How many independent samples would know the mean as well, (m,)."""
        return self.weight @ (self.n / shapes(self.n).at_zero)

    def error_of_segments(self, lengths: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Standard error of (mean of a segment - mean of all) and its dof, (m, lengths) each."""
        family = shapes(self.n)
        steps = np.arange(self.n)
        tent = np.clip(1 - steps / lengths[:, None], 0, None) * np.where(steps == 0, 1, 2)
        unit = family.autocorrelation @ tent.T / lengths - family.at_zero[:, None] / self.n
        variance = self.variance[:, :, None] * np.clip(unit, 1e-6, None)
        return averaged(self.weight[:, :, None], variance, self.frequencies)

    def of(self, rows: NDArray[np.int64]) -> Noise:
        """The noise of some of the series."""
        parts = (self.weight, self.variance, self.cosines, self.power)
        return Noise(self.n, *(part[rows] for part in parts))

    def evidence(self) -> Floats:
        """Log likelihood of the series, averaged over the shapes, (m,)."""
        family = shapes(self.n)
        log = family.log_weight - self.frequencies / 2 * np.log(self.power)
        most = log.max(axis=1)
        likelihood: Floats = most + np.log(np.exp(log - most[:, None]).sum(axis=1))
        return likelihood

    def regress(self, course: Floats) -> Fit:
        """Regress the series on a course, such as time or a step.

        Parameters
        ----------
        course : (m or 1, n) array
            What is regressed on; its mean plays no part.

        Notes
        -----
        Generalised least squares under each shape, averaged over shapes that are weighed anew
        by what is left when the course is taken out (band-spectrum regression, Engle 1974).
        """
        family = shapes(self.n)
        towards = cosines(course, self.frequencies)
        information = (towards**2) @ family.precision
        slopes = (self.cosines * towards) @ family.precision / information
        left = np.maximum(self.power - slopes**2 * information, 1e-12 * self.power)
        df = self.frequencies - 1
        weight = _weights(family.log_weight - 0.5 * np.log(information) - df / 2 * np.log(left))
        slope = (weight * slopes).sum(axis=1)
        variance = left / df / information + (slopes - slope[:, None]) ** 2
        error, dof = averaged(weight, variance, df)
        rest = Noise(self.n, weight, left / df, self.cosines - slope[:, None] * towards, left)
        return Fit(slope, error, dof, rest)


@dataclass(frozen=True, slots=True)
class Fit:
    """Series regressed on one course, each (m,)."""

    slope: Floats
    error: Floats  #: standard error of the slope
    dof: Floats  #: its degrees of freedom
    rest: Noise  #: noise with the course taken out

    @property
    def p_value(self) -> Floats:
        """Two-sided p-value of no slope."""
        return two_sided(self.slope, self.error, self.dof)


def noise(x: Floats) -> Noise:
    """Weigh the noise shapes for complete series.

    Parameters
    ----------
    x : (m, n) array
        Series without gaps, n >= ``MIN_SAMPLES``; none may be constant.
    """
    n = x.shape[1]
    family = shapes(n)
    coefficients = cosines(x, family.precision.shape[0])
    power = np.maximum(coefficients**2 @ family.precision, np.finfo(np.float64).tiny)
    q = coefficients.shape[1]
    weight = _weights(family.log_weight - q / 2 * np.log(power))
    return Noise(n, weight, power / q, coefficients, power)


def cosines(x: Floats, frequencies: int) -> Floats:
    """The first orthonormal cosine coefficients (m, frequencies) after the mean's."""
    transformed: Floats = fft.dct(x, norm="ortho", axis=1)
    return transformed[:, 1 : frequencies + 1]


def slow_course(x: Floats) -> Floats:
    """The slow course of complete series (m, n), about their mean: the day, not the minute."""
    transformed = fft.dct(x, norm="ortho", axis=1)
    transformed[:, 0] = 0
    transformed[:, SLOW_COSINES + 1 :] = 0
    course: Floats = fft.idct(transformed, norm="ortho", axis=1)
    return course


def averaged(weight: Floats, variance: Floats, df: float | Floats) -> tuple[Floats, Floats]:
    """Standard error and degrees of freedom of an average over shapes.

    Student's t whose scale and degrees of freedom give the variance the mean and the spread
    that it has over the shapes (Satterthwaite 1946).

    Parameters
    ----------
    weight, variance : (m, K, ...) arrays
        Weight of each shape and the variance estimated under it.
    df : float, or an array that fits the others
        Degrees of freedom of each such estimate, > 4.
    """
    each = variance * df / (df - 2)
    mean = (weight * each).sum(axis=1)
    spread = (weight * each**2 * (df - 2) / (df - 4)).sum(axis=1) - mean**2
    dof = 4 + 2 * mean**2 / spread
    return np.sqrt(mean * (dof - 2) / dof), dof


def two_sided(effect: Floats, error: Floats, dof: Floats) -> Floats:
    """Two-sided p-value of Student's t."""
    p: Floats = 2 * special.stdtr(dof, -np.abs(effect) / error)
    return p


def half_width(error: Floats, dof: Floats, confidence: float) -> Floats:
    """Half the width of Student's interval."""
    half: Floats = error * special.stdtrit(dof, 0.5 + confidence / 2)
    return half


def _weights(log: Floats) -> Floats:
    weight: Floats = np.exp(log - log.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    return weight
