"""The pipeline: the notebooks in their order, run by papermill, then rendered by nbconvert.

A run is built in a folder beside its target and renamed into place when it is whole, so a run that
fails or is killed leaves the earlier one as it was. It replaces what the earlier one made, and what
people put there stays (`made`).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tars_ga_lib import atomic, made, parameters, strict
from tars_ga_lib import report as report_of
from tars_ga_lib.channels import LOG
from tars_ga_lib.evidence import package as evidence
from tars_ga_lib.grammar import ParametersError, project_root, shipped

NOTEBOOKS = (
    "01_collection",
    "02_drift_analysis",
    "03_cross_region",
    "04_validation",
    "05_certification",
)
"""Notebooks in the order of a run."""

REPORT_NOTEBOOK = "05_certification"
REPORT = "GA_DAY_REPORT"
APPENDIX = "GA_DAY_APPENDIX"
CHARTS = "artifacts/charts"

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

    from tars_ga_lib.report.blocks import Paper, Part

IMPORTS = ["from tars_ga_lib import views"]
"""What every notebook needs: a kernel imports it as it starts."""

_SHOW_PROGRESS = ("01_collection", "04_validation")
"""Notebooks that wait for others' answers, and show how far they are."""

Report = Callable[[str, float], None]
"""Called with the name of what is done and the seconds that it took."""


class NotebookError(Exception):
    """A notebook failed for a reason that is not the user's; `notebook` holds its state."""

    def __init__(self, notebook: Path, message: str) -> None:
        super().__init__(message)
        self.notebook = notebook


@dataclass(frozen=True)
class Result:
    """A finished run: its folder and the content of `certification_metadata.json`.

    `kept` names files of the earlier run that somebody had changed, where they are kept aside.
    """

    folder: Path
    certification: dict[str, Any]
    kept: list[str] = field(default_factory=list)

    @property
    def pdf(self) -> Path:
        """The report."""
        return self.folder / f"{REPORT}.pdf"

    @property
    def archive(self) -> Path:
        """The evidence package, if one was built."""
        return self.folder / "ga_certification_package.tar.gz"


def notebooks_folder() -> Path:
    """Folder of the notebooks."""
    return shipped("notebooks")


def default_output(file: Path) -> Path:
    """Folder of a run that names none: `outputs/` and the name of its parameters file."""
    return project_root() / "outputs" / file.stem


def run(
    file: Path,
    output: Path | None = None,
    overrides: Sequence[str] = (),
    report: Report = lambda name, seconds: None,
    *,
    package: bool = True,
    signer: Signer | None = None,
    offline: bool = False,
) -> Result:
    """Run all notebooks on a parameters file, render the report and pack the evidence.

    Parameters
    ----------
    package
        Whether to build the evidence package.
    signer
        Who signs its attestation; nobody if not given, and the package says so.
    offline
        Measure nothing on the running system, as in a replay of a package, whose files name it.

    Raises
    ------
    ParametersError
        If the input is bad; nothing is written then.
    NotebookError
        If a notebook fails; what there is of the run is kept in `OUTPUT.failed`.
    """
    from tars_ga_lib.live import store

    job = parameters.load(file, overrides)  # bad input is refused before any work is done
    evidence.source_date()
    target = (output or default_output(file)).resolve()
    refuse_foreign(target)
    arguments: dict[str, dict[str, Any]] = {
        "01_collection": {"parameters_file": str(file.resolve()), "overrides": list(overrides)},
        "04_validation": {
            "prometheus": job.parameters.source.prometheus or "",
            "measure": not offline,
        },
    }
    with _partial(target) as partial:
        _run_notebooks(partial, arguments, report)
        began = time.monotonic()
        render(partial, job.parameters.report.paper)
        report("report", time.monotonic() - began)
        certification = strict.loads((partial / "certification_metadata.json").read_bytes())
        if package:
            began = time.monotonic()
            evidence.build(partial, signer)
            report("package", time.monotonic() - began)
        made.record(partial)
        # Who was told stays known, and what was watched: neither belongs to one run.
        ours = LOG, store.FOLDER
        aside = made.keep(target, partial, ours) if target.is_dir() else []
        atomic.replace(partial, target)
    return Result(target, certification, aside)


