"""Each claim of `tars_ga_lib.shifts` is put to the test on noise whose truth is known.

Rates are of seeded draws, so a test either always passes or always fails. The bounds are those
that were promised; `test_the_noise_would_fool_a_plain_t_test` shows that a method without care
does not stay within them.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.stats import false_discovery_control

from tars_ga_lib.change.baselines import Problem, baseline_problems
from tars_ga_lib.change.changepoints import median_of_five
from tars_ga_lib.change.noise import noise, shapes
from tars_ga_lib.change.sequential import sequential
from tars_ga_lib.change.shifts import Shift, Shifts, fdr, scope, shift, shifts, stands_out

Floats = NDArray[np.float64]
STEP = 300.0
DAY = 288
PAIRS = 3000


def ar1(
    rng: np.random.Generator, n: int, phi: float, tails: float = 0, length: int = DAY
) -> Floats:
    """AR(1) noise of unit spread; Student's t innovations where ``tails`` says so."""
    size = (n, length + 200)
    draws = (
        rng.standard_t(tails, size) / np.sqrt(tails / (tails - 2))
        if tails
        else (rng.standard_normal(size))
    )
    noise: Floats = lfilter([1], [1, -phi], draws, axis=1)[:, 200:] * np.sqrt(1 - phi**2)
    return noise


def season(length: int = DAY) -> Floats:
    wave: Floats = 1 + 0.4 * np.sin(2 * np.pi * np.arange(length) / DAY)
    return wave


def draw(case: str, rng: np.random.Generator, n: int = PAIRS) -> Floats:
    """Series without change, of level 1 (counts: of a small mean)."""
    if case.startswith("phi="):
        return 1 + 0.1 * ar1(rng, n, float(case[4:]))
    if case == "season":
        return season() + 0.1 * ar1(rng, n, 0.8)
    if case == "noise in proportion to the season":
        return season() * (1 + 0.1 * ar1(rng, n, 0.8))
    if case == "heavy tails":
        return 1 + 0.1 * ar1(rng, n, 0.5, tails=3)
    if case == "counts near zero":
        return rng.poisson(0.3, (n, DAY)).astype(float)
    x = 1 + 0.1 * ar1(rng, n, 0.9)
    if case == "one in ten missing":
        x[rng.random(x.shape) < 0.1] = np.nan
    if case == "an hour missing here and there":
        for begin in rng.integers(0, DAY - 12, (n, 2)).T:
            x[np.arange(n)[:, None], begin[:, None] + np.arange(12)] = np.nan
    return x


CASES = [
    "phi=0",
    "phi=0.5",
    "phi=0.8",
    "phi=0.9",
    "phi=0.95",
    "season",
    "noise in proportion to the season",
    "heavy tails",
    "counts near zero",
    "one in ten missing",
    "an hour missing here and there",
]


def pair(case: str, seed: int = 1) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    return draw(case, rng), draw(case, rng)


# --- the level -----------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_false_alarms_and_coverage_are_as_promised(case: str) -> None:
    found = shifts(*pair(case), step=STEP)
    assert not (found.reason != "").any()
    assert 0.025 <= (found.p_value < 0.05).mean() <= 0.06
    assert 0.92 <= ((found.low <= 0) & (found.high >= 0)).mean() <= 0.975
    # An interval that leaves 0 out and a p-value below 5 % are one and the same.
    assert (((found.low > 0) | (found.high < 0)) == (found.p_value < 0.05)).all()


def test_the_noise_would_fool_a_plain_t_test() -> None:
    before, after = pair("phi=0.8")
    difference = after - before
    error = difference.std(axis=1, ddof=1) / np.sqrt(DAY)
    assert (np.abs(difference.mean(axis=1)) / error > 1.97).mean() > 0.4


@pytest.mark.parametrize("case", ["phi=0.5", "season", "one in ten missing"])
def test_interval_covers_a_true_shift(case: str) -> None:
    before, after = pair(case)
    found = shifts(before, after + 0.1, step=STEP)
    assert 0.92 <= ((found.low <= 0.1) & (found.high >= 0.1)).mean() <= 0.975
    assert found.effect.mean() == pytest.approx(0.1, abs=0.005)


def test_power_for_a_tenth() -> None:
    before, after = pair("phi=0.5")
    found = shifts(before, after * 1.1, step=STEP)
    assert (found.p_value < 0.05).mean() >= 0.97
    assert (found.kind == "shift").mean() >= 0.9


