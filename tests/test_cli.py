"""The command: its words, its exit codes, and that an error is one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tars_ga_lib import __version__, cli, parameters, pipeline
from tars_ga_lib.grammar import ParametersError
from tests import servers
from tests.helpers import ROOT, SMALL, tars_ga, write_run

DEMO = ROOT / "parameters" / "demo.yaml"
GA_DAY = ROOT / "parameters" / "ga_day.yaml"


def test_version_and_help() -> None:
    done = tars_ga("--version")
    assert (done.returncode, done.stdout) == (0, f"tars-ga {__version__}\n")
    done = tars_ga("--help")
    assert done.returncode == 0
    assert {"run", "preflight"} <= set(done.stdout.split())
    done = tars_ga("run", "--help")
    assert "0 certified, 3 not certified, 4 inconclusive, 2 bad input" in done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [["runn"], ["run", "--outputt", "x"], ["run", "x.yaml", "y.yaml"], ["preflight"]],
)
def test_misuse(arguments: list[str]) -> None:
    done = tars_ga(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr


@pytest.mark.parametrize("command", ["run", "preflight"])
def test_bad_input(tmp_path: Path, command: str) -> None:
    path = write_run(tmp_path, regions=["[red]east[/]", "[red]east[/]"])
    done = tars_ga(command, path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"error: {path}: regions: '[red]east[/]' is there twice; name each once\n"
    )
    done = tars_ga(command, tmp_path / "[bold]gone.yaml")
    assert (done.returncode, "[bold]gone.yaml: there is no such file" in done.stderr) == (2, True)


def test_preflight(small_server: str, empty_server: str) -> None:
    sets = [part for each in SMALL for part in ("--set", each)]
    done = tars_ga("preflight", GA_DAY, *sets, "--set", f"source.prometheus={small_server}")
    assert done.returncode == 0, done.stdout
    assert "Window: 2026-11-20 12:00 to 2026-11-20 14:00 UTC (2h)" in done.stdout
    assert "✗" not in done.stdout
    assert len(done.stdout.splitlines()) == 2
    assert "✓ 84 queries answer" in done.stdout
    done = tars_ga("preflight", GA_DAY, *sets, "--set", f"source.prometheus={empty_server}")
    assert done.returncode == 4
    assert "✗ no metric up in the window (availability, scrapes)" in done.stdout
    assert len(done.stdout.splitlines()) < 60
    address = f"source.prometheus=http://127.0.0.1:{servers.free_port()}"
    done = tars_ga("preflight", GA_DAY, *sets, "--set", address)
    assert done.returncode == 4
    assert "cannot be reached; see that the server runs" in done.stderr
    done = tars_ga("preflight", DEMO)
    assert done.returncode == 2
    assert "needs 'prometheus' (a URL)" in done.stderr


def test_schema() -> None:
    done = tars_ga("schema")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert found == json.loads(json.dumps(parameters.schema()))
    assert "Parameters" in json.dumps(found)


def raising(error: BaseException) -> Callable[..., Any]:
    def run(*_: object, **__: object) -> Any:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ParametersError("x.yaml: it is [bad]"), 2, "error: x.yaml: it is [bad]"),
        (RuntimeError("[odd]"), 1, "This is an error of tars-ga itself; earlier results are unto"),
        (pipeline.NotebookError(Path("n.ipynb"), "02: KeyError: 'x'"), 1, "See n.ipynb"),
        (KeyboardInterrupt(), 130, "interrupted; earlier results are untouched"),
    ],
)
def test_errors_are_sentences(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    said: str,
) -> None:
    monkeypatch.setattr(pipeline, "run", raising(error))
    monkeypatch.setattr("sys.argv", ["tars-ga", "run", str(DEMO)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == code
    text = capsys.readouterr().err
    assert said in text
    assert "Traceback" not in text
    assert len(text.splitlines()) <= 2
