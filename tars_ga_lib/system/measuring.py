"""The running system is measured for a run: its checks, and its WebSocket sessions beside them."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tars_ga_lib.measured import Results, load
from tars_ga_lib.parameters import MEASURED
from tars_ga_lib.recording import write_json
from tars_ga_lib.run import Run
from tars_ga_lib.system import websocket
from tars_ga_lib.system.checks import Scope

Show = Callable[[str, float, float], None]


def measure(
    run: Run,
    prometheus: str | None = None,
    show: Show = lambda what, done, whole: None,
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
        By kind, as `measured.load` has them.
    """
    job, folder = run.job, run.folder
    held = load(job, folder)
    if not measure:
        return held
    with ThreadPoolExecutor(1) as pool:
        sessions = None
        if job.websocket is not None and held["websocket"].document is None:
            sessions = pool.submit(_watch, run, show)
        if job.validation is not None and held["validation"].document is None:
            from tars_ga_lib.system import validation  # and the stores' drivers: half a second

            validation.measure(
                Scope.of(job, run, prometheus, os.environ),
                folder,
                progress=lambda _, done, whole: show("checks", done, whole),
            )
        if sessions is not None:
            sessions.result()
    return load(job, folder)


def _watch(run: Run, show: Show) -> None:
    targets, release = run.job.websocket, run.job.parameters.release
    assert targets is not None
    whole = float(targets.duration)
    results = websocket.watch(
        targets,
        release={"name": release.name, "version": release.version},
        simulated=run.job.parameters.simulated,
        progress=lambda left, _: show("seconds of the WebSocket sessions", whole - left, whole),
    )
    write_json(run.folder / MEASURED["websocket"], results)
