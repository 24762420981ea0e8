"""A notebook's cells run in this process: what they show, without the wait for a kernel."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import IPython.display
import nbformat
import pytest
from IPython.core.formatters import DisplayFormatter
from nbformat.v4 import new_output

from tests.helpers import ROOT


def execute(name: str, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a notebook as executed on a run's folder."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    space: dict[str, Any] = {}
    shown: list[Any] = []
    monkeypatch.setattr(IPython.display, "display", lambda *objects: shown.extend(objects))
    for count, cell in enumerate(notebook.cells, 1):
        if cell.cell_type != "code":
            continue
        shown.clear()
        tree = ast.parse(cell.source)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, name, "exec"), space)
        if last is not None and (value := eval(ast.unparse(last.value), space)) is not None:
            shown.append(value)
        if "parameters" in cell.metadata.get("tags", []):
            space["run_dir"] = str(run_dir)
        cell.execution_count = count
        cell.outputs = [output(each) for each in shown]
    return notebook


_FORMATTER = DisplayFormatter()


def output(value: Any) -> Any:
    """Return what a kernel would send of a value."""
    data, metadata = _FORMATTER.format(value)
    return new_output("display_data", data=json.loads(json.dumps(data)), metadata=metadata)
