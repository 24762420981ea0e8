"""The pipeline: the notebooks in their order, run by papermill, then rendered by nbconvert.

A run is built in a folder beside its target and renamed into place when it is whole, so a run that
fails or is killed leaves the earlier one as it was.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from tars_ga_lib import parameters
from tars_ga_lib.parameters import ParametersError
from tars_ga_lib.recording import write_text
from tars_ga_lib.run import project_root

STAGES = (("01_collection",), ("02_drift_analysis", "03_cross_region"), ("05_certification",))
"""Notebooks by stage: those of one stage need only the stages before, and run side by side."""

REPORT_NOTEBOOK = "05_certification"
REPORT = "GA_DAY_REPORT"

IMPORTS = ["from tars_ga_lib import views"]
"""What every notebook needs: its kernel imports it while it waits for its turn."""

Report = Callable[[str, float], None]
"""Called with the name of what is done and the seconds that it took."""


class NotebookError(Exception):
    """A notebook failed for a reason that is not the user's; `notebook` holds its state."""

    def __init__(self, notebook: Path, message: str) -> None:
        super().__init__(message)
        self.notebook = notebook


@dataclass(frozen=True)
class Result:
    """A finished run: its folder and the content of `certification_metadata.json`."""

    folder: Path
    certification: dict[str, Any]

    @property
    def pdf(self) -> Path:
        """The report."""
        return self.folder / f"{REPORT}.pdf"


def notebooks_folder() -> Path:
    """Folder of the notebooks: in a checkout beside the package, in a wheel inside it."""
    here = Path(__file__).resolve().parent
    inside = here / "notebooks"
    return inside if inside.is_dir() else here.parent / "notebooks"


def default_output(file: Path) -> Path:
    """Folder of a run that names none: `outputs/` and the name of its parameters file."""
    return project_root() / "outputs" / file.stem


def run(
    file: Path,
    output: Path | None = None,
    overrides: Sequence[str] = (),
    report: Report = lambda name, seconds: None,
) -> Result:
    """Run all notebooks on a parameters file and render the report.

    Raises
    ------
    ParametersError
        If the input is bad; nothing is written then.
    NotebookError
        If a notebook fails; what there is of the run is kept in `OUTPUT.failed`.
    """
    parameters.load(file, overrides)  # bad input is refused before any work is done
    target = (output or default_output(file)).resolve()
    _refuse_foreign(target)
    arguments = {
        "01_collection": {"parameters_file": str(file.resolve()), "overrides": list(overrides)}
    }
    with _partial(target) as partial:
        _run_stages(partial, arguments, report)
        began = time.monotonic()
        render(partial)
        report("report", time.monotonic() - began)
        certification = json.loads(
            (partial / "certification_metadata.json").read_text(encoding="utf-8")
        )
        _publish(partial, target)
    return Result(target, certification)


def _run_stages(folder: Path, arguments: dict[str, dict[str, Any]], report: Report) -> None:
    """Run the notebooks stage by stage.

    A kernel takes longer to start and to import the library than most notebooks take to run, so
    the kernels of the next stage start while a stage runs.
    """
    began = [threading.Event() for _ in STAGES]
    failed = threading.Event()

    def work(stage: int, name: str) -> float:
        if stage > 1:
            began[stage - 1].wait()
        if failed.is_set():
            return 0.0
        with _kernel() as kernel:
            began[stage].wait()
            if failed.is_set():
                return 0.0
            start = time.monotonic()
            execute(name, folder, arguments.get(name, {}), kernel)
            return time.monotonic() - start

    names = [(stage, name) for stage, names in enumerate(STAGES) for name in names]
    with ThreadPoolExecutor(len(names) + 1) as pool:
        jobs = {name: pool.submit(work, stage, name) for stage, name in names}
        try:
            for stage, some in enumerate(STAGES):
                began[stage].set()
                if stage == len(STAGES) - 1:
                    pool.submit(_import_exporters)
                for name in some:
                    report(name, jobs[name].result())
        except BaseException:
            failed.set()
            raise
        finally:
            for event in began:
                event.set()


@contextlib.contextmanager
def _kernel() -> Iterator[Any]:
    """Start a kernel that imports the library at once, and stop it in the end."""
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_core.utils import run_sync
    from traitlets.config import Config

    manager = AsyncKernelManager(
        kernel_name="python3", config=Config(KernelManager={"transport_encryption": "auto"})
    )
    run_sync(manager.start_kernel)(
        extra_arguments=[f"--IPKernelApp.exec_lines={IMPORTS}", "--HistoryManager.enabled=False"]
    )
    try:
        yield manager
    finally:
        run_sync(manager.shutdown_kernel)(now=True)


def _refuse_foreign(target: Path) -> None:
    """Refuse to replace a folder that is not a run's."""
    if target.exists() and not target.is_dir():
        raise ParametersError(f"--output {target}: is a file; name a folder")
    foreign = target.is_dir() and any(target.iterdir())
    if foreign and not (target / "parameters" / "run.yaml").is_file():
        raise ParametersError(
            f"--output {target}: holds files that are not a run's; name a new folder"
        )


@contextlib.contextmanager
def _partial(target: Path) -> Iterator[Path]:
    """Folder beside the target in which a run is built."""
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
        (partial / "notebooks").mkdir()
    except OSError as error:
        raise ParametersError(
            f"--output {target}: cannot be written ({error.strerror}); choose another folder"
        ) from None
    try:
        yield partial
    except NotebookError as error:
        failed = target.with_name(f"{target.name}.failed")
        shutil.rmtree(failed, ignore_errors=True)
        partial.rename(failed)
        error.notebook = failed / error.notebook.relative_to(partial)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _publish(partial: Path, target: Path) -> None:
    """Put a finished run into its place; the earlier one is gone only after that."""
    earlier = target.with_name(f".{target.name}.earlier-{os.getpid()}")
    if target.exists():
        target.rename(earlier)
    partial.rename(target)
    shutil.rmtree(earlier, ignore_errors=True)


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
                km=kernel,
                stderr_file=sys.stderr if name == "01_collection" and sys.stderr.isatty() else None,
            )
    except PapermillExecutionError as error:
        if error.ename == "ParametersError":
            raise ParametersError(error.evalue) from None
        raise NotebookError(executed, f"{name}: {error.ename}: {error.evalue}") from None
    normalise(executed)


def normalise(file: Path) -> None:
    """Take out of an executed notebook what differs from run to run: times, ids, places.

    The injected parameters become those that open the notebook where it lies.
    """
    notebook = nbformat.read(file, as_version=4)
    notebook.metadata.pop("papermill", None)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.source = '# Parameters\nrun_dir = ".."\n'
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    write_text(file, nbformat.writes(notebook) + "\n")


# --- report ------------------------------------------------------------------------------------


def _import_exporters() -> None:
    """Import nbconvert and what rendering needs, while the last kernel is busy."""
    from tars_ga_lib.report import MarkdownExporter, TypstPDFExporter  # noqa: F401


def render(folder: Path) -> None:
    """Render a run's certification notebook as PDF and Markdown."""
    from tars_ga_lib.report import MarkdownExporter, TypstPDFExporter

    notebook = nbformat.read(folder / "notebooks" / f"{REPORT_NOTEBOOK}.ipynb", as_version=4)
    pdf, _ = TypstPDFExporter().from_notebook_node(notebook)
    markdown, resources = MarkdownExporter().from_notebook_node(notebook)
    (folder / f"{REPORT}.pdf").write_bytes(pdf)
    write_text(folder / f"{REPORT}.md", markdown)
    for name, content in resources["outputs"].items():
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
