"""Replay: every figure of a package computed again from its recording, and compared.

What runs is the installed library. Nothing of the package is executed: its notebooks stay closed,
its YAML may hold plain data only, and its files, which come from a stranger, are read by a child
process with a limit on memory and time, which has none of our secrets and opens no connection.

Figures may differ in their last digits, as the order of a sum is the processor's: BLAS and NumPy
choose their kernels by it. A sum of n terms is within n·u of the true one in whatever order it is
taken (u = 2⁻⁵³; Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 4.2), and no
figure rests on more than 2²⁰ samples, so 2²⁰·u = 1.2e-10 and, with what a fit of orthogonal waves
adds, `TOLERANCE`. A difference of like quantities (a drift, a slope) loses digits in proportion to
how small it is, so that figures below `SMALL` count as of that size. A p-value is compared by its
logarithm: of a statistic z it is about exp(-z²/2), and a relative error e of z changes ln p by
e·z² = 2e·|ln p|. Verdicts, decisions, counts and texts must be equal.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tars_ga_lib import strict
from tars_ga_lib.evidence.tarball import ArchiveError
from tars_ga_lib.grammar import ALLOWED_VARIABLES, ANY_VARIABLE, check_yaml, parse_yaml
from tars_ga_lib.parameters import NAMED
from tars_ga_lib.sanitise import one_line

TOLERANCE = 1e-9
"""Difference that is allowed: see above, and `tests/test_kernels.py` for what kernels do."""

SMALL = 1e-3
"""Size of a figure below which its difference counts absolutely, within `TOLERANCE * SMALL`: a
millionth of the narrowest limit of a drift rule (2e-4)."""

P_VALUES = frozenset({"p_value", "adjusted_p"})
"""Keys of figures that are probabilities of a test."""

MOST_SHOWN = 40
"""Differences listed; the others are counted."""

GIB = 1 << 30
"""Memory in bytes that a replay may take unless told otherwise."""

MOST_SECONDS = 3600
_TINY = sys.float_info.min
_MISSING = object()


@dataclass
class Replay:
    """What a replay found.

    `figures` counts the numbers that were compared, and `texts` everything else; `differences` has
    a file and a cause for each, `problem` says why there was nothing to compare. `pages` are the
    files that were rendered again and compared; `no_pages` says why none was.
    """

    figures: int = 0
    texts: int = 0
    files: list[str] = field(default_factory=list)
    tolerance: float = TOLERANCE
    same_software: bool = True
    largest: float = 0.0
    more: int = 0
    differences: list[tuple[str, str]] = field(default_factory=list)
    problem: tuple[str, str] | None = None
    pages: list[str] = field(default_factory=list)
    no_pages: str = "the report's pages were NOT compared, as that was not asked for"

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what speaks against the package, as file and cause."""
        if self.problem:
            yield self.problem
        yield from self.differences
        if self.more:
            yield self.differences[-1][0], f"and {self.more} more figures differ"


# --- comparing -----------------------------------------------------------------------------------


def parsed(content: bytes, name: str) -> Any:
    """Return what sound JSON says.

    Raises
    ------
    ArchiveError
        If it is not that: it says two things, or is built to break its reader.
    """
    try:
        return strict.loads(content)
    except ValueError as error:
        raise ArchiveError(name, f"is not sound JSON ({one_line(str(error))})") from None


def compare(found: Replay, name: str, packaged: Any, computed: Any) -> None:
    """Compare two documents; the computed one as it would be written."""
    written = strict.loads(json.dumps(computed, allow_nan=False))
    found.files.append(name)
    for path, old, new in differences(found, packaged, written):
        if len(found.differences) < MOST_SHOWN:
            cause = f"{path or 'it'} is {_short(old)}, and its recording gives {_short(new)}"
            found.differences.append((name, cause))
        else:
            found.more += 1


def _short(value: Any) -> str:
    text = "missing" if value is _MISSING else json.dumps(value, ensure_ascii=False)
    return one_line(text, 80)