def test_a_whole_day_of_36_series_is_quiet() -> None:
    rng = np.random.default_rng(4)
    days, series = 150, 36
    alarms = 0.0
    persistence = (0.0, 0.5, 0.8, 0.9, 0.95)
    parts = [draw(f"phi={phi}", rng, 2 * days * series // 5) for phi in persistence]
    halves = [np.split(part, 2) for part in parts]
    before, after = (np.concatenate([half[i] for half in halves]) for i in (0, 1))
    order = rng.permutation(len(before))
    found = shifts(before[order], after[order], step=STEP)
    for day in np.arange(len(order)).reshape(days, series):
        finding = (np.abs(found.relative[day]) > 0.1) & (fdr(found.p_value[day]) < 0.05)
        alarms += finding.any()
    assert alarms / days <= 0.05


def test_like_hours_take_the_season_out() -> None:
    rng = np.random.default_rng(0)
    before, after = season() + 0.02 * ar1(rng, 2, 0.5)
    found = shift(before, after * 1.05, step=STEP, side_by_side=True)
    assert found.like_hours
    # A twentieth more of everything is a wave of its own, and no noise.
    assert found.p_value < 0.001
    assert found.high - found.low < 0.02
    # The same hours compared with others drown in the season.
    other = shift(
        before[:144],
        after * 1.05,
        step=STEP,
        side_by_side=True,
        baseline_start=0,
        window_start=100 * STEP,
    )
    assert not other.like_hours
    assert other.high - other.low > 5 * (found.high - found.low)


def test_baseline_is_folded_by_the_time_of_day() -> None:
    rng = np.random.default_rng(0)
    course = np.tile(season(), 4)
    noise = 0.02 * ar1(rng, 1, 0.5, length=4 * DAY)[0]
    series = course + noise
    window = series[3 * DAY + 60 : 3 * DAY + 132] + 0.1
    found = shift(
        series[: 2 * DAY],
        window,
        step=STEP,
        side_by_side=True,
        baseline_start=0,
        window_start=(3 * DAY + 60) * STEP,
    )
    assert found.like_hours
    assert found.effect == pytest.approx(0.1, abs=0.02)
    assert found.low > 0.05
    # A whole day out of phase is turned to match.
    rolled = shift(
        series[100 : 100 + DAY],
        series[DAY : 2 * DAY] + 0.1,
        step=STEP,
        side_by_side=True,
        baseline_start=100 * STEP,
        window_start=DAY * STEP,
    )
    assert rolled.like_hours
    assert rolled.effect == pytest.approx(0.1, abs=0.02)


def test_unlike_hours_are_still_compared_by_level() -> None:
    rng = np.random.default_rng(5)
    before, after = 1 + 0.1 * ar1(rng, 2000, 0.8, length=200), 1 + 0.1 * ar1(rng, 2000, 0.8)
    found = shifts(before, after, step=STEP)
    assert not found.like_hours.any()
    assert np.isnan(found.slope_p).all()
    assert 0.02 <= (found.p_value < 0.05).mean() <= 0.06
    moved = shifts(before, after + 0.2, step=STEP)
    assert (moved.p_value < 0.05).mean() > 0.9
    assert (moved.kind == "shift").mean() > 0.9


def test_days_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(6)
    same = 1 + 0.1 * ar1(rng, 5, 0.5)
    apart = same + np.array([-0.1, 0.1, 0.05, -0.05, 0.0])[:, None]
    calm, restless = (shift(days[:4], same[4], step=STEP) for days in (same, apart))
    assert restless.high - restless.low > 2 * (calm.high - calm.low)
    single = shift(same[0], same[4], step=STEP)
    assert calm.high - calm.low < single.high - single.low


@pytest.mark.parametrize("days", [2, 3, 7])
def test_several_days_raise_no_more_false_alarms(days: int) -> None:
    rng = np.random.default_rng(days)
    n = 800
    before = 1 + 0.1 * ar1(rng, n * days, 0.8).reshape(n, days, DAY)
    found = shifts(before, 1 + 0.1 * ar1(rng, n, 0.8), step=STEP)
    assert 0.005 <= (found.p_value < 0.05).mean() <= 0.06


def test_outliers_do_not_move_the_level_but_hours_do() -> None:
    rng = np.random.default_rng(7)
    before, after = 1 + 0.1 * ar1(rng, 2, 0.5)
    plain = shift(before, after, step=STEP)
    spiked = after.copy()
    spiked[[20, 90, 200]] = 50.0
    assert shift(before, spiked, step=STEP).effect == pytest.approx(plain.effect, abs=0.02)
    raised = after.copy()
    raised[100:160] += 1.0
    found = shift(before, raised, step=STEP)
    assert found.effect == pytest.approx(plain.effect + 60 / DAY, abs=0.03)


# --- the kinds -----------------------------------------------------------------------------


def changed(case: str, course: NDArray[np.floating], n: int = 400) -> Shifts:
    rng = np.random.default_rng(8)
    return shifts(draw(case, rng, n), draw(case, rng, n) + course, step=STEP)


def test_an_incident_is_found_with_begin_and_end() -> None:
    course = np.zeros(DAY)
    course[200:206] = 1.0
    found = changed("phi=0.5", course)
    right = (found.kind == "incident") & (found.begin == 200) & (found.end == 206)
    assert right.mean() > 0.95
    excess = [found[i].incidents[0].excess for i in np.flatnonzero(right).tolist()]
    assert np.mean(excess) == pytest.approx(1.0, abs=0.05)
    # It counts in full, for the few samples that it lasts.
    assert found.effect[right].mean() == pytest.approx(6 / DAY, abs=0.005)
    one = found[int(np.flatnonzero(right)[0])]
    assert [(part.begin, part.end) for part in one.incidents] == [(200, 206)]


def test_an_incident_of_rare_errors_is_no_outlier() -> None:
    rng = np.random.default_rng(22)
    before, after = rng.poisson(0.05, (2, 200, DAY)).astype(float)
    assert np.mean(shifts(before, after, step=STEP).incident_p < 0.05) <= 0.05
    after[:, 200:206] += 20
    found = shifts(before, after, step=STEP, side_by_side=True)
    assert (found.kind == "incident").all()
    assert found.effect.mean() == pytest.approx(20 * 6 / DAY, abs=0.02)
    assert (found.p_value < 0.05).all()


def test_a_shift_from_the_start_has_no_begin() -> None:
    found = changed("phi=0.5", np.full(DAY, 0.2))
    assert (found.kind == "shift").mean() > 0.95
    assert (found.begin[found.kind == "shift"] == -1).mean() > 0.95
    assert found[0].begin is None


def test_a_shift_within_the_window_has_one() -> None:
    found = changed("phi=0.5", 0.5 * (np.arange(DAY) >= 150))
    shifted = found.kind == "shift"
    assert shifted.mean() > 0.95
    assert (np.abs(found.begin[shifted] - 150) <= 3).mean() > 0.95
    assert (found.end[shifted] == -1).all()
    assert (found.p_value < 0.05).mean() > 0.99


def test_what_has_ended_is_an_incident_from_the_start() -> None:
    found = changed("phi=0.5", 0.5 * (np.arange(DAY) < 120))
    ended = found.kind == "incident"
    assert ended.mean() > 0.9
    assert (found.begin[ended] == 0).all()
    assert (np.abs(found.end[ended] - 120) <= 3).mean() > 0.95


def test_a_leak_is_a_trend_whose_slope_is_covered() -> None:
    found = changed("phi=0.5", np.linspace(0, 0.5, DAY))
    assert (found.kind == "trend").mean() > 0.95
    slope = 0.5 / 287 * 12
    assert 0.92 <= ((found.slope_low <= slope) & (found.slope_high >= slope)).mean() <= 0.98
    assert found.slope.mean() == pytest.approx(slope, rel=0.05)


def test_more_spread_is_a_change_of_spread() -> None:
    rng = np.random.default_rng(9)
    before, after = draw("phi=0.5", rng, 400), draw("phi=0.5", rng, 400)
    found = shifts(before, 1 + 1.5 * (after - 1), step=STEP)
    assert (found.kind == "spread").mean() > 0.9
    assert np.median(found.spread_ratio) == pytest.approx(1.5, rel=0.05)


@pytest.mark.parametrize("case", CASES)
def test_each_kind_has_its_own_false_alarm_rate(case: str) -> None:
    found = shifts(*(x[:1500] for x in pair(case)), step=STEP)
    assert (found.slope_p < 0.05).mean() <= 0.065
    assert (found.incident_p < 0.05).mean() <= 0.065
    assert np.mean(found.spread_p < 0.05) <= 0.07
    assert (found.kind != "none").mean() <= 0.065


# --- while it unfolds ----------------------------------------------------------------------


@pytest.mark.parametrize("case", ["phi=0", "phi=0.8", "phi=0.95", "counts near zero"])
def test_all_checks_of_a_day_together_keep_the_rate(case: str) -> None:
    before, after = (x[:300] for x in pair(case))
    assert (sequential(before, after, step=STEP).first_alarm >= 0).mean() <= 0.065


def test_later_data_never_change_an_earlier_check() -> None:
    rng = np.random.default_rng(10)
    before, after = draw("one in ten missing", rng, 6), draw("one in ten missing", rng, 6)
    whole = sequential(before, after, step=STEP)
    so_far = sequential(before, after[:, :150], step=STEP, steps=DAY)
    wild = after.copy()
    wild[:, 150:] = rng.uniform(-100, 100, (6, DAY - 150))
    altered = sequential(before, wild, step=STEP)
    known = len(so_far.seen)
    assert so_far.seen[-1] == 150
    for checks in (so_far, altered):
        np.testing.assert_allclose(checks.p_value[:, :known], whole.p_value[:, :known], rtol=1e-9)


def test_checks_find_a_change_and_keep_to_it() -> None:
    rng = np.random.default_rng(11)
    before, after = draw("phi=0.5", rng, 50), draw("phi=0.5", rng, 50) * 1.3
    checks = sequential(before, after, step=STEP)
    assert checks.seen.tolist() == list(range(3, DAY + 1, 3))
    assert (checks.first_alarm >= 0).all()
    assert (np.diff(checks.p_value[:, 12:], axis=1) <= 0).all()
    assert np.median(checks.first_alarm) < 0.5 * DAY


def test_checks_cost_the_same_at_any_step() -> None:
    """Whatever the step, as many checks are made, each of as many means."""
    rng = np.random.default_rng(11)
    for steps in (5, 130, 1440, 5760):
        checks = sequential(rng.random((3, steps)), rng.random((3, steps)), step=STEP)
        assert checks.seen[-1] == steps
        assert len(checks.seen) <= 128


def test_checks_of_one_series_with_several_days() -> None:
    rng = np.random.default_rng(12)
    days = draw("phi=0.5", rng, 3)
    checks = sequential(days[None], draw("phi=0.5", rng, 1), step=STEP)
    assert checks.p_value.shape == (1, 96)
    assert np.isnan(checks.p_value[0, :11]).all()
    assert sequential(days[0], days[1], step=STEP).p_value.shape == (1, 96)


def test_checks_of_what_never_varies() -> None:
    same = sequential(np.ones(DAY), np.ones(DAY), step=STEP)
    assert same.p_value[0, -1] == 1
    assert same.first_alarm[0] == -1
    other = sequential(np.ones(DAY), np.full(DAY, 2.0), step=STEP)
    assert 72 < other.first_alarm[0] < 216


def test_checks_refuse_what_they_cannot_do() -> None:
    with pytest.raises(ValueError, match="does not cover"):
        sequential(np.ones(100), np.ones(DAY), step=STEP)
    with pytest.raises(ValueError, match="planned"):
        sequential(np.ones(DAY), np.ones(DAY), step=STEP, steps=100)


# --- bad input -----------------------------------------------------------------------------


def sample(seed: int = 0, n: int = DAY) -> Floats:
    return np.random.default_rng(seed).normal(1, 0.1, n)


def assert_no_data(found: Shift, reason: str) -> None:
    assert found.no_data
    assert reason in found.reason
    assert found.kind == "none"
    assert np.isnan([found.effect, found.low, found.high, found.p_value]).all()
    assert found.begin is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (np.full(DAY, np.nan), sample()),
        (sample(), np.full(DAY, np.nan)),
        (np.full(DAY, np.inf), sample()),
        (np.where(np.arange(DAY) < 144, np.nan, 1.0), np.where(np.arange(DAY) < 144, 1.0, np.nan)),
    ],
)
def test_nothing_to_compare(before: Floats, after: Floats) -> None:
    found = shift(before, after, step=STEP)
    assert_no_data(found, "no sample in both")
    assert found.coverage == 0


