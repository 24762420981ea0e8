"""The running system is measured for a run: validation and WebSocket sessions, side by side."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tars_ga_lib import system
from tars_ga_lib.measured import Results, load
from tars_ga_lib.parameters import MEASURED, Job
from tars_ga_lib.recording import write_json
from tars_ga_lib.run import Run
from tars_ga_lib.system import monitor as websocket


def measure(
    run: Run,
    prometheus: str | None = None,
    show: Callable[[str, float, float], None] = lambda what, done, all_of_it: None,
    *,
    measure: bool = True,
) -> dict[str, Results]:
    """Measure on the running system what a run asks for and was not given, all of it side by side.

    Parameters
    ----------
    prometheus
        Server that tells the agents' memory, where the validation file names none. The run's own
        parameters name its recording as the source, and the server that a recording names may be
        a stranger's, who would be sent our token.
    show
        Called with what is measured, how much of it is done, and of how much: checks, or seconds.
    measure
        Whether to: a replay of a package connects nowhere, as its files are a stranger's.

    Returns
    -------
    dict of str to Results
        By kind, as `load` has them.
    """
    job, folder = run.job, run.folder
    held = load(job, folder)
    if not measure:
        return held
    with ThreadPoolExecutor(len(MEASURED)) as pool:
        jobs = []
        if job.validation is not None and held["validation"].document is None:
            jobs.append(pool.submit(_validate, run, prometheus, show))
        if job.websocket is not None and held["websocket"].document is None:
            jobs.append(pool.submit(_watch, job, folder, show))
        for one in jobs:
            one.result()
    return load(job, folder)


def _validate(run: Run, prometheus: str | None, show: Callable[[str, float, float], None]) -> None:
    system.run(
        run.job,
        run.folder,
        prometheus=prometheus,
        progress=lambda _, done, every: show("checks", done, every),
    )


def _watch(job: Job, folder: Path, show: Callable[[str, float, float], None]) -> None:
    assert job.websocket is not None
    release, asked = job.parameters.release, float(job.websocket.duration)
    results = websocket.watch(
        job.websocket,
        release={"name": release.name, "version": release.version},
        simulated=job.parameters.simulated,
        progress=lambda left, _: show("seconds of the WebSocket sessions", asked - left, asked),
    )
    write_json(folder / MEASURED["websocket"], results)