def _run_notebooks(folder: Path, arguments: dict[str, dict[str, Any]], report: Report) -> None:
    """Run the notebooks one after the other, in one kernel."""
    with _worker() as (thread, kernel), _interruptible(kernel):
        for name in NOTEBOOKS:
            if name == NOTEBOOKS[-1]:
                threading.Thread(target=_import_typst, daemon=True).start()
            job = thread.submit(_timed, name, folder, arguments.get(name, {}), kernel)
            report(name, job.result())


@contextlib.contextmanager
def _interruptible(kernel: Future[Any]) -> Iterator[None]:
    """Kill the kernel at Ctrl-C: its thread waits for it, and an end waits for the thread."""
    try:
        yield
    except KeyboardInterrupt:
        with contextlib.suppress(Exception):  # one that never began, or is gone
            kernel.result().provisioner.process.kill()
        raise


@contextlib.contextmanager
def _worker() -> Iterator[tuple[ThreadPoolExecutor, Future[Any]]]:
    """Yield a thread and its kernel, which serves one notebook after the other.

    A kernel takes longer to start and to import the library than a notebook to run, so it is not
    thrown away after each. It belongs to the event loop of its thread.
    """
    with ThreadPoolExecutor(1) as thread:
        kernel = thread.submit(_start_kernel)
        try:
            yield thread, kernel
        finally:
            thread.submit(_stop_kernel, kernel)


def _start_kernel() -> Any:
    """Start a kernel that imports the library at once."""
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_core.utils import run_sync
    from traitlets.config import Config

    manager = AsyncKernelManager(
        kernel_name="python3", config=Config(KernelManager={"transport_encryption": "auto"})
    )
    run_sync(manager.start_kernel)(
        extra_arguments=[
            f"--IPKernelApp.exec_lines={IMPORTS}",
            "--HistoryManager.enabled=False",
            "--InteractiveShell.cache_size=0",  # a result is kept by nobody
        ]
    )
    return manager


def _forget(manager: Any) -> None:
    """Empty a kernel's namespace: a notebook finds nothing of the one before, but its modules."""
    from jupyter_core.utils import run_sync

    async def reset() -> None:
        client = manager.client()
        client.start_channels()
        # Not `%reset`, which looks for garbage twice in all that was imported.
        await client.execute("%reset_selective -f .", silent=True, reply=True)
        client.stop_channels()

    run_sync(reset)()


def _stop_kernel(kernel: Future[Any]) -> None:
    from jupyter_core.utils import run_sync

    run_sync(kernel.result().shutdown_kernel)(now=True)


def _timed(name: str, folder: Path, arguments: dict[str, Any], kernel: Future[Any]) -> float:
    began = time.monotonic()
    execute(name, folder, arguments, kernel.result())
    _forget(kernel.result())
    return time.monotonic() - began


def refuse_foreign(target: Path) -> None:
    """Refuse to replace a folder that is not a run's, finished or watched."""
    from tars_ga_lib.live import store

    if target.exists() and not target.is_dir():
        raise ParametersError(f"--output {target}: is a file; name a folder")
    foreign = target.is_dir() and any(target.iterdir())
    watched = target / store.FOLDER
    ours = (target / "parameters" / "run.yaml", watched / store.FILE, watched / store.EARLIER)
    if foreign and not any(file.is_file() for file in ours):
        raise ParametersError(
            f"--output {target}: holds files that are not a run's; name a new folder"
        )


@contextlib.contextmanager
def _partial(target: Path) -> Iterator[Path]:
    """Folder beside the target in which a run is built."""
    with atomic.beside(target) as partial:
        (partial / "notebooks").mkdir()
        try:
            yield partial
        except NotebookError as error:
            failed = target.with_name(f"{target.name}.failed")
            shutil.rmtree(failed, ignore_errors=True)
            partial.rename(failed)
            error.notebook = failed / error.notebook.relative_to(partial)
            raise