@pytest.mark.parametrize("n", [1, 5, 11])
def test_too_few_samples(n: int) -> None:
    assert_no_data(shift(sample(0, n), sample(1, n), step=STEP), "fewer than 12 samples")
    assert_no_data(shift(sample(0, DAY), sample(1, n), step=STEP), "fewer than 12 samples")


def test_too_few_effective_samples() -> None:
    slow = 1 + 0.1 * ar1(np.random.default_rng(0), 40, 0.99, length=30)
    found = shifts(slow[:20], slow[20:], step=STEP)
    few = np.char.startswith(found.reason, "fewer than 2 effective samples")
    assert few.any()
    assert_no_data(found[int(np.flatnonzero(few)[0])], "effective samples")


def test_infinite_values_are_missing() -> None:
    before, after = sample(0), sample(1)
    broken = after.copy()
    broken[:29] = np.inf
    broken[29:40] = -np.inf
    gone = np.where(np.isfinite(broken), broken, np.nan)
    assert repr(shift(before, broken, step=STEP)) == repr(shift(before, gone, step=STEP))
    assert shift(before, broken, step=STEP).coverage == pytest.approx(248 / 288)


def test_constant_and_equal_is_no_change() -> None:
    found = shift(np.full(DAY, 3.0), np.full(DAY, 3.0), step=STEP)
    assert (found.effect, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    assert (found.kind, found.no_data) == ("none", False)
    unlike = shift(np.full(100, 3.0), np.full(DAY, 3.0), step=STEP)
    assert (unlike.effect, unlike.p_value) == (0, 1)


@pytest.mark.parametrize("length", [DAY, 100])
def test_constant_and_different_is_compared_exactly(length: int) -> None:
    found = shift(np.full(length, 4.0), np.full(DAY, 8.0), step=STEP)
    assert (found.effect, found.relative, found.p_value) == (4, 1, 0)
    assert (found.low, found.high) == (4, 4)
    assert (found.kind, found.no_data) == ("shift", False)


def test_a_constant_difference_is_exact_in_spite_of_rounding() -> None:
    before = sample()
    found = shift(before, before + 0.1, step=STEP)
    assert found.low == found.high
    assert found.effect == pytest.approx(0.1)


def test_one_constant_series_is_compared_as_any() -> None:
    found = shift(np.full(DAY, 1.0), sample(), step=STEP, side_by_side=True)
    assert found.low < 0 < found.high
    unlike = shift(np.full(100, 1.0), sample() + 1, step=STEP, side_by_side=True)
    assert unlike.p_value < 1e-6


def test_no_relative_effect_of_a_baseline_of_zero() -> None:
    after = np.random.default_rng(0).poisson(0.5, DAY).astype(float)
    found = shift(np.zeros(DAY), after, step=STEP)
    assert np.isnan(found.relative)
    assert found.effect == pytest.approx(after.mean(), abs=0.05)
    assert found.p_value < 0.001


def test_relative_effect_of_a_negative_baseline_keeps_its_sign() -> None:
    found = shift(-sample(0), -sample(1) + 0.5, step=STEP)
    assert found.effect > 0
    assert found.relative_low < found.relative < found.relative_high
    assert found.relative == pytest.approx(0.5, abs=0.05)


def test_errors_are_clear() -> None:
    x = sample()
    for step in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match="must be positive"):
            shift(x, x, step=step)
    with pytest.raises(ValueError, match="no samples"):
        shift([], x, step=STEP)
    with pytest.raises(ValueError, match="dimensions"):
        shift(x, x[None], step=STEP)
    with pytest.raises(ValueError, match="2 baselines for 3 windows"):
        shifts(np.ones((2, DAY)), np.ones((3, DAY)), step=STEP)
    with pytest.raises(ValueError, match="could not convert"):
        shift(["fast"], x, step=STEP)


