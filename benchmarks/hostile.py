"""Inputs of an enemy: how many were tried, refused in a sentence, or did no harm.

    python -m benchmarks.hostile [--budget 40]

Bytes of a small signed package's files are flipped, cut, repeated and exchanged for others that
have broken readers before (deep nesting, numbers beyond a double, control characters), by a fixed
seed. Each is read by the function that reads such a file from outside. An input is refused if that
raises the error which the command turns into one sentence, and survives if it is read without one.
Anything else is harm, and is listed with its error.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tars_ga_lib import measured, prometheus, strict
from tars_ga_lib.evidence import attestation, history, replay, tarball, verify
from tars_ga_lib.grammar import ParametersError, parse_yaml

SEED = 12
BUDGET = 40

TOKENS = (
    b"\x00", b"\xff\xfe", b"\x1b]0;x\x07", b"\xe2\x80\xae", b"\xef\xbf\xbe", b"NaN", b"1e999",
    b"-0", b"9" * 5000, b"[" * 5000, b"{" * 5000, b'{"a":' * 500, b"null", b"true", b"../" * 9,
    b"\\ud800", b"&a [*a]", b"!!python/object:x", b"\n---\n", b'"', b",", b"]]", b"}",
)  # fmt: skip
"""What is put among the bytes of a file."""

EXPECTED = (ParametersError, tarball.ArchiveError, prometheus.QueryError)


@dataclass
class Row:
    """What became of the inputs of one kind; `harm` has an error for each that did harm."""

    kind: str
    tried: int = 0
    refused: int = 0
    survived: int = 0
    harm: list[str] = field(default_factory=list)


def mutations(content: bytes, budget: int, rng: random.Random) -> list[bytes]:
    """Return so many changed forms of a file."""
    found = [b"", content * 2, content[:-1]]
    while len(found) < budget:
        changed = bytearray(content)
        for _ in range(rng.choice((1, 1, 2, 8))):
            at = rng.randrange(len(changed) + 1)
            kind = rng.randrange(4)
            if kind == 0 and at < len(changed):
                changed[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                changed[at : at + rng.choice((0, 1, 20))] = rng.choice(TOKENS)
            elif kind == 2:
                del changed[at : at + rng.choice((1, 4, 500))]
            else:
                changed[at:at] = changed[at : at + rng.choice((1, 9, 99))]
        found.append(bytes(changed))
    return found[:budget]


def _judge(row: Row, read: Callable[[bytes], object], content: bytes) -> None:
    row.tried += 1
    try:
        read(content)
    except EXPECTED as error:
        if "\x1b" in str(error) or "\u202e" in str(error):
            row.harm.append(f"a terminal would obey: {str(error)[:80]!r}")
        row.refused += 1
    except BaseException as error:
        row.harm.append(f"{type(error).__name__}: {str(error)[:80]}")
    else:
        row.survived += 1


def _answer() -> bytes:
    start = 1_795_132_800
    series = [
        {"metric": {"region": name}, "values": [[start + 300 * i, str(i)] for i in range(1, 4)]}
        for name in ("east", "west")
    ]
    data = {"resultType": "matrix", "result": series}
    return json.dumps({"status": "success", "data": data}, separators=(",", ":")).encode()


def _read_answer(content: bytes) -> object:
    start = 1_795_132_800
    try:
        found = prometheus._lay(prometheus._parse_any(content), start + 300, start + 900, 300)
        assert found.values.shape[1] == 3
        return found
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # as `Prometheus._call`
        raise prometheus.QueryError(str(error)) from None


def readers(run: Path, scratch: Path) -> Mapping[str, tuple[bytes, Callable[[bytes], object]]]:
    """Return, for each kind of input, a good one, and what reads it.

    Parameters
    ----------
    run
        Folder of a finished and packed run.
    scratch
        Empty folder.
    """

    def in_file(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
        def reading(content: bytes) -> object:
            (scratch / name).write_bytes(content)
            return read(scratch / name)

        return reading

    def whole(content: bytes) -> object:
        file = scratch / "p.tar.gz"
        file.write_bytes(content)
        found = verify.verify(file)
        if found.failures:
            raise ParametersError(str(found.failures[0]))
        return found

    def envelope(content: bytes) -> object:
        try:
            return attestation.read(content)
        except ValueError as error:
            raise ParametersError(str(error)) from None

    def strictly(content: bytes) -> object:
        try:
            return strict.loads(content)
        except ValueError as error:
            raise ParametersError(str(error)) from None

    def yaml_text(content: bytes) -> object:
        return parse_yaml(content.decode("utf-8", "replace"), "file.yaml")

    archive_file = run / "ga_certification_package.tar.gz"
    with verify.unpacked(archive_file) as package:
        signed = (package / "attestation.intoto.jsonl").read_bytes()
    results = Path("demo/measured")
    facts = json.dumps(history.facts(archive_file)).encode()
    return {
        "archive": (archive_file.read_bytes(), whole),
        "attestation": (signed, envelope),
        "recording.json": ((run / "recording" / "recording.json").read_bytes(), strictly),
        "facts of a release": (
            facts,
            in_file("facts.json", lambda f: history.tables(history.difference(
                history.facts(f), history.facts(f)
            ))),
        ),
        "validation results": (
            (results / "validation_results.json").read_bytes(),
            in_file("v.json", lambda file: measured.read(file, "validation")),
        ),
        "WebSocket results": (
            (results / "ws_health_metrics.json").read_bytes(),
            in_file("w.json", lambda file: measured.read(file, "websocket")),
        ),
        "YAML": ((run / "parameters" / "kpis.yaml").read_bytes(), yaml_text),
        "public key": (
            b'{"keytype":"ed25519","scheme":"ed25519","keyval":{"public":"' + b"a" * 64 + b'"}}',
            in_file("key.pub", attestation.load_key),
        ),
        "HTTP answer": (_answer(), _read_answer),
    }  # fmt: skip


def recordings(run: Path, budget: int, rng: random.Random) -> Row:
    """Try changed recordings; each is read by a child process with limits, as a replay does."""
    row = Row("Parquet and recording.json, in a child")
    for name in ("window.parquet", "recording.json"):
        file = run / "recording" / name
        good = file.read_bytes()
        for content in mutations(good, budget, rng):
            file.write_bytes(content)
            _judge(row, lambda _: replay.check_apart(run), content)
        file.write_bytes(good)
    return row


def table(run: Path, budget: int = BUDGET, *, children: int = 4) -> list[Row]:
    """Try `budget` inputs of each kind on a run, and `children` recordings of each file."""
    rng, rows = random.Random(SEED), []
    with tempfile.TemporaryDirectory() as scratch:
        for kind, (good, read) in readers(run, Path(scratch)).items():
            row = Row(kind)
            for content in mutations(good, budget, rng):
                _judge(row, read, content)
            rows.append(row)
    return [*rows, recordings(run, children, rng)]


def main() -> None:
    """Print the table."""
    from tests.packages import finished_run

    parser = argparse.ArgumentParser()
    parser.add_argument("--budget", type=int, default=BUDGET)
    parser.add_argument("--children", type=int, default=4)
    arguments = parser.parse_args()
    np.seterr(all="ignore")
    with tempfile.TemporaryDirectory() as folder:
        from tars_ga_lib.evidence import package as evidence

        run = finished_run(Path(folder) / "run")
        evidence.build(run)
        rows = table(run, arguments.budget, children=arguments.children)
    print("| input | tried | refused | survived | harm |\n| --- | --: | --: | --: | --: |")
    for row in rows:
        print(f"| {row.kind} | {row.tried} | {row.refused} | {row.survived} | {len(row.harm)} |")
        for text in sorted(set(row.harm)):
            print(f"    {text}")


if __name__ == "__main__":
    main()
