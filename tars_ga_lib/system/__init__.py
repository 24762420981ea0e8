"""Validation of the running system: a pytest suite whose every check says what it measured.

`pytest --pyargs tars_ga_lib.system --ga-mode --ga-parameters FILE` runs it, and so does
`tars-ga validate FILE`; `run` does it for a notebook.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tars_ga_lib.grammar import project_root
from tars_ga_lib.system import session
from tars_ga_lib.system.check import targets_of

if TYPE_CHECKING:
    from tars_ga_lib.parameters import Job

__all__ = ["run"]


def run(
    job: Job,
    folder: Path | str,
    *,
    prometheus: str | None = None,
    note: str = "",
    progress: Callable[[dict[str, Any], int, int], None] | None = None,
) -> dict[str, Any]:
    """Validate the running system for a run, and write the results into the run's folder.

    Parameters
    ----------
    job
        The run's job.
    folder
        The run's folder, which holds its parameters and its recording.
    prometheus
        Server that tells the agents' memory, where the parameters name none: a run's own
        parameters name its recording as the source, and no server.
    note
        A remark that goes into the results, as that they were measured on a test system.

    Returns
    -------
    dict
        Content of `validation_results.json`.

    Raises
    ------
    ParametersError
        If the job names no validation file.
    """
    folder = project_root() / folder
    return session.measure(
        folder / "parameters" / "run.yaml",
        folder,
        deadline=targets_of(job).deadline,
        run=folder,
        prometheus=prometheus,
        note=note,
        progress=progress or session.silent,
    )