def test_no_series_at_all() -> None:
    found = shifts(np.empty((0, DAY)), np.empty((0, DAY)), step=STEP)
    assert len(found) == 0
    assert list(found) == []


# --- what must hold for any numbers --------------------------------------------------------


def test_many_at_once_are_each_as_alone() -> None:
    rng = np.random.default_rng(13)
    before, after = draw("one in ten missing", rng, 30), draw("one in ten missing", rng, 30)
    after[3], after[4], before[5] = np.nan, before[4], 2.0
    together = shifts(before, after, step=STEP, side_by_side=True)
    for i in range(30):
        alone = shift(before[i], after[i], step=STEP, side_by_side=True)
        for name in Shift.__slots__:
            got, expected = getattr(together[i], name), getattr(alone, name)
            if isinstance(expected, float):
                np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-12)
            else:
                assert got == expected


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([1e-9, 0.01, 1.0, 3e3, 1e9]),
    offset=st.sampled_from([0.0, 1.0, 100.0]),
    phi=st.sampled_from([0.0, 0.7, 0.95]),
)
def test_units_do_not_matter(seed: int, scale: float, offset: float, phi: float) -> None:
    before, after = ar1(np.random.default_rng(seed), 2, phi, length=120) + 5
    found = shift(before, after, step=STEP, side_by_side=True)
    other = shift((before + offset) * scale, (after + offset) * scale, step=STEP, side_by_side=True)
    assert other.effect == pytest.approx(found.effect * scale, rel=1e-6, abs=1e-9 * scale)
    assert other.p_value == pytest.approx(found.p_value, rel=1e-4, abs=1e-9)
    assert other.kind == found.kind
    turned = shift(after, before, step=STEP, side_by_side=True)
    assert turned.effect == pytest.approx(-found.effect, abs=1e-9)
    assert turned.p_value == pytest.approx(found.p_value, rel=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 0.0, 1.0, -1.0, 1e-300, 1e12, 3.5]),
        min_size=1,
        max_size=60,
    ),
    st.integers(0, 100),
)
def test_no_input_is_passed_over_in_silence(values: list[float], seed: int) -> None:
    before = np.array(values)
    after = np.random.default_rng(seed).permutation(before)
    found = shift(before, after, step=STEP)
    assert found.no_data or (0 <= found.p_value <= 1 and found.low <= found.effect <= found.high)
    sequential(before, after, step=STEP)
    baseline_problems(before[None, None], step=STEP)


