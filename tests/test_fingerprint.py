"""The fingerprint: what a decision rests on, and a reader can have it without our software."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import segno

from tars_ga_lib import fingerprint

FACTS: dict[str, Any] = {
    "release": {"name": "T.A.R.S. 名前", "version": "v1.0.1 \"'$x", "digest": None},
    "decision": "NOT CERTIFIED",
    "because": "Something.",
    "derived_from": {"recording": "sha256:" + "ab" * 32, "parameters": "sha256:" + "cd" * 32},
    "measured": {
        "validation": {"sha256": "sha256:" + "ef" * 32, "problem": None},
        "websocket": {"sha256": None, "problem": "no websocket results were given or measured"},
    },
}


def test_the_command_that_is_printed_gives_it(tmp_path: Path) -> None:
    (tmp_path / "certification_metadata.json").write_text(json.dumps(FACTS))
    done = subprocess.run(
        ["sh", "-c", fingerprint.COMMAND], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    mark = fingerprint.of(FACTS)
    assert re.fullmatch(r"([0-9a-f]{4}-){3}[0-9a-f]{4}", mark)
    assert done.stdout.startswith(mark.replace("-", ""))


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        (("release", "name"), True),
        (("release", "version"), True),
        (("decision",), True),
        (("derived_from", "recording"), True),
        (("derived_from", "parameters"), True),
        (("measured", "validation", "sha256"), True),
        (("because",), False),
    ],
)
def test_it_changes_with_each_of_its_facts(path: tuple[str, ...], changes: bool) -> None:
    other = copy.deepcopy(FACTS)
    holder = other
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] += "x"
    assert (fingerprint.of(other) != fingerprint.of(FACTS)) is changes


def test_the_code_is_drawn_with_all_its_modules() -> None:
    text = fingerprint.lines(FACTS)
    drawn = ElementTree.fromstring(fingerprint.qr_svg(text))
    matrix = segno.make(text, error="m", micro=False, boost_error=False).matrix
    dark = sum(module & 1 for row in matrix for module in row)
    _, lines = drawn
    assert sum(map(int, re.findall(r"h(\d+)", lines.attrib["d"]))) == dark
    # Four modules of white around it belong to the code.
    assert drawn.attrib["viewBox"] == f"0 0 {len(matrix) + 8} {len(matrix) + 8}"


def test_what_is_too_long_for_a_code_has_none() -> None:
    assert fingerprint.qr_svg("x" * 3000) == ""
