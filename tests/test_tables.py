"""Tables: plain values in a DataFrame, and how they read in HTML, Markdown and JSON."""

import json
import math
import subprocess
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pypandoc
import pytest

from tars_ga_lib.tables import (
    TABLE_MIME,
    Column,
    as_html,
    as_markdown,
    frame,
    show,
    written,
)
from tests.test_display import NASTY, plain


def test_markdown_cells_read_as_themselves() -> None:
    table = frame(["a", Column("b", "code")], [[text, text] for text in NASTY])
    markdown = as_markdown(written(table))
    made = subprocess.run(
        [pypandoc.get_pandoc_path(), "--from=gfm-emoji", "--to=json"],
        input=markdown.encode(), capture_output=True, check=True,
    ).stdout  # fmt: skip
    (block,) = json.loads(made)["blocks"]
    assert block["t"] == "Table"
    bodies = block["c"][4][0][3]
    for row, text in zip(bodies, NASTY, strict=True):
        for cell in row[1]:
            assert inline_text(cell[4][0]["c"]) == text
            assert not {"Link", "Image", "Math", "RawInline", "Note"} & kinds(cell[4])


def inline_text(inlines: list[dict[str, Any]]) -> str:
    found = []
    for inline in inlines:
        if inline["t"] in ("Space", "SoftBreak"):
            found.append(" ")
        else:
            content = inline["c"]
            found.append(content if isinstance(content, str) else content[1])
    return "".join(found)


def kinds(tree: Any) -> set[str]:
    if isinstance(tree, dict):
        return {tree.get("t", "")} | kinds(list(tree.values()))
    return set().union(*map(kinds, tree)) if isinstance(tree, list) else set()


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def mixed() -> pd.DataFrame:
    return frame(
        [
            "Name",
            Column("P99", "number", "s"),
            Column("Verdict", "verdict"),
            Column("When", unit="time"),
            Column("Took", unit="duration"),
        ],
        [
            ["api", 0.25, "pass", NOON, 90.0],
            ["db", None, None, None, None],
            ["x", math.nan, "fail", None, 0],
            ["y", np.float64(0.5), "warn", NOON, 3600],
        ],
    )


def test_a_table_holds_values_and_says_what_is_missing() -> None:
    table = mixed()
    assert list(table.columns) == ["name", "p99", "verdict", "when", "took"]
    assert table.p99.sum() == 0.75
    assert table.when.max() == NOON
    facts = written(table)
    assert [[plain(cell) for cell in row] for row in facts["rows"]] == [
        ["api", "250 ms", "pass", "2026-01-01 12:00 UTC", "1 min 30 s"],
        ["db", "NO DATA", "no_data", "NO DATA", "NO DATA"],
        ["x", "NO DATA", "fail", "NO DATA", "0 s"],
        ["y", "500 ms", "warn", "2026-01-01 12:00 UTC", "1 h"],
    ]
    bundle = show(table)._repr_mimebundle_()
    assert set(bundle) == {TABLE_MIME, "text/markdown", "text/plain"}
    # a report written from the notebook's file says the same
    assert json.loads(json.dumps(bundle, allow_nan=False))[TABLE_MIME] == facts
    for face in (as_html(facts), bundle["text/markdown"]):
        assert "nan" not in face.lower()
        assert "✗" in face
        assert "FAIL" in face


def test_rows_that_a_reader_chose_read_as_before() -> None:
    table = mixed()
    chosen = table[table.p99 > 0.3].sort_values("p99")
    assert written(chosen)["rows"] == [written(table)["rows"][3]]
    fewer = table[["verdict", "name"]]
    assert [column["title"] for column in written(fewer)["columns"]] == ["Verdict", "Name"]


def test_any_data_frame_can_be_shown() -> None:
    facts = written(pd.DataFrame({"request_rate": [1.5, math.nan], "zone": ["a", None]}))
    assert [column["title"] for column in facts["columns"]] == ["Request rate", "Zone"]
    assert [column["align"] for column in facts["columns"]] == ["right", "left"]
    assert facts["rows"] == [["1.5", "a"], ["NO DATA", "NO DATA"]]


def test_each_row_may_have_its_own_unit_and_no_figure_is_rounded_across_its_limit() -> None:
    columns = [
        Column("Value", unit_from="unit", limit_from="limit"),
        Column("Unit", hidden=True),
        Column("Limit", hidden=True),
    ]
    table = frame(
        columns, [[0.00099996, "ratio", 0.001], [0.4999999, "s", 0.5], [True, "bool", 1.0]]
    )
    assert [[plain(cell) for cell in row] for row in written(table)["rows"]] == [
        ["0.099996 %"], ["499.9999 ms"], ["yes"],
    ]  # fmt: skip
    assert list(table.columns) == ["value", "unit", "limit"]


def test_a_table_refuses_what_it_cannot_show_truly() -> None:
    with pytest.raises(ValueError, match="unknown verdict 'ok'"):
        frame([Column("v", "verdict")], [["ok"]])
    with pytest.raises(ValueError, match="needs 2 cells"):
        frame(["a", "b"], [["x"]])
    with pytest.raises(ValueError, match="needs 2 cells"):
        frame(["a", "b"], ["xy"])


def test_an_empty_table_is_a_sentence() -> None:
    facts = written(frame(["a"], [], caption="Waivers", empty="No waivers."))
    assert as_markdown(facts) == "**Waivers**\n\nNo waivers."
    assert "No waivers." in as_html(facts)
    assert "<table" not in as_html(facts)


def test_a_table_says_that_it_left_rows_out() -> None:
    table = frame(["a"], [[str(i)] for i in range(10)], most=4, rest="All are in x.json.")
    assert len(table) == 10  # and loses none
    facts = written(table)
    assert len(facts["rows"]) == 4
    assert facts["note"] == "4 of 10 rows are shown. All are in x.json."
    assert facts["note"] in as_markdown(facts).replace("\\", "")


def test_a_column_that_says_nothing_is_left_out_only_if_it_may_be() -> None:
    columns: list[Column | str] = ["A", Column("Note", optional=True), Column("B")]

    def titles(*rows: list[Any]) -> list[str]:
        return [column["title"] for column in written(frame(columns, rows))["columns"]]

    assert titles(["a", "", ""]) == ["A", "B"]
    assert titles(["a", "", ""], ["b", "x", ""]) == ["A", "Note", "B"]
    assert titles(["a", None, ""]) == ["A", "Note", "B"]  # NO DATA says something


def test_there_is_room_for_a_pen_where_nothing_is_written() -> None:
    table = frame([Column("Name", "blank")], [["A. One"], [""]])
    assert plain(as_markdown(written(table))).splitlines()[-2:] == [
        "| A. One |",
        "| " + "\\_" * 12 + " |",
    ]