def test_gaps_do_not_move_what_is_found() -> None:
    rng = np.random.default_rng(14)
    before, after = draw("phi=0.5", rng, 2)
    after[200:210] += 1.0
    after[60:90] = np.nan
    found = shift(before, after, step=STEP, side_by_side=True)
    assert (found.kind, found.begin, found.end) == ("incident", 200, 210)


# --- noise ---------------------------------------------------------------------------------


def test_cosine_variances_are_those_of_the_noise() -> None:
    family = shapes(40)
    assert np.isfinite(family.precision).all()
    n, shape = 40, 17
    gap = np.abs(np.arange(n)[:, None] - np.arange(n))
    covariance = family.autocorrelation[shape][gap]
    angle = np.pi * np.arange(1, 21)[:, None] * (np.arange(n) + 0.5) / n
    basis = np.sqrt(2 / n) * np.cos(angle)
    exact = np.einsum("ij,jk,ik->i", basis, covariance, basis)
    np.testing.assert_allclose(1 / family.precision[:, shape], exact, rtol=1e-9)
    assert family.at_zero[shape] == pytest.approx(covariance.sum() / n)


@pytest.mark.parametrize(("phi", "expected"), [(0.0, 288), (0.5, 96), (0.8, 32), (0.9, 15.2)])
def test_effective_samples(phi: float, expected: float) -> None:
    known = noise(ar1(np.random.default_rng(15), 500, phi))
    assert np.median(known.effective_samples()) == pytest.approx(expected, rel=0.25)


