"""A package made on one kind of processor is verified on the others.

OpenBLAS takes its kernels by OPENBLAS_CORETYPE, and NumPy leaves out what it is told not to use;
both choose by the processor otherwise.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.helpers import ROOT

KERNELS: dict[str, dict[str, str]] = {
    "default": {},
    "Haswell": {"OPENBLAS_CORETYPE": "Haswell"},
    "Nehalem": {"OPENBLAS_CORETYPE": "Nehalem"},
    "Prescott": {"OPENBLAS_CORETYPE": "Prescott"},
    "no AVX-512": {"NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL"},
}
MAKE = """
import sys
from pathlib import Path
from tests.packages import finish
finish(Path(sys.argv[1]))
"""


def _python(code: str, folders: Sequence[Path], kernel: Mapping[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, ":".join(map(str, folders))],
        cwd=ROOT,
        env={**os.environ, **kernel},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


COMPARE = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from tars_ga_lib import recompute
folders = map(Path, sys.argv[1].split(":"))
print(json.dumps([asdict(recompute.replay(folder)) for folder in folders]))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The demo's run, its figures computed under each kernel."""
    folder = tmp_path_factory.mktemp("kernels")
    from tars_ga_lib.run import Run

    run = folder / "run"
    Run.collect(run, ROOT / "parameters" / "demo.yaml")
    found = {}
    for name in ("default", "Haswell", "Prescott"):
        found[name] = folder / name
        shutil.copytree(run, found[name])
        _python(MAKE, [found[name]], KERNELS[name])
    return found


def test_kernels_do_differ(made: Mapping[str, Path]) -> None:
    """Else the tests below would prove nothing."""
    name = "drift_analysis.json"
    assert (made["default"] / name).read_bytes() != (made["Prescott"] / name).read_bytes()


@pytest.mark.parametrize(
    ("by", "makers"),
    [
        ("default", ["Haswell"]),
        ("Haswell", ["default", "Prescott"]),
        ("Nehalem", ["default"]),
        ("Prescott", ["default", "Haswell"]),
        ("no AVX-512", ["default"]),
    ],
)
def test_what_one_kernel_made_another_verifies(
    by: str, makers: list[str], made: Mapping[str, Path]
) -> None:
    for found in json.loads(_python(COMPARE, [made[maker] for maker in makers], KERNELS[by])):
        assert (found["problem"], found["differences"]) == (None, [])
        assert found["figures"] > 50_000
        # A tenth of what is allowed, so that another kernel has room.
        assert found["largest"] < found["tolerance"] / 10


def test_verdicts_and_texts_are_the_same_under_each(made: Mapping[str, Path]) -> None:
    name = "certification_metadata.json"
    documents = [json.loads((folder / name).read_text("utf-8")) for folder in made.values()]
    for document in documents:
        assert document["decision"] == documents[0]["decision"]
        assert document["because"] == documents[0]["because"]
        for one, other in zip(document["criteria"], documents[0]["criteria"], strict=True):
            assert {**one, "value": 0} == {**other, "value": 0}
