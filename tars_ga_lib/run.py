"""A run's folder: the files that the notebooks leave for each other.

```
parameters/             the run's file, its catalogues and evidence files, as they were used
recording/              the samples
ga_kpi_summary.json     baseline_metrics.json   snapshots.jsonl
validation_results.json (.xml, .html)           ws_health_metrics.json
drift_analysis.json     cross_region.json       slo.json    certification_metadata.json
notebooks/              the notebooks as they were executed
GA_DAY_REPORT.pdf       GA_DAY_REPORT.html      GA_DAY_REPORT.md    artifacts/charts/
GA_DAY_APPENDIX.pdf     GA_DAY_APPENDIX.html
```

These files are the contract: each notebook reads some and writes some, so that it can be run alone.
Every derived file names the digests of the recording and of the parameters that it was derived
from, and is refused where they differ. What was measured on the running system is not derived: it
is kept as it is, like the recording.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tars_ga_lib import collection, measured, parameters, recording, strict
from tars_ga_lib.evidence import history, package
from tars_ga_lib.grammar import ParametersError, project_root
from tars_ga_lib.kpis import Alerts, Kpis, alerts
from tars_ga_lib.parameters import Job
from tars_ga_lib.recording import Recording, write_json, write_text

if TYPE_CHECKING:
    from tars_ga_lib.collection import Progress


def _previous(job: Job) -> dict[str, Any] | None:
    """Return the facts of the last certified release, if the run was given one."""
    if job.parameters.previous is None:
        return None

    return history.facts(job.parameters.previous)


class Run:
    """One run's folder, with its job and recording.

    Parameters
    ----------
    folder
        The run's folder; a relative path is relative to `project_root()`.

    Raises
    ------
    ParametersError
        If it holds no run.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = project_root() / folder
        file = self.folder / "parameters" / "run.yaml"
        if not file.is_file():
            raise ParametersError(
                f"{self.folder}: there is no run in it; run notebook 01_collection first"
            )
        self.job: Job = parameters.load(file)

    @classmethod
    def collect(
        cls,
        folder: Path | str,
        parameters_file: Path | str,
        overrides: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> Self:
        """Read the parameters, collect from their source, and start the run's folder with both.

        Raises
        ------
        ParametersError
            If anything in the parameters is wrong; the folder is untouched then.
        """
        job = parameters.load(project_root() / parameters_file, overrides)
        previous = _previous(job)
        found = collection.collect(job, progress or collection.silent)
        path = project_root() / folder
        measured.bring(job, path)
        found.save(path / "recording")
        job.save(path / "parameters", [(span.start, span.stop) for span in found.baselines])
        if previous is not None:
            write_json(path / "parameters" / parameters.PREVIOUS, previous)
        return cls(path)

    @cached_property
    def recording(self) -> Recording:
        """The run's recording, checked against its digests."""
        return recording.load(self.folder)

    @cached_property
    def intervals(self) -> list[Kpis]:
        """KPIs of the window and each baseline interval; what is usual is learnt from the rest."""
        return Kpis.together(self.job, [self.recording.window, *self.recording.baselines])

    @cached_property
    def kpis(self) -> Kpis:
        """KPIs of the window."""
        return self.intervals[0]

    @cached_property
    def baseline_kpis(self) -> list[Kpis]:
        """KPIs of each baseline interval, by itself."""
        return self.kpis.others

    @cached_property
    def alerts(self) -> Alerts:
        """Alerts that fired in the window, as the criteria have them."""
        return alerts(self.job, self.recording.window, self.recording.baselines)

    @cached_property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the recording, and of the run's file with all that it names."""
        return {
            "recording": self.recording.digest(),
            "parameters": package.parameters_digest(self.folder / "parameters"),
        }

    def measured(self) -> dict[str, measured.Results]:
        """What was measured on the running system, by kind; read anew, as a notebook adds to it.

        Raises
        ------
        ParametersError
            If a file of results is not what it should be.
        """
        return measured.load(self.job, self.folder)

    def write(self, name: str, document: dict[str, Any]) -> dict[str, Any]:
        """Write a derived JSON file with the digests of what it was derived from."""
        document = {**document, "derived_from": self.digests}
        write_json(self.folder / name, document)
        return document

    def read(self, name: str) -> dict[str, Any]:
        """Read a derived JSON file.

        Raises
        ------
        ParametersError
            If it is missing, or was derived from another recording or other parameters.
        """
        file = self.folder / name
        try:
            document: dict[str, Any] = strict.loads(file.read_bytes())
        except (OSError, ValueError):
            raise ParametersError(
                f"{file}: is missing or not JSON; run the notebook that writes it"
            ) from None
        if not isinstance(document, dict) or document.get("derived_from") != self.digests:
            raise ParametersError(
                f"{file}: was derived from another recording or other parameters than the run "
                "holds now; run the notebook that writes it again"
            )
        return document

    def write_checksum(self, name: str) -> None:
        """Write `NAME.sha256` beside a file, in the format of `sha256sum`."""
        digest = hashlib.sha256((self.folder / name).read_bytes()).hexdigest()
        write_text(self.folder / f"{name}.sha256", f"{digest}  {name}\n")

    def write_lines(self, name: str, documents: Sequence[dict[str, Any]]) -> None:
        """Write a JSON Lines file."""
        lines = [json.dumps(each, ensure_ascii=False, allow_nan=False) for each in documents]
        write_text(self.folder / name, "\n".join(lines) + "\n")