def test_median_of_five() -> None:
    x = np.array([[0.0, 9, 0, 0, 9, 9, 0, 0, 5, 5, 5, 0, 0, 0]])
    assert median_of_five(x).tolist() == [[0, 0, 0, 9, 0, 0, 5, 5, 5, 5, 5, 0, 0, 0]]
    rng = np.random.default_rng(0)
    y = rng.standard_normal((3, 50))
    windows = np.lib.stride_tricks.sliding_window_view(y, 5, axis=1)
    np.testing.assert_array_equal(median_of_five(y)[:, 2:-2], np.median(windows, axis=2))


# --- many tests, regions, baselines --------------------------------------------------------


def test_fdr_leaves_out_what_is_no_test() -> None:
    adjusted = fdr([[0.01, np.nan], [0.02, 0.5]])
    np.testing.assert_allclose(adjusted, [[0.03, np.nan], [0.03, 0.5]])
    assert np.isnan(fdr([np.nan])).all()
    assert fdr([]).shape == (0,)
    with pytest.raises(ValueError, match="outside 0 to 1"):
        fdr([1.5])


def test_fdr_is_that_of_scipy() -> None:
    p_values = np.random.default_rng(15).random(500) ** 3
    np.testing.assert_allclose(fdr(p_values), false_discovery_control(p_values), rtol=1e-12)


