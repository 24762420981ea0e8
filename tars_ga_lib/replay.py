"""Replay: every figure of a package computed again (`recompute`), and compared.

What runs is the installed library. Nothing of the package is executed: its notebooks stay closed,
its YAML may hold plain data only, and its recording is read by a child process with a limit on
memory and time, as its files come from a stranger.
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

from tars_ga_lib.archive import ArchiveError, printable
from tars_ga_lib.parameters import NAMED

TOLERANCE = 1e-9
"""Relative difference allowed where the package was made with other versions or on another kind of
processor: their sums may differ in the last digits. With the same versions nothing may differ."""

MOST_SHOWN = 40
"""Differences listed; the others are counted."""

_GIB = 1 << 30
_MOST_YAML = 4 << 20
_MOST_NODES = 200_000


@dataclass
class Replay:
    """What a replay found.

    `figures` counts the numbers that were compared, and `texts` everything else; `differences` has
    a file and a cause each, `problem` says why there was nothing to compare.
    """

    figures: int = 0
    texts: int = 0
    files: list[str] = field(default_factory=list)
    tolerance: float = 0.0
    same_software: bool = True
    largest: float = 0.0
    more: int = 0
    differences: list[tuple[str, str]] = field(default_factory=list)
    problem: tuple[str, str] | None = None


# --- comparing -----------------------------------------------------------------------------------


def find(folder: Path, name: str) -> Path:
    """Return a file of a package's folder, where a run or a package has it."""
    return folder / name if (folder / name).exists() else folder / "artifacts" / name


def read(file: Path) -> Any:
    """Read a JSON file."""
    return json.loads(file.read_text(encoding="utf-8"))


def compare(found: Replay, name: str, packaged: Any, computed: Any) -> None:
    """Add to what was found where a file's packaged content and the computed one differ."""
    """Compare two documents; the computed one as it would be written."""
    written = json.loads(json.dumps(computed, allow_nan=False))
    found.files.append(name)
    for path, old, new in _differences(found, packaged, written, ""):
        if len(found.differences) < MOST_SHOWN:
            cause = f"{path or 'it'} is {_short(old)}, and its recording gives {_short(new)}"
            found.differences.append((name, cause))
        else:
            found.more += 1


def _short(value: Any) -> str:
    text = "missing" if value is _MISSING else json.dumps(value, ensure_ascii=False)
    return printable(text if len(text) <= 80 else text[:77] + "...")


_MISSING = object()


def _differences(found: Replay, old: Any, new: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**new, **old}:
            inner = f"{path}.{key}" if path else str(key)
            yield from _differences(found, old.get(key, _MISSING), new.get(key, _MISSING), inner)
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield f"{path} (length)".strip(), len(old), len(new)
        for i, (a, b) in enumerate(zip(old, new, strict=False)):
            yield from _differences(found, a, b, f"{path}[{i}]")
    elif _is_number(old) and _is_number(new):
        found.figures += 1
        gap = _gap(old, new)
        if gap > found.tolerance:
            yield path, old, new
        else:
            found.largest = max(found.largest, gap)
    else:
        found.texts += 1
        if type(old) is not type(new) or old != new:
            yield path, old, new


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _gap(old: float, new: float) -> float:
    """Relative difference; infinite between an integer and another number."""
    if old == new:
        # 0 and -0, or 1 and 1.0, are equal but were written differently.
        same = type(old) is type(new) and math.copysign(1, old) == math.copysign(1, new)
        return 0.0 if same else math.ulp(0.0)
    if isinstance(old, int) and isinstance(new, int):
        return math.inf
    try:
        return abs(old - new) / max(abs(old), abs(new))
    except OverflowError:
        return math.inf


# --- hostile parameters --------------------------------------------------------------------------


def check_parameters(folder: Path) -> None:
    """See that a package's parameters are plain data, and name no file outside of them.

    Raises
    ------
    ArchiveError
        If not.
    """
    for file in sorted(folder.iterdir()):
        if file.suffix != ".yaml":
            continue
        if file.stat().st_size > _MOST_YAML:
            raise ArchiveError(f"parameters/{file.name}", "is too large for a parameters file")
        _check_yaml(file)
    _check_paths(_plain(folder / "run.yaml"))


def _plain(file: Path) -> Any:
    return yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)


def _check_yaml(file: Path) -> None:
    """Refuse YAML that is small on disk and huge in memory, or that is more than data."""
    name = f"parameters/{file.name}"
    try:
        roots = yaml.compose_all(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        size = sum(_expanded(root, {}, set()) for root in roots if root is not None)
    except RecursionError:
        raise ArchiveError(name, "is nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ArchiveError(name, f"is not YAML ({str(error).splitlines()[0]})") from None
    if size > _MOST_NODES:
        raise ArchiveError(name, "expands to far more than it holds (aliases of aliases)")


def _expanded(node: yaml.Node, known: dict[int, int], above: set[int]) -> int:
    """Number of nodes once every alias is written out."""
    if id(node) in above:
        raise yaml.YAMLError("an alias refers to itself")
    if not node.tag.startswith("tag:yaml.org,2002:") or "python" in node.tag:
        raise yaml.YAMLError(f"the tag {printable(node.tag)} asks for more than data")
    if id(node) not in known:
        above.add(id(node))
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            inner = list(node.value)
        total = 1
        for each in inner:
            total = min(total + _expanded(each, known, above), _MOST_NODES + 1)
        above.discard(id(node))
        known[id(node)] = total
    return known[id(node)]


def _check_paths(raw: Any) -> None:
    """See that a run's file names its own neighbours only, and its own recording."""

    def refuse(key: str, value: object) -> None:
        raise ArchiveError(
            "parameters/run.yaml", f"{key} names {printable(str(value))}, which is not its own file"
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
    if not isinstance(measured, dict) or measured.keys() - {"within"}:
        refuse("measured", measured)
    if raw.get("source") != {"recording": "../recording"}:
        refuse("source", raw.get("source"))
    if not isinstance(raw.get("baseline"), list):
        refuse("baseline", raw.get("baseline"))


# --- in the parent -------------------------------------------------------------------------------


def replay_apart(folder: Path, tolerance: float | None = None) -> Replay:
    """Replay a package's folder in a child process with limits, so that a bad file harms nobody."""
    size = sum(f.stat().st_size for f in (folder / "recording").rglob("*") if f.is_file())
    limit = max(8 * _GIB, 32 * size)
    root = str(Path(__file__).resolve().parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    # -P: a file numpy.py in the working directory must not be taken for the library.
    command = [sys.executable, "-P", "-m", "tars_ga_lib.recompute", str(folder.resolve())]
    command += [str(limit), "" if tolerance is None else repr(tolerance)]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        check=False,
    )
    try:
        facts = json.loads(done.stdout)
        found = Replay(**facts)
    except (ValueError, TypeError):
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [
            "it fell silent"
        ]
        problem = f"cannot be replayed (the process ended with {done.returncode}: {last[0]})"
        return Replay(problem=("recording", printable(problem)))
    found.differences = [(str(file), str(cause)) for file, cause in found.differences]
    return found


def problems(found: Replay) -> Iterator[tuple[str, str]]:
    """Yield what speaks against a package, as file and cause."""
    if found.problem:
        yield found.problem[0], found.problem[1]
    yield from found.differences
    if found.more:
        yield found.differences[-1][0], f"and {found.more} more figures differ"
