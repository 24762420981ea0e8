"""Filling templates: every place of Markdown, every kind of value, and any text at all."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import nbconvert.filters
import pandas as pd
import pytest
import typer
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tars_ga_lib import fields
from tars_ga_lib.cli import fields as commands
from tars_ga_lib.fields.fill import fill, read_template
from tars_ga_lib.fields.values import FieldValue, Items
from tars_ga_lib.grammar import ParametersError
from tars_ga_lib.tables import Column, frame
from tests.helpers import ROOT, digests, tars_ga
from tests.test_fields import build, make_job, make_spans

NASTY = 'a|b *c* <d> `e` "f" [g](h) $i$ \\ _j_'
URL = "https://ci.example.com/run/1?a=b|c&d=(e) f"


def value(name: str, text: str, **changes: Any) -> FieldValue:
    return FieldValue(name, text, **{"value": text, "unit": "text", "source": "KPI x"} | changes)


def table(*rows: list[object]) -> pd.DataFrame:
    return frame(["Name", Column("Verdict", "verdict"), Column("Value", align="right")], rows)


VALUES = {
    "PLAIN": value("PLAIN", "12.5\xa0ms", value=0.0125, unit="s", number="12.5"),
    "NASTY": value("NASTY", NASTY),
    "TICKS": value("TICKS", "`` ` ```"),
    "URL": value("URL", URL),
    "SCRIPT": value("SCRIPT", "javascript:alert(1)"),
    "LINES": value("LINES", "one\ntwo"),
    "MARKED": value("MARKED", "{{PLAIN}}"),
    "GONE": FieldValue("GONE", "NO DATA", reason="no file was given", unit="text"),
    "INSERT_GONE": FieldValue("INSERT_GONE", "NO DATA", reason="no | file", unit="Markdown"),
    "INSERT_TABLE": value(
        "INSERT_TABLE", "east: PASS, 1; we|st: FAIL, 2", unit="Markdown",
        parts=(table(["east", "pass", "1"], ["we|st", "fail", "2"]),),
    ),
    "INSERT_LIST": value(
        "INSERT_LIST", "first *x*; second", unit="Markdown",
        parts=(Items(["first *x*", ("second", URL)]),),
    ),
}  # fmt: skip


def filled(template: str) -> str:
    return fill(template, VALUES).text


def rendered(markdown: str) -> str:
    """Return a text as a Markdown renderer sets it, in HTML."""
    return str(nbconvert.filters.markdown2html(markdown))


# --- each place -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("It took {{PLAIN}}.", "It took 12.5\xa0ms."),
        ("It took {{  PLAIN\t}}.", "It took 12.5\xa0ms."),
        ("{{PLAIN.number}} ms ({{PLAIN.source}})", "12.5 ms (KPI x)"),
        ("{{GONE}}: {{GONE.reason}} {{GONE.number}}", "NO DATA: no file was given NO DATA"),
        ("{{INSERT_LIST}}, told inline", "first \\*x\\*; second, told inline"),
        ("\\{{PLAIN}} stays", "\\{{PLAIN}} stays"),
        ("{{MARKED}}", "{{PLAIN}}"),
        ("`{{PLAIN}}`", "`12.5\xa0ms`"),
        ("`{{NASTY}}`", "``" + NASTY + "``"),
        ("`{{TICKS}}`", "```` `` ` ``` ````"),
        ("a ` b {{PLAIN}}", "a ` b 12.5\xa0ms"),
        ("[x](https://e.example/{{PLAIN}}?q={{NASTY}})", None),
        ("```\n{{NASTY}}\n```\n", "```\n" + NASTY + "\n```\n"),
        ("~~~\n{{INSERT_TABLE}}\n~~~\n", "~~~\neast: PASS, 1\nwe|st: FAIL, 2\n~~~\n"),
        ("```\n{{TICKS}}\n", "```\n`` ` ```\n"),
        ("    {{NASTY}}\n", "    " + NASTY + "\n"),
        ("{{INSERT_GONE}}\n", "NO DATA: no \\| file.\n"),
        ("x {{INSERT_GONE}}", "x NO DATA"),
        ("- a\n- {{INSERT_LIST}}\n- b\n", None),
        ("| a |\n| - |\n| {{INSERT_TABLE}} |\n",
         "| a |\n| - |\n| east: PASS, 1<br>we\\|st: FAIL, 2 |\n"),
        ("| a |\n| - |\n| `{{NASTY}}` |\n",
         "| a |\n| - |\n| ``" + NASTY.replace("|", "\\|") + "`` |\n"),
        ("| a | b |\r\n|---|---|\r\n{{INSERT_TABLE}}\r\n",
         "| a | b |\r\n|---|---|\r\n| east | ✓\xa0PASS · 1 |\r\n| we\\|st | ✗\xa0FAIL · 2 |\r\n"),
        ("| a | b | c | d |\n|---|---|---|---|\n{{INSERT_TABLE}}",
         "| a | b | c | d |\n|---|---|---|---|\n| east | ✓\xa0PASS | 1 |  |\n"
         "| we\\|st | ✗\xa0FAIL | 2 |  |"),
        ("| a | b |\n|---|---|\n{{INSERT_GONE}}\n", "| a | b |\n|---|---|\n| NO DATA |  |\n"),
        ("# H\n{{INSERT_LIST}}\nafter\n", None),
        ("<a href='{{SCRIPT}}' title='{{NASTY}}'>{{NASTY}}</a>", None),
        ("<!-- {{NASTY}} --> {{PLAIN}}", None),
    ],
)  # fmt: skip
def test_each_place(template: str, expected: str | None) -> None:
    found = filled(template)
    if expected is not None:
        assert found == expected
    assert "{{NASTY" not in found


def test_text_reads_as_itself() -> None:
    shown = rendered(filled("Before {{NASTY}} after, [{{NASTY}}](x), **{{PLAIN}}**."))
    text = html.unescape(re.sub(r"<[^>]+>", "", shown))
    assert text.count(NASTY) == 2
    assert "<strong>12.5\xa0ms</strong>" in shown


def test_code_reads_as_itself() -> None:
    for template in ("x `{{NASTY}}` y", "x `{{TICKS}}` y", "```\n{{NASTY}}\n```\n"):
        shown = rendered(filled(template))
        (code,) = re.findall(r"<code[^>]*>(.*?)\n?</code>", shown, re.S)
        assert html.unescape(code) in (NASTY, "`` ` ```")


def test_a_value_cannot_end_fenced_code() -> None:
    fence = value("FENCE", "```")
    found = fill("```\n{{FENCE}}\n{{PLAIN}}\n```\nafter", VALUES | {"FENCE": fence}).text
    assert rendered(found).count("<pre") == 1
    assert "12.5" in re.findall(r"<pre.*?</pre>", rendered(found), re.S)[0]


def test_tables_keep_their_columns() -> None:
    found = filled(
        "| a | b |\n|---|---|\n| {{NASTY}} | `{{NASTY}}` |\n"
        "| {{LINES}} | [x](https://e/{{NASTY}}) |\n"
    )
    shown = rendered(found)
    assert shown.count("<td") == 4
    text = html.unescape(re.sub(r"<[^>]+>", "", shown)).replace("\\|", "|")  # mistune keeps it
    assert text.count(NASTY) == 2


def test_links_lead_where_they_should() -> None:
    whole = filled("[run]({{URL}})")
    assert whole == "[run](https://ci.example.com/run/1?a=b%7Cc&d=%28e%29%20f)"
    part = filled('[run](https://e.example/x?q={{URL}}&r=1 "{{NASTY}}")')
    target = re.findall(r"\(([^ ]*) ", part)[0]
    assert unquote(target) == f"https://e.example/x?q={URL}&r=1"
    assert rendered(part).count("<a ") == 1
    assert filled("[x]({{SCRIPT}})") == "[x](javascript%3Aalert%281%29)"
    assert filled("<https://e.example/{{PLAIN}}>") == "<https://e.example/12.5%C2%A0ms>"
    assert filled("[x]: {{URL}}\n").startswith("[x]: https://ci.example.com/run/1?a=b%7Cc")
    assert filled("see [1]: {{NASTY}}") == filled("see [1]: ") + filled("{{NASTY}}")
    assert filled("https://e.example/{{NASTY}}/x").count("%") > 5
    assert filled("[x]({{GONE}})") == "[x](NO%20DATA)"


def test_html_stays_html() -> None:
    found = filled(
        '<div title="{{NASTY}}">\n<a href="{{SCRIPT}}">{{NASTY}}</a>\n{{INSERT_LIST}}\n</div>\n'
    )
    assert "<d>" not in found
    assert "javascript:" not in found
    assert found.count("<a ") == 1
    assert "first *x*<br>second" in found
    inline = filled('x <img src="{{URL}}" alt="{{NASTY}}"> y')
    assert "&quot;f&quot;" in inline
    assert 'src="https://ci.example.com/run/1?a=b%7Cc' in inline
    comment = filled("<!-- {{NASTY}} -->\n")
    assert comment.count(">") == 1


def test_front_matter_stays_yaml() -> None:
    template = (
        '---\ntitle: Report of {{NASTY}}\nlist:\n  - {{PLAIN}}\nquoted: "x {{NASTY}}"\n'
        "single: 'y {{NASTY}}'\nkept: 1\n---\n# {{PLAIN}}\n"
    )
    found = filled(template)
    front = yaml.safe_load(found.split("---\n")[1])
    assert front == {
        "title": f"Report of {NASTY}", "list": ["12.5\xa0ms"], "quoted": f"x {NASTY}",
        "single": f"y {NASTY}", "kept": 1,
    }  # fmt: skip


def test_blocks_stand_alone() -> None:
    found = filled(
        "# Head\n{{INSERT_TABLE}}\nafter\n\n> quoted\n> {{INSERT_LIST}}\n\n- {{INSERT_LIST}}\n"
    )
    assert "\n\n| Name | Verdict | Value |\n" in found
    assert "| we\\|st | **✗\xa0FAIL** | 2 |\n\nafter\n" in found
    assert "> quoted\n>\n> - first \\*x\\*\n> - [second](https://ci.example.com" in found
    assert "- - first \\*x\\*\n  - [second](" in found
    assert rendered(found).count("<table") == 1


def test_a_notice_stands_above_all_that_is_read() -> None:
    text = fill("---\nx: 1\n---\n# A\n", {}, "Simulated *data*").text
    assert text == "---\nx: 1\n---\n> ⚠ **Simulated \\*data\\***\n\n# A\n"


@pytest.mark.parametrize(
    ("mark", "text"),
    [
        ("{{NASTY|code}}", NASTY),
        ("{{ PLAIN | url }}", "12.5%C2%A0ms"),
        ("{{SCRIPT|url}}", "javascript%3Aalert%281%29"),
        ("{{PLAIN.number|html}}", "12.5"),
        ("{{INSERT_LIST|cell}}", None),
    ],
)
def test_a_filter_says_where_a_mark_stands(mark: str, text: str | None) -> None:
    found = fill(f"x {mark}", VALUES)
    assert not found.unknown
    assert found.text == f"x {text}" if text else "<br>" in found.text


@pytest.mark.parametrize(
    "inner",
    ["PLAIN.__class__", "PLAIN|attr('value')", "PLAIN|safe", "PLAIN|code(1)", "PLAIN.text", "7*7",
     "PLAIN['text']", "PLAIN()", "PLAIN ~ NASTY", "(" * 500 + "PLAIN", "PLAIN|upper", "PLAIN if 1",
     "'PLAIN'", "PLAIN|", "cycler.__init__.__globals__", "range(9**9)"],
)  # fmt: skip
def test_a_mark_is_a_field_and_no_program(inner: str) -> None:
    found = fill("a {{" + inner + "}} b", VALUES)
    assert found.text == "a NO DATA b"
    assert [mark.name for mark in found.unknown] == [inner.strip()]


# --- what was in it -------------------------------------------------------------------------------


def test_marks_are_listed_with_their_lines() -> None:
    found = fill(
        "{{PLAIN}}\n\n| a |\n|---|\n| {{GONE}} |\n\n```\n{{NOPE}}\n```\ntwo\nlines {{PLAN}}"
        " {{ plain }} {{PLAIN.colour}} {{}} {{ a | b }} {{INSERT_GONE}}\n",
        VALUES,
    )
    assert [(mark.line, mark.name) for mark in found.missing] == [(5, "GONE"), (11, "INSERT_GONE")]
    assert [(mark.line, mark.name, mark.near) for mark in found.unknown] == [
        (8, "NOPE", ""), (11, "PLAN", "PLAIN"), (11, "plain", "PLAIN"),
        (11, "PLAIN.colour", "PLAIN"), (11, "", ""), (11, "a | b", ""),
    ]  # fmt: skip
    assert found.text.count("NO DATA") == 8
    assert "{{" not in found.text


# --- any text -------------------------------------------------------------------------------------

MARKDOWN = st.text(
    alphabet=st.sampled_from("a1 \n\t\r|`~*_<>()[]{}#-:\"'\\!&$./=@%é中\u2028\x0b\ud800"),
    max_size=120,
)
PIECES = st.lists(
    st.one_of(
        MARKDOWN,
        st.sampled_from([f"{{{{{name}}}}}" for name in VALUES]),
        st.sampled_from(
            ["{{", "}}", "```", "`", "|---|---|\n", "| a | b |\n", "\n\n", "[x](", "<a href=", "> ",
             "- ", "    ", "---\n", "<!--", "https://e.example/", "{{NOPE}}", "<div>\n"]
        ),
    ),
    max_size=12,
).map("".join)  # fmt: skip


@settings(max_examples=300, deadline=None, derandomize=True)
@given(PIECES)
def test_no_template_makes_it_fail(template: str) -> None:
    found = fill(template, VALUES)
    for mark in found.marks:
        assert 1 <= mark.line <= template.count("\n") + template.count("\r") + 1


@settings(max_examples=300, deadline=None, derandomize=True)
@given(PIECES.map(lambda text: re.sub(r"\{\{[^{}\r\n]*\}\}", "", text)))
def test_text_without_marks_stays_as_it_is(template: str) -> None:
    if re.search(r"\{\{[^{}\r\n]*\}\}", template):
        return  # taking a mark out has made another
    found = fill(template, VALUES)
    assert found.text == template
    assert not found.marks


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.text(max_size=40), st.sampled_from(["{}", "| a |\n|---|\n| {} |\n", "x `{}` y", "[x]({})"])
)
def test_no_value_leaves_its_place(text: str, place: str) -> None:
    """Whatever a value holds, it adds no line, no cell and no element of HTML."""
    found = fill(place.format("{{X}}"), {"X": value("X", text)}).text
    assert found.count("\n") == place.count("\n")
    if text.strip() and place.startswith("|"):
        assert rendered(found).count("<td") == 1


def test_many_marks_are_read_in_time() -> None:
    """A pattern that could be read in two ways would take years for this."""
    for start in ("<a ", "[x](", "https://", "<!--", '[x](y "', "<a href="):
        text = start + "{{PLAIN}} (x " * 2000
        assert len(fill(text, VALUES).marks) == 2000


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fill")
    job = make_job(folder, "simulated=true")
    recording = replace(make_spans(job, {}), simulated=True)
    return build(folder / "run", job, recording).folder


def test_our_template_has_every_field_once(run: Path) -> None:
    text = read_template(ROOT / "parameters" / "templates" / "ga_day_report.md")
    found = fill(text, fields.values(run, {}))
    assert sorted(mark.name for mark in found.marks) == sorted(fields.FIELDS)
    assert not found.unknown
    assert "{{" not in found.text
    for section in {field.section for field in fields.FIELDS.values()} - {"Header"}:
        assert f"## {section}\n" in text


def test_the_command_fills(run: Path, tmp_path: Path) -> None:
    template, output = tmp_path / "template.md", tmp_path / "out.md"
    template.write_bytes(b"{{CERTIFICATION_STATUS}}\r\n{{GONE_FIELD}}\r\n{{WS_MAX_DOWNTIME}}\r\n")
    before = digests(run)
    result = tars_ga("fill", template, "--run", run, "-o", output)
    assert result.returncode == 0, result.stderr
    assert "3 marks: 1 filled, 1 NO DATA, 1 unknown" in result.stdout
    assert "line 2: no field is named 'GONE_FIELD'" in result.stderr
    assert "line 3: WS_MAX_DOWNTIME NO DATA: no websocket results" in result.stderr
    text = output.read_bytes().decode()
    assert text.startswith("> ⚠ **Simulated data")
    assert "(simulated data)\r\nNO DATA\r\nNO DATA\r\n" in text
    assert digests(run) == before
    output.write_text("earlier", encoding="utf-8")
    strict = tars_ga("fill", template, "--run", run, "-o", output, "--strict")
    assert strict.returncode == 3
    assert "Nothing was written" in strict.stderr
    assert output.read_text(encoding="utf-8") == "earlier"


def test_strict_lets_no_data_pass(run: Path, tmp_path: Path) -> None:
    template, output = tmp_path / "template.md", tmp_path / "out.md"
    template.write_text("{{WS_MAX_DOWNTIME}}", encoding="utf-8")
    commands.fill(template, run, output, strict=True)
    assert output.read_text(encoding="utf-8").endswith("NO DATA")


def test_strict_writes_nothing_where_a_mark_names_no_field(run: Path, tmp_path: Path) -> None:
    template, output = tmp_path / "template.md", tmp_path / "out.md"
    template.write_text("{{PEAK_RSP}}", encoding="utf-8")
    with pytest.raises(typer.Exit) as end:
        commands.fill(template, run, output, strict=True)
    assert end.value.exit_code == 3
    assert not output.exists()


def test_what_the_command_refuses(run: Path, tmp_path: Path) -> None:
    template = tmp_path / "template.md"
    template.write_text("{{PEAK_RPS}}", encoding="utf-8")
    bad = tmp_path / "bad.md"
    bad.write_bytes(b"\xff\xfe")
    for source, folder, output, said in [
        (template, run, template, "is the template itself"),
        (template, run, tmp_path, "is a folder"),
        (template, run, tmp_path / "no" / "x.md", "cannot be written"),
        (template, tmp_path, tmp_path / "x.md", "there is no run in it"),
        (tmp_path / "gone.md", run, tmp_path / "x.md", "check the name"),
        (bad, run, tmp_path / "x.md", "is not UTF-8"),
    ]:
        with pytest.raises(ParametersError, match=said):
            commands.fill(source, folder, output)
    assert template.read_text(encoding="utf-8") == "{{PEAK_RPS}}"
    assert not (tmp_path / "x.md").exists()


def test_the_registry_is_printed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = tars_ga("fields", env={"COLUMNS": "100"})
    assert listed.returncode == 0
    assert all(name in listed.stdout for name in fields.FIELDS)
    commands.fields(run, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == fields.FIELDS.keys()
    assert found["PEAK_RPS"]["value"] == pytest.approx(40.0)
    missing = tars_ga("fields", "--run", run, "--missing").stdout
    assert "WS_MAX_DOWNTIME" in missing
    assert "PEAK_RPS" not in missing
    with pytest.raises(ParametersError, match="--run DIR"):
        commands.fields(missing=True)


def test_the_end_of_the_report_says_what_is_filled(run: Path) -> None:
    from tars_ga_lib import views
    from tars_ga_lib.run import Run

    values = fields.values(run)
    filled_table, missing_table = views.field_table(values)
    missing = [each for each in values.values() if each.missing]
    assert len(filled_table) == len(values) - len(missing)
    told = [name for names in missing_table.fields for name in names.split(", ")]
    assert sorted(told) == sorted(each.name for each in missing)
    said = str(views.fields_summary(Run(run)).data)
    assert f"{len(filled_table)} of 185 fields" in said
    numbers = [int(n) for n in re.findall(r"(\d+) from", said)]
    assert sum(numbers) == len(filled_table)


def test_a_template_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ParametersError, match="check the name"):
        read_template(tmp_path / "gone.md")
