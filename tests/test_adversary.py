"""What was not seen cannot certify: an adversary damages a clean day, and no damage certifies.

The day is held by a real Prometheus and collected once. `benchmarks/adversary.py` tries thousands.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from demo import simulate
from tars_ga_lib import collection, recording
from tests import adversary, forgeries, liars, servers
from tests.adversary import Court, Judged, Tally, improved
from tests.servers import Build


@pytest.fixture(scope="module")
def server(blocks: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the clean day; only read, so that the blocks need no copy."""
    with servers.prometheus(blocks(adversary.scenario())) as url:
        yield url


@pytest.fixture(scope="module")
def court(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Court]:
    """Return the clean day with all that is held against it."""
    folder = tmp_path_factory.mktemp("court")
    with adversary.remembered():
        yield Court.of(adversary.collected_day(server, folder / "clean"), folder)


def assert_lawful(tally: Tally, at_least: int) -> None:
    """Fail with every damaged day that broke a law."""
    assert tally.days >= at_least
    wrongs = tally.wrongs()
    assert not wrongs, f"{len(wrongs)} of {tally.days}:\n" + "\n".join(wrongs)


# --- the clean side: the cure is not to refuse everything -----------------------------------------


def test_the_clean_day_is_certified(court: Court) -> None:
    assert court.base.decision == "CERTIFIED"
    assert set(court.base.verdicts.values()) == {"pass"}
    assert court.referee.reasons(court.clean) == []


def test_its_replay_is_certified(court: Court, tmp_path: Path) -> None:
    court.clean.recording.save(tmp_path / "recording")
    day = dataclasses.replace(court.clean, recording=recording.load(tmp_path / "recording"))
    assert court.judge(day) == court.base


@pytest.mark.parametrize("variant", liars.VARIANTS)
def test_clean_variants_stay_certified(
    variant: str, tmp_path: Path, court: Court, blocks: Build
) -> None:
    judged = liars.try_variant(variant, tmp_path, court.judge, blocks)
    assert judged.certified, judged


def test_a_good_waiver_lets_a_failure_pass(court: Court) -> None:
    assert court.judge(forgeries.waived(court)).decision == "CERTIFIED WITH WAIVERS"


# --- the bad side ---------------------------------------------------------------------------------


def test_bad_days_are_refused(court: Court) -> None:
    """Each mandatory criterion has a day that is bad in it and in little else."""
    certified = [bad.day.about for bad, judged in court.bad if judged.certified]
    assert not certified
    about = " ".join(bad.day.about for bad, _ in court.bad)
    mandatory = {name for name, one in court.clean.job.criteria.items() if one.mandatory}
    assert {name for name in mandatory if name not in about} <= {
        "drift_stability",
        "critical_alerts",
    }


def test_no_edit_makes_a_false_certified(court: Court) -> None:
    tally = Tally()
    court.edits(adversary.drawn(court.asked, 70), tally)
    assert_lawful(tally, 100)


def test_no_forgery_certifies(court: Court) -> None:
    tally = Tally()
    forgeries.try_all(court, tally)
    assert_lawful(tally, 60)


CHOSEN = (
    "code is called otherwise", "up is 2", "everything for 70 min", "negative errors",
    "a cell since 15:00", "buckets of 0.1 and 1 only", "one time again for another",
    "some times between the grid's", "partial answers about memory",
    "partial answers that say info", "an error with HTTP 200 about the baseline",
)  # fmt: skip


def test_no_liar_certifies(court: Court, server: str) -> None:
    found = liars.liars(sorted(court.asked.metrics))
    chosen = [one for one in found if one.note.startswith(CHOSEN)]
    assert len(chosen) == len(CHOSEN)
    tally = Tally()
    liars.try_liars(court, server, chosen, tally)
    assert_lawful(tally, len(CHOSEN))


HISTORIES = ("240 s of every 5 min", "one service's answers", "codes are words")


def test_no_history_certifies(court: Court, tmp_path: Path) -> None:
    chosen = [one for one in liars.histories() if one.note.startswith(HISTORIES)]
    assert len(chosen) == len(HISTORIES)
    tally = Tally()
    liars.try_histories(court, tmp_path, chosen, tally)
    assert_lawful(tally, len(HISTORIES))


# --- the adversary itself -------------------------------------------------------------------------


def test_a_judge_who_certifies_everything_is_found_out(court: Court) -> None:
    """Or else an empty tally would prove nothing."""
    gullible = dataclasses.replace(court, judge=lambda day: court.base)
    tally = Tally()
    gullible.edits(adversary.drawn(court.asked, 20), tally)
    forgeries.try_all(gullible, tally)
    assert len(tally.falsely) > 60


def test_what_counts_as_better() -> None:
    before = Judged("INCONCLUSIVE", {"a": "no_data", "b": "warn", "c": "fail"}, {})
    after = Judged("CERTIFIED", {"a": "warn", "b": "fail", "c": "no_data"}, {})
    assert improved(before, after) == ["a", "decision"]
    assert improved(after, before) == ["b"]


def test_the_referee_counts_what_was_not_seen(court: Court) -> None:
    """By hand: eight targets, and one of them unseen for so many of 288 steps."""
    asked = court.asked
    cell = (("region", ("us-east-1",)), ("service", ("hypersync",)))
    for steps, enough in ((2, True), (8, False)):
        edit = adversary.Edit("cell", "removed", asked.counts, where=cell, stop=steps / 288)
        reasons = court.referee.reasons(adversary.edited(court.clean, [edit]))
        unseen = steps / 288 / 8
        assert (unseen < 0.001 + adversary.FORGIVEN) is enough
        assert (not [each for each in reasons if each.startswith("availability")]) is enough


@pytest.mark.parametrize("way", adversary.WAYS)
def test_every_way_changes_a_recording(court: Court, way: str) -> None:
    edit = adversary.Edit("metric", way, court.asked.metrics["up"], stop=0.5, amount=3.0)
    before, after = court.clean.recording, edit(court.clean.recording)
    assert after.digest() != before.digest()
    untouched = before.window.sets.keys() - edit.sets
    assert all(after.window.sets[key] is before.window.sets[key] for key in untouched)
    assert np.array_equal(before.window.times, after.window.times)


def test_a_rolling_restart_takes_each_service_down_for_a_minute() -> None:
    *_, day = simulate.days(adversary.scenario(reset_at=10 * 3600, stagger=300))
    down = day.named("down", "us-west-2")
    assert [fact.end - fact.start for fact in down] == [60, 60, 60]
    assert [fact.start for fact in down] == [day.midnight + 36_000 - 30 + 300 * n for n in range(3)]


def test_collecting_is_the_libraries_own(server: str, court: Court) -> None:
    """Nothing of the way from the server to the decision is played."""
    again = collection.collect(court.clean.job)
    assert again.window.sets.keys() == court.clean.recording.window.sets.keys()
