"""What an enemy may send: refused in a sentence, or harmless, and never more than that."""

from __future__ import annotations

import ast
import base64
import json
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tars_ga_lib import recompute, sanitise, strict
from tars_ga_lib.channels import Channels
from tars_ga_lib.evidence import attestation, replay, verify
from tars_ga_lib.evidence import package as evidence
from tars_ga_lib.grammar import ALLOWED_VARIABLES, ParametersError, check, parse_yaml
from tests import hostile
from tests.helpers import ROOT
from tests.packages import command, edit, finished_run

BUDGET = 30
"""Inputs of each kind; `python -m benchmarks.hostile` tries more."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = finished_run(tmp_path_factory.mktemp("hostile") / "run")
    evidence.build(folder)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def test_hostile_files_do_no_harm(run: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for kind, (good, read) in hostile.kinds(run, scratch).items():
        assert hostile.outcome(read, good) == "survived", kind
        with hostile.walls(tmp_path):
            assert hostile.tried(good, read, BUDGET)["refused"] > BUDGET / 2, kind


def test_hostile_answers_do_no_harm(tmp_path: Path) -> None:
    with hostile.served() as (port, read), hostile.walls(tmp_path, port):
        assert hostile.outcome(read, hostile.answer()) == "survived"
        assert hostile.tried(hostile.answer(), read, BUDGET)["refused"] > BUDGET / 2


def test_hostile_recordings_do_no_harm(run: Path) -> None:
    with hostile.recordings(run) as reader, hostile.walls(run):
        for name in ("recording.json", "window.parquet"):
            good = (run / "recording" / name).read_bytes()
            assert hostile.outcome(reader(name), good) == "survived"
            assert hostile.tried(good, reader(name), BUDGET)["refused"] > BUDGET / 2
            (run / "recording" / name).write_bytes(good)


def test_the_walls_hold(tmp_path: Path) -> None:
    def connects(_: bytes) -> None:
        socket.create_connection(("127.0.0.1", 9), timeout=1).close()

    def writes(_: bytes) -> None:
        (tmp_path.parent / "elsewhere").write_text("x")

    def starts(_: bytes) -> None:
        subprocess.run(["true"], check=True)

    def devours(_: bytes) -> None:
        bytes(2 << 30)

    for harm in (connects, writes, starts, devours):
        with pytest.raises((PermissionError, MemoryError)), hostile.walls(tmp_path):
            hostile.outcome(harm, b"")
        escapes, hostile._Walls.escapes = hostile._Walls.escapes, []
        assert bool(escapes) == (harm is not devours)


def test_json_is_read_in_one_place_only() -> None:
    """What is read strictly there would be read laxly elsewhere."""
    for file in (ROOT / "tars_ga_lib").rglob("*.py"):
        if file.name == "strict.py":
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            name = getattr(node, "attr", "")
            owner = getattr(getattr(node, "value", None), "id", "")
            assert (owner, name) not in {("json", "loads"), ("json", "load")}, file
            assert name not in {"JSONDecoder", "raw_decode", "model_validate_json"}, file
            assert not (isinstance(node, ast.ImportFrom) and node.module == "json"), file


@pytest.mark.parametrize("text", ["1e999", "-1e999", "NaN", "Infinity", "9" * 5000])
def test_a_figure_that_is_no_number_is_refused(text: str, run: Path) -> None:
    file = run / "ga_kpi_summary.json"
    found = json.loads(file.read_text("utf-8"))
    found["kpis"]["availability"]["overall"]["value"] = "HERE"
    file.write_text(json.dumps(found).replace('"HERE"', text), encoding="utf-8")
    with pytest.raises(Exception, match="is not sound JSON"):
        recompute.replay(run)
    # And if one came to be compared, it would differ.
    assert list(replay.differences(replay.Replay(tolerance=1.0), float("nan"), 1.0))
    assert list(replay.differences(replay.Replay(tolerance=1.0), float("inf"), 1.0))


@pytest.mark.parametrize(
    ("one", "other", "differs"),
    [
        (9.628281970177978e-22, 9.628281970183728e-22, False),  # of two kernels
        (9.6e-22, 9.7e-22, True),
        (5e-324, 0.0, False),  # below the smallest normal number
        (1e-300, 1e-280, True),
        (0.0499, 0.0501, True),
        (0.5, 0.5 + 1e-6, True),
    ],
)
def test_p_values_are_compared_by_their_logarithms(one: float, other: float, differs: bool) -> None:
    found = replay.Replay(tolerance=replay.TOLERANCE)
    assert bool(list(replay.differences(found, {"p_value": one}, {"p_value": other}))) is differs


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(decision="CERTIFIED WITH WAIVERS"),
        lambda d: d.update(because="All is well."),
        lambda d: d["criteria"][0].update(verdict="fail"),
        lambda d: d["criteria"][0].update(value=0.5),
    ],
)
def test_a_decision_that_does_not_follow_is_refused_without_a_replay(
    change: Callable[[Any], None], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(run / evidence.CERTIFICATION, change)
    done = command(capsys, "package", run)
    assert done.returncode == 2
    assert "run it again" in done.stderr
    evidence.build(run)
    assert evidence.CERTIFICATION in {failure.file for failure in verify.verify(run).failures}


def test_a_policy_can_be_demanded(run: Path) -> None:
    policy = verify.verify(run).policy
    folder = run / "parameters"
    for demanded in (policy, f"sha256:{policy}", str(folder), str(folder / "criteria.yaml")):
        found = verify.verify(run, policy=demanded)
        assert found.failures == []
        assert any("criteria that are demanded" in text for text in found.holds)
    mine = run.parent / "mine.yaml"
    mine.write_text((folder / "criteria.yaml").read_text("utf-8") + "\n", encoding="utf-8")
    for demanded in ("0" * 64, str(mine)):
        assert verify.verify(run, policy=demanded).exit_code == verify.REFUSED
    with pytest.raises(ParametersError, match="--policy"):
        verify.verify(run, policy="nothing")


LINE = {
    "payload": base64.b64encode(b"{}").decode(),
    "payloadType": attestation.PAYLOAD_TYPE,
    "signatures": [{"keyid": "k", "sig": "YQ=="}],
}


@pytest.mark.parametrize(
    "signatures",
    [
        [{"keyid": "k", "sig": "YQ==", "note": "anything"}],
        [{"keyid": "k", "sig": "YR=="}],  # the same bytes, other padding bits
        [{"keyid": 1, "sig": "YQ=="}],
        [{"sig": "YQ=="}],
        [{"keyid": "k", "sig": "YQ=="}] * 2,
        [{"sig": "YQ==", "keyid": "k"}],
    ],
)
def test_an_envelope_has_one_form(signatures: list[dict[str, Any]]) -> None:
    def line(document: dict[str, Any]) -> bytes:
        return json.dumps(document, separators=(",", ":")).encode() + b"\n"

    assert len(attestation.read(line(LINE))) == 1
    with pytest.raises(ValueError, match="envelope"):
        attestation.read(line(LINE | {"signatures": signatures}))


def test_an_ecdsa_signature_has_one_form(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, utils
    from securesystemslib.signer import CryptoSigner

    private = ec.generate_private_key(ec.SECP256R1())
    signer = CryptoSigner(private)
    key = signer.public_key
    for _ in range(4):  # half of all signatures are high before they are written
        (good,) = attestation.read(attestation.bundle([{"a": 1}], signer))
        assert attestation.signed_by(good, key)
        r, s = utils.decode_dss_signature(base64.b64decode(good.signatures[0]["sig"]))
        other = utils.encode_dss_signature(r, private.curve.group_order - s)
        changed = {**good.signatures[0], "sig": base64.b64encode(other).decode()}
        assert not attestation.signed_by(attestation.Envelope(good.payload, [changed]), key)


def test_a_file_names_no_variable_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = {"events": ["decision"], "apprise": {"url_env": "AWS_SECRET_ACCESS_KEY"}}
    with pytest.raises(ParametersError, match="begins with TARS_GA_"):
        check(Channels, {"channels": {"it": channel}}, "notify.yaml")
    monkeypatch.setenv(ALLOWED_VARIABLES, "OTHER,AWS_SECRET_ACCESS_KEY")
    assert check(Channels, {"channels": {"it": channel}}, "notify.yaml")


def test_texts_lose_what_harms() -> None:
    odd = "a\x1b]0;x\x07b\u202ec\ufffed\U0001fffee\ud800f\u2028g"
    clean = sanitise.text(odd)
    assert not set("\x1b\x07\u202e\ufffe\U0001fffe\ud800\u2028") & set(clean)
    assert "‹U+202E›" in clean
    assert sanitise.text(clean) == clean
    assert sanitise.text("é ☃ 日本 😀 \t\n") == "é ☃ 日本 😀 \t\n"
    environ = {"TARS_GA_BEARER_TOKEN": "hunter2/x", "TARS_GA_SIGNING_KEY": "release-board"}
    hidden = sanitise.secrets(environ)
    for form in ("hunter2/x", "hunter2%2Fx", base64.b64encode(b"hunter2/x").decode()):
        assert sanitise.text(f"<{form}>", hidden) == "<…>"
    assert sanitise.text("release-board", hidden) == "release-board"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("[" * 50_000 + "]" * 50_000, "nested too deeply"),
        ("a: " + "9" * 4000, "too large"),
        ("a: !x 1", "asks for more than data"),
        ("a: *b", "recursive or names nothing"),
    ],
)
def test_yaml_that_breaks_its_reader_is_refused(text: str, said: str) -> None:
    with pytest.raises(ParametersError, match=said):
        parse_yaml(text, "file.yaml")
    assert parse_yaml('{"a\\e": "b\\u202e"}', "file.yaml") == {"a‹U+001B›": "b‹U+202E›"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "a": 2}', "twice"),
        ("[" * 100 + "]" * 100, "deeply"),
        ("[" * 99_999, "deeply"),
        ('"\\ud800"', "half of a character"),
        (b"\xff", "UTF-8"),
        ("1" * 401, "too large"),
    ],
)
def test_json_is_read_strictly(text: str | bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        strict.loads(text)


@pytest.mark.parametrize("name", ["../../../etc/passwd", "window/../x", "baseline_0", "window\n"])
def test_a_span_names_no_file_elsewhere(name: str, run: Path) -> None:
    from tars_ga_lib import recording

    file = run / "recording" / "recording.json"
    facts = json.loads(file.read_text("utf-8"))
    facts["spans"][0]["name"] = name
    facts.pop("digest")
    facts["digest"] = recording._digest_of_facts(facts)
    file.write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(ParametersError, match=r"spans\.0\.name"):
        recording.load(run)
