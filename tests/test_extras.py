"""What is not installed is NO DATA with that cause, or one sentence that says how to install it."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from tars_ga_lib import extras
from tests.helpers import ROOT

RELEASE = {"name": "T.A.R.S.", "version": "v1.0.1"}


def without(packages: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `tars-ga` and all that it starts as if some packages were not installed."""
    (folder / "sitecustomize.py").write_text(
        f"import sys\nfor name in {packages.split()!r}:\n    sys.modules[name] = None\n"
    )
    command = "from tars_ga_lib.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", command, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "TARS_GA_DSN": "host=x"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def parameters(folder: Path, **more: str) -> Path:
    """Write the demo's parameters with stores, endpoints and channels that nobody listens on."""
    raw = yaml.safe_load((ROOT / "parameters" / "demo.yaml").read_text())
    for key in ("kpis", "drift_rules", "criteria", "slos"):
        raw[key] = str(ROOT / "parameters" / raw[key])
    raw["source"] = {"recording": str(ROOT / "demo" / "recording")}
    raw["evidence"] = {}
    raw["measured"] = {}
    raw.pop("waivers", None)
    raw.pop("previous", None)
    files = {
        "validation": {
            "deadline": "10s",
            "postgres": {
                "primary": {"region": "us-east-1", "dsn_env": "TARS_GA_DSN"},
                "replicas": [{"region": "us-west-2", "host": "127.0.0.1", "port": 1,
                              "dbname": "x", "user": "x"}],
            },
            "redis": {
                "primary": {"region": "us-east-1", "host": "127.0.0.1", "port": 1},
                "replicas": [{"region": "us-west-2", "host": "127.0.0.1", "port": 1}],
            },
        },
        "websocket": {"endpoints": {"us-east-1": "ws://127.0.0.1:1"}, "duration": "10m"},
        "notify": {
            "channels": {"board": {"email": {"url_env": "TARS_GA_MAIL"}, "events": ["decision"]}}
        },
    }  # fmt: skip
    for name, content in files.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
        raw[name] = f"{name}.yaml"
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump(raw | more))
    return file


def test_the_table_is_that_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for package, extra in extras.EXTRAS.items():
        wanted = package.replace("_", "-")
        names = {re.split(r"[\[>]", each)[0] for each in project["optional-dependencies"][extra]}
        assert wanted in names
        assert not any(each.startswith(wanted) for each in project["dependencies"])


@pytest.mark.parametrize("packages", ["psycopg redis", "pytest"])
def test_a_check_whose_driver_is_missing_has_no_data(packages: str, tmp_path: Path) -> None:
    file = parameters(tmp_path)
    done = without(packages, tmp_path, "validate", str(file), "--output", str(tmp_path / "v"))
    assert done.returncode == 4, done.stderr
    results = json.loads((tmp_path / "v" / "validation_results.json").read_text())
    assert not results["counts"]["pass"]
    made = [c for c in results["checks"] if c["target"] != "not configured"]
    needed = {"postgres": "psycopg", "redis": "redis"} if packages != "pytest" else {}
    stores = [c for c in made if c["id"].startswith(("postgres.", "redis."))]
    assert {check["id"].partition(".")[0] for check in stores} == {"postgres", "redis"}
    for check in stores:
        package = needed.get(check["id"].partition(".")[0], "pytest")
        assert (check["verdict"], check["cause"]) == ("no_data", "not_configured")
        assert check["reason"] == extras._sentence(package)


def test_sessions_without_the_library_are_no_data_at_once(tmp_path: Path) -> None:
    file = parameters(tmp_path)
    output = tmp_path / "ws.json"
    done = without("websockets", tmp_path, "websocket", str(file), "--output", str(output))
    assert done.returncode == 4, done.stderr
    results = json.loads(output.read_text())
    assert results["verdict"] == "no_data"
    assert results["complete"] is False
    (endpoint,) = results["endpoints"]
    assert endpoint["uptime"] is None
    assert {limit["reason"] for limit in endpoint["limits"]} == {extras._sentence("websockets")}


def test_commands_that_need_more_say_what_in_one_sentence(tmp_path: Path) -> None:
    file = str(parameters(tmp_path))
    key = tmp_path / "board"
    for packages, arguments in (
        ("cryptography", ["keygen", str(key)]),
        ("securesystemslib", ["keygen", str(key)]),
        ("cryptography securesystemslib", ["run", file, "--sign", str(key)]),
        ("securesystemslib", ["verify", str(tmp_path), "--key", file]),
        ("apprise", ["notify", file]),
        ("apprise", ["run", file, "--notify"]),
        ("pytest", ["validate", file, "--dry-run"]),
    ):
        done = without(packages, tmp_path, *arguments)
        text = " ".join((done.stdout + done.stderr).split())
        assert done.returncode == 2, text
        assert any(extras._sentence(name) in text for name in packages.split()), text
        assert "Traceback" not in text
    assert not key.exists()
    assert not (tmp_path / "outputs").exists()


def test_the_wheel_holds_notebooks_and_default_parameters(tmp_path: Path) -> None:
    code = (
        "import sys; from hatchling.build import build_wheel; "
        "sys.stdout.write(build_wheel(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, text=True, check=True,
        capture_output=True, timeout=120,
    )  # fmt: skip
    wheel = tmp_path / done.stdout.strip().splitlines()[-1]
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(tmp_path / "site")
    for name in ("notebooks", "parameters"):
        inside = tmp_path / "site" / "tars_ga_lib" / "shipped" / name
        wanted = {f.relative_to(ROOT / name) for f in (ROOT / name).rglob("*") if f.is_file()}
        wanted = {f for f in wanted if ".ipynb_checkpoints" not in f.parts}
        assert {f.relative_to(inside) for f in inside.rglob("*") if f.is_file()} == wanted
    asked = (
        "from tars_ga_lib.grammar import shipped; from tars_ga_lib import parameters; "
        "import math; print(parameters.load(shipped('parameters') / 'ga_day.yaml', now=math.inf)"
        ".parameters.release.version)"
    )
    there = subprocess.run(
        [sys.executable, "-c", asked], cwd=tmp_path, check=True, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")}, timeout=60,
    )  # fmt: skip
    assert there.stdout.strip() == "v1.0.1"