def differences(
    found: Replay, old: Any, new: Any, path: str = "", key: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Yield path and both values where two documents differ; count all of them in `found`."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in {**new, **old}:
            inner = f"{path}.{name}" if path else str(name)
            values = old.get(name, _MISSING), new.get(name, _MISSING)
            yield from differences(found, *values, inner, str(name))
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield f"{path} (length)".strip(), len(old), len(new)
        for i, (a, b) in enumerate(zip(old, new, strict=False)):
            yield from differences(found, a, b, f"{path}[{i}]", key)
    elif _is_number(old) and _is_number(new):
        found.figures += 1
        gap = _gap(old, new, key)
        if gap <= found.tolerance:  # which no NaN is
            found.largest = max(found.largest, gap)
        else:
            yield path, old, new
    else:
        found.texts += 1
        if type(old) is not type(new) or old != new:
            yield path, old, new


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _gap(old: float, new: float, key: str) -> float:
    """Difference of two figures, as the tolerance has it; infinite between unlike numbers."""
    if type(old) is not type(new):
        return math.inf  # 1 and 1.0 are equal but were written differently
    if old == new:
        return 0.0 if math.copysign(1, old) == math.copysign(1, new) else math.ulp(0.0)
    if isinstance(old, int):
        return math.inf
    if key in P_VALUES and old >= 0 and new >= 0:
        # Below the smallest normal number a double has fewer digits, and in the end none.
        logs = [math.log(max(value, _TINY)) for value in (old, new)]
        return abs(logs[0] - logs[1]) / (1 + 2 * max(map(abs, logs)))
    return abs(old - new) / max(abs(old), abs(new), SMALL)


# --- hostile parameters --------------------------------------------------------------------------


def check_parameters(folder: Path) -> None:
    """See that a package's parameters are plain data, and name no file outside of them.

    Raises
    ------
    ArchiveError
        If not.
    """
    run: Any = None
    for file in sorted(folder.glob("*.yaml")):
        name = f"parameters/{file.name}"
        try:
            text = file.read_text(encoding="utf-8")
            check_yaml(text)
            run = parse_yaml(text, name) if file.name == "run.yaml" else run
        except UnicodeDecodeError:
            raise ArchiveError(name, "is not UTF-8 text") from None
        except (yaml.YAMLError, ValueError) as error:
            cause = " ".join(str(error).removeprefix(name).split())
            raise ArchiveError(name, f"is not YAML that a run writes ({one_line(cause)})") from None
    _check_paths(run)


def _check_paths(raw: Any) -> None:
    """See that a run's file names its own neighbours only, and its own recording."""

    def refuse(key: str, value: object) -> None:
        raise ArchiveError(
            "parameters/run.yaml", f"{key} names {one_line(str(value))}, which is not its own file"
        )

    if not isinstance(raw, dict):
        raise ArchiveError("parameters/run.yaml", "is not a run's file")
    keys = (*NAMED, "previous")
    named = {key: raw[key] for key in keys if raw.get(key) is not None}
    evidence = raw.get("evidence")
    if isinstance(evidence, dict):
        named |= {f"evidence.{kind}": value for kind, value in evidence.items()}
    for key, value in named.items():
        if not isinstance(value, str) or Path(value).name != value:
            refuse(key, value)
    measured = raw.get("measured", {})
    if not isinstance(measured, dict) or measured.keys() - {"within", "min_watch"}:
        refuse("measured", measured)
    if raw.get("source") != {"recording": "../recording"}:
        refuse("source", raw.get("source"))
    if not isinstance(raw.get("baseline"), list):
        refuse("baseline", raw.get("baseline"))


# --- in the parent -------------------------------------------------------------------------------


def replay_apart(
    folder: Path, tolerance: float = TOLERANCE, *, pages: bool = False, memory: int = GIB
) -> Replay:
    """Replay a package's folder in child processes with limits, so that a bad file harms nobody.

    Parameters
    ----------
    tolerance
        Difference that is allowed, as told above.
    pages
        Also render the report again and compare it, if the same software made it.
    memory
        Bytes that a child may have.
    """
    found = _apart("figures", folder, tolerance, memory)
    if not pages or found.problem or found.differences:
        return found
    if not found.same_software:
        found.no_pages = (
            "the report's pages were NOT compared, as other versions made them than are installed"
        )
        return found
    rendered = _apart("pages", folder, tolerance, memory)
    if rendered.problem:
        found.no_pages = (
            f"the report's pages were NOT compared: rendering them {rendered.problem[1]}"
        )
    found.pages, found.differences = rendered.pages, rendered.differences
    return found


def check_apart(folder: Path) -> None:
    """See that a package's parameters and recording can be read, in a child with limits.

    Raises
    ------
    ArchiveError
        If not.
    """
    if problem := _apart("load", folder, TOLERANCE, GIB).problem:
        raise ArchiveError(*problem)


def _apart(task: str, folder: Path, tolerance: float, memory: int) -> Replay:
    """Do one of the tasks of `recompute` in a child process."""
    root = str(Path(__file__).resolve().parents[2])
    # -P: a file numpy.py in the working directory must not be taken for the library.
    command = [sys.executable, "-P", "-m", "tars_ga_lib.recompute", task, str(folder.resolve())]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TARS_GA_")} | {
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
        ALLOWED_VARIABLES: ANY_VARIABLE,  # which are named only, and never read
        "OPENBLAS_NUM_THREADS": "1",  # each thread has memory of its own
    }
    done = subprocess.run(
        [*command, str(memory), repr(tolerance)],
        stdin=subprocess.DEVNULL, capture_output=True, env=environment, check=False,
    )  # fmt: skip
    try:
        facts = strict.loads(done.stdout)
        pairs = [(str(file), str(cause)) for file, cause in facts.pop("differences")]
        return Replay(**facts, differences=pairs)
    except (ValueError, TypeError, KeyError):
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it fell silent"]
        problem = (
            f"cannot be replayed in {memory / GIB:.1f} GiB of memory, which --memory sets (the "
            f"process ended with {done.returncode}: {said[-1]})"
        )
        return Replay(problem=("recording", one_line(problem)))
