"""A compressed day against a real Prometheus, with every fault; `benchmarks.soak` is longer."""

from __future__ import annotations

import json
import resource
import signal
from pathlib import Path

from tars_ga_lib import recording
from tests import watching


def test_a_day_of_faults(tmp_path: Path) -> None:
    """Failing, slow and broken answers, kills, a restart, a wrong clock, a full disk."""
    said, out, steps = [], tmp_path / "out", 26
    with watching.compressed_day(
        tmp_path / "day", steps=steps, step=1, scrape="250ms", begins_in=3
    ) as day:
        wrong = (3600, day.start + 1, day.start + 12)
        watch = day.watch(out, clock=wrong)
        day.wait_for(out, "step 1/")
        day.switch.behaviour = "503"
        day.wait_for(out, "the source does not answer: HTTP 503")
        day.switch.behaviour = "slow"
        day.wait_for(out, "the source answers again")
        day.switch.behaviour = "drop"
        day.wait_for(out, "cannot be reached")
        said.append(watching.kill(watch))
        watch = day.watch(out, clock=wrong)
        day.wait_for(out, "cannot be reached")
        day.switch.behaviour = "pass"
        day.wait_for(out, "the source answers again")
        day.restart(0.5)
        said.append(watching.kill(watch, signal.SIGTERM))
        watch = day.watch(out)
        day.wait_for(out, "tars-ga")
        limits = resource.prlimit(watch.pid, resource.RLIMIT_FSIZE)
        # Less than the snapshots take, more than the log.
        resource.prlimit(watch.pid, resource.RLIMIT_FSIZE, (6000, limits[1]))
        day.wait_for(out, "cannot be written (")
        resource.prlimit(watch.pid, resource.RLIMIT_FSIZE, limits)
        day.wait_for(out, "all can be kept again")
        peak = watching.memory(watch, "VmHWM")
        said.append(watching.finish(watch))
        batch = day.batch()
        report = watching.shown(said)
        assert said[0][0] == -signal.SIGKILL, report
        assert said[1][0] == 128 + signal.SIGTERM, report
        assert "run the same command again to go on" in said[1][1]
        found = recording.load(out / "watch" / "recording")
        assert watching.differences(found, batch) == [], report
        assert [line["step"] for line in watching.snapshots(out)] == list(range(1, steps + 1))
        certification = json.loads((out / "certification_metadata.json").read_text("utf-8"))
        assert watching.told(certification) == watching.decide(day.job(), batch)
        assert (
            said[2][0]
            == {"CERTIFIED": 0, "NOT CERTIFIED": 3, "INCONCLUSIVE": 4}[certification["decision"]]
        )
    log = (out / "watch" / "watch.log").read_text("utf-8")
    assert "this machine's clock is +3600 s" in log or "clock jumped by" in log, log
    assert "stopped after" in log
    assert peak < 100
