"""The command: its words, its exit codes, and that an error is one sentence."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tars_ga_lib import __version__, cli, parameters, pipeline
from tars_ga_lib.cli import console
from tars_ga_lib.grammar import ParametersError
from tests import servers
from tests.helpers import ROOT, SMALL, digests, tars_ga, write_run

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
    told = json.loads(tars_ga(
        "preflight", GA_DAY, *sets, "--set", f"source.prometheus={small_server}", "--json"
    ).stdout)  # fmt: skip
    assert told["exit_code"] == 0
    assert len([one for one in told["queries"] if one["ok"]]) == 84
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


def test_schema_files_are_those_that_editors_read(tmp_path: Path) -> None:
    """Each file of ours names the schema of its kind in its first line, and keeps to it."""
    done = tars_ga("schema", "--folder", tmp_path)
    assert done.returncode == 0, done.stderr
    made = digests(tmp_path)
    assert made.keys() >= {"schema.json", "schema/run.json", "schema/evidence_rollback.json"}
    kept = digests(ROOT / "parameters")
    remedy = "write them again: tars-ga schema --folder parameters"
    assert {name: kept.get(name) for name in made} == made, remedy
    named = set()
    for file in (ROOT / "parameters").rglob("*.yaml"):
        first, _ = file.read_text("utf-8").split("\n", 1)
        schema = file.parent / first.removeprefix("# yaml-language-server: $schema=")
        reference = json.loads(schema.read_text("utf-8"))["$ref"].removeprefix("../schema.json")
        validator = Draft202012Validator(parameters.schema() | {"$ref": reference})
        for document in yaml.load_all(file.read_text("utf-8"), yaml.BaseLoader):
            found = [e.message for e in validator.iter_errors(document) if e.validator in STRICT]
            assert not found, (file, found)
        named.add(schema.stem)
    assert named == set(parameters.MODELS)
    wrong = yaml.safe_load((ROOT / "parameters" / "criteria.yaml").read_text("utf-8"))
    wrong["criteria"]["availability"]["targt"] = 1
    reference = json.loads((tmp_path / "schema" / "criteria.json").read_text("utf-8"))["$ref"]
    validator = Draft202012Validator(
        parameters.schema() | {"$ref": reference.removeprefix("../schema.json")}
    )
    assert any("targt" in error.message for error in validator.iter_errors(wrong))


STRICT = {"additionalProperties", "required", "enum", "const"}
"""What a text of YAML without types can be held to."""


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


# --- Terminals ------------------------------------------------------------------------------------

ASCII = [
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
]


@pytest.mark.parametrize("env", ASCII, ids=["ascii", "C"])
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, "Certify a release"),
        (["preflight", DEMO], 2, "needs 'prometheus' (a URL)"),
        (["preflight", "Zürich…≥.yaml"], 2, "there is no such file"),
        (["validate", ROOT / "parameters" / "demo.yaml", "--dry-run"], 2, "error"),
        (["rules", DEMO], 0, "groups:"),
        (["schema"], 0, "$defs"),
        (["fields"], 0, "GENERATION_TIMESTAMP"),
        (["runn"], 2, "No such command"),
    ],
    ids=range(8),
)
def test_no_output_dies_of_the_terminals_encoding(
    env: dict[str, str], arguments: list[Any], code: int, said: str
) -> None:
    done = tars_ga(*arguments, env=env)
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr
    assert "Unicode" not in done.stderr


def test_what_a_terminal_cannot_print_is_printed_plainly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for encoding, wanted in [
        ("ascii", b"+ x >= 99.9 % - Zurich ?..."),
        ("utf-8", "✓ ✗ ≥\u00a099.9 % – Zürich 名…".encode()),
    ]:
        buffer = io.BytesIO()
        stream = io.TextIOWrapper(buffer, encoding=encoding)
        monkeypatch.setattr("sys.stdout", stream)
        console.print_what_the_terminal_can()
        console.out.print("✓ ✗ ≥\u00a099.9 % – Zürich 名…", end="")
        stream.flush()
        assert buffer.getvalue() == wanted


@pytest.mark.parametrize("columns", [40, 60, 100])
def test_tables_are_as_wide_as_the_terminal(columns: int) -> None:
    done = tars_ga("fields", env={"COLUMNS": str(columns)})
    assert max(map(len, done.stdout.splitlines())) <= columns
    program = (
        "from rich.table import Table\n"
        "from tars_ga_lib.cli.console import out\n"
        "table = Table('criterion', 'value', box=None)\n"
        "table.add_row('A criterion with a long name ' * 9, 'a value ' * 9)\n"
        "out.print(table)\n"
        "out.print('A sentence that is not broken. ' * 9)\n"
    )
    env = {k: v for k, v in os.environ.items() if k != "COLUMNS"}
    *table, sentence = subprocess.run(
        [sys.executable, "-c", program], env=env | {"COLUMNS": str(columns)},
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert max(map(len, table)) <= columns
    assert len(sentence) > 250


def test_no_color(tmp_path: Path) -> None:
    for env, coloured in [({}, True), ({"NO_COLOR": "1"}, False)]:
        done = tars_ga("preflight", tmp_path / "no.yaml", env={"FORCE_COLOR": "1"} | env)
        assert ("\x1b[31m" in done.stderr) is coloured


def test_as_a_module_and_with_tab_completion() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tars_ga_lib", "--version"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"tars-ga {__version__}\n"
    done = tars_ga(env={"_TARS_GA_COMPLETE": "source_bash"})
    assert "complete -o" in done.stdout
    done = tars_ga(
        env={"_TARS_GA_COMPLETE": "complete_bash", "COMP_WORDS": "tars-ga pre", "COMP_CWORD": "1"}
    )
    assert done.stdout.split() == ["preflight"]


def test_each_problem_is_a_line(tmp_path: Path) -> None:
    done = tars_ga("preflight", write_run(tmp_path, kpis="a.yaml", criteria="b.yaml"))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: {tmp_path / name}: there is no such file; check the name"
        for name in ("a.yaml", "b.yaml")
    ]