def test_the_region_that_changed_stands_out() -> None:
    rng = np.random.default_rng(16)
    common = season() + 0.2 * ar1(rng, 1, 0.95)[0]
    usual = np.array([1.0, 1.5, 0.7, 1.2])[:, None]
    before = usual[:, None] * season() + 0.05 * ar1(rng, 20, 0.5).reshape(4, 5, DAY)
    after = usual * common + 0.05 * ar1(rng, 4, 0.5)
    after[2] += 0.3
    found = stands_out(after, step=STEP, baseline=before)
    assert np.abs(found.effect).argmax() == 2
    assert found.p_value[2] < 0.01
    assert found.p_value.argmin() == 2


def test_without_a_baseline_levels_are_compared() -> None:
    rng = np.random.default_rng(17)
    values = season() + 0.05 * ar1(rng, 3, 0.5)
    values[1] *= 1.2
    values[0, :30] = np.nan
    found = stands_out(values, step=STEP)
    assert found.relative[1] == pytest.approx(0.2, abs=0.02)
    assert np.abs(found.effect).argmax() == 1
    assert found.p_value[1] < 0.001
    assert found.coverage[0] == pytest.approx(258 / 288)


def test_regions_without_change_do_not_stand_out() -> None:
    rng = np.random.default_rng(18)
    rates = [
        stands_out(draw("phi=0.8", rng, 3), step=STEP, baseline=draw("phi=0.8", rng, 3)).p_value
        for _ in range(150)
    ]
    assert (np.array(rates) < 0.05).mean() <= 0.065


def test_one_region_has_no_others() -> None:
    with pytest.raises(ValueError, match="no others"):
        stands_out(np.ones((1, DAY)), step=STEP)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([0, 0, 0], "none"),
        ([], "none"),
        ([1, 1, 1], "global"),
        ([-1, -1], "global"),
        ([0, 1, 0], "local"),
        ([1], "local"),
        ([1, 1, 0], "partial"),
        ([1, 1, -1], "partial"),
    ],
)
def test_scope(changes: list[int], expected: str) -> None:
    assert scope(changes) == expected


def wrong(x: Floats) -> list[Problem]:
    """What is wrong with one series, of a day (T,) or of several (D, T)."""
    return baseline_problems(np.atleast_2d(x)[None], step=STEP)


def problems(x: Floats) -> list[tuple[str, int]]:
    return [(p.code, p.day) for p in wrong(x)]


def test_a_sound_baseline_is_called_sound() -> None:
    rng = np.random.default_rng(19)
    series = season() * (1 + 0.1 * ar1(rng, 300, 0.8))
    found = baseline_problems(series[:, None], step=STEP)
    assert len({problem.series for problem in found}) / 300 <= 0.04


def test_what_is_wrong_with_a_baseline() -> None:
    rng = np.random.default_rng(20)
    x = season() + 0.05 * ar1(rng, 1, 0.5)[0]
    assert problems(x) == []
    raised, leaking, torn = x.copy(), x + np.linspace(0, 1, DAY), x.copy()
    raised[100:112] += 1
    torn[50:80] = np.nan
    assert problems(raised) == [("incident", 0)]
    assert problems(leaking) == [("trend", 0)]
    assert problems(torn) == [("gap", 0)]
    assert problems(np.full(DAY, np.nan)) == [("no_data", 0)]
    assert problems(np.ones(DAY)) == []
    (gap,) = wrong(torn)
    assert (gap.begin, gap.end) == (50, 80)
    assert gap.size == pytest.approx(2.5)
    (incident,) = wrong(raised)
    assert (incident.begin, incident.end) == (100, 112)


def test_each_of_several_days_is_held_against_the_others() -> None:
    rng = np.random.default_rng(21)
    days = season() ** 3 + 0.05 * ar1(rng, 4, 0.5)
    days[2, 100:112] += 1
    assert ("incident", 2) in problems(days)
    assert all(day == 2 for _, day in problems(days))