# --- notebooks -----------------------------------------------------------------------------------


def execute(name: str, folder: Path, arguments: dict[str, Any], kernel: Any) -> None:
    """Run one notebook in a running kernel on a run's folder, and keep it there as executed.

    Raises
    ------
    ParametersError
        If the notebook was refused its input.
    NotebookError
        If it failed otherwise.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    source = notebooks_folder() / f"{name}.ipynb"
    executed = folder / "notebooks" / source.name
    known = papermill.inspect_notebook(str(source))
    arguments = {"run_dir": str(folder), **arguments}
    if unknown := set(arguments) - set(known):
        raise ParametersError(f"{source.name}: has no parameter {', '.join(sorted(unknown))}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of papermill's own, on every run
            papermill.execute_notebook(
                str(source),
                str(executed),
                arguments,
                kernel_name="python3",
                progress_bar=False,
                request_save_on_cell_execute=False,  # twice a cell; once in the end is enough
                km=kernel,
                stderr_file=sys.stderr if name in _SHOW_PROGRESS and sys.stderr.isatty() else None,
            )
    except PapermillExecutionError as error:
        if error.ename == "ParametersError":
            raise ParametersError(error.evalue) from None
        if number := re.match(r"\[Errno (\d+)\]", error.evalue):
            # Of the system, not of the notebook: a full disk is told in one sentence.
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from None
        raise NotebookError(executed, f"{name}: {error.ename}: {error.evalue}") from None
    normalise(executed)


def normalise(file: Path) -> None:
    """Take out of an executed notebook what differs from run to run: times, ids, places.

    The injected parameters become those that open the notebook where it lies.
    """
    import nbformat

    notebook = nbformat.read(file, as_version=4)
    notebook.metadata.pop("papermill", None)
    count = 0
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.source = _in_place(cell.source)
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = count
    file.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


IN_PLACE = {
    "run_dir": ".",
    "parameters_file": "parameters/run.yaml",
    "overrides": [],
    "prometheus": "",
    "measure": False,
}
"""Parameters with which a notebook runs again where it lies: in the `notebooks` of a run's folder.

They are relative to the folder above, which `project_root` finds, wherever it was moved to.
"""


def _written(value: object) -> str:
    """Write a value as Python has it, texts in double quotes."""
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _in_place(source: str) -> str:
    """Rewrite the assignments of an injected cell to those of `IN_PLACE`."""
    names = re.findall(r"^(\w+) = ", source, re.MULTILINE)
    return "\n".join(["# Parameters", *(f"{n} = {_written(IN_PLACE[n])}" for n in names), ""])


# --- report ------------------------------------------------------------------------------------


def _import_typst() -> None:
    """Import what rendering needs, while the last kernel is busy."""
    import segno  # noqa: F401
    import typst  # noqa: F401


def report_again(folder: Path) -> None:
    """Execute the certification's notebook on a finished run, and render the report from it."""
    (folder / "notebooks").mkdir(exist_ok=True)
    paper = parameters.load(folder / "parameters" / "run.yaml").parameters.report.paper
    with _worker() as (thread, kernel):
        thread.submit(_timed, REPORT_NOTEBOOK, folder, {}, kernel).result()
    render(folder, paper)


def render(folder: Path, paper: Paper = "a4") -> None:
    """Render a run's certification notebook: the report in three forms, its appendix in two."""
    import nbformat

    notebook = nbformat.read(folder / "notebooks" / f"{REPORT_NOTEBOOK}.ipynb", as_version=4)
    markdown, files = report_of.to_markdown(notebook, folder=CHARTS)
    files[f"{REPORT}.md"] = markdown.encode()
    parts: dict[str, Part] = {REPORT: "report", APPENDIX: "appendix"}
    for name, part in parts.items():
        files[f"{name}.pdf"] = report_of.to_pdf(notebook, part=part, paper=paper)
        files[f"{name}.html"] = report_of.to_html(notebook, part=part).encode()
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
