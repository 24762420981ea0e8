"""Prose reads in the PDF and in the page as it was written, and nothing in it is code."""

import re
import shutil
import string
import subprocess
from pathlib import Path

import pytest
import typst

from tars_ga_lib.display import md_escape
from tars_ga_lib.report import prose

EVIL = [
    '#read("/etc/passwd")', "$x$ *bold* _it_ <tag> @ref `raw` ~", "] #panic() [", "#raw(1)",
    "// comment /* x */ = h - i + e", "https://x.example/#a?b=c", "1. one 2) two", "-- --- ...",
    "= heading", "+ item", "/ term: x", "\\u{41}", "a\\", "'q' \"q\"", "<script>alert(1)</script>",
    "[x](javascript:alert(1))", "{{ FIELD }}", string.punctuation,
]  # fmt: skip


def read(markup: str, folder: Path) -> str:
    """Return what a reader sees of Typst markup, without spaces."""
    if not shutil.which("pdftotext"):
        pytest.skip("pdftotext of poppler-utils is not installed")
    source = f"#let horizontalrule = line(length: 100%)\n\n{markup}\n"
    (folder / "p.pdf").write_bytes(typst.compile(source.encode()))
    done = subprocess.run(
        ["pdftotext", "-raw", str(folder / "p.pdf"), "-"], capture_output=True, check=True
    )
    return re.sub(r"\s", "", done.stdout.decode()).replace("\f", "")


@pytest.mark.parametrize("evil", EVIL)
def test_what_is_written_is_read_and_never_run(evil: str, tmp_path: Path) -> None:
    wanted = re.sub(r"\s", "", evil)
    texts = [md_escape(evil), f"- {md_escape(evil)}", f"`` {evil} ``", f"```x\n{evil}\n```"]
    texts += [f"**{md_escape(evil)}** x", f"| a |\n|---|\n| {md_escape(evil)} |"]
    for text, markup in zip(texts, prose.to_typst(texts), strict=True):
        assert wanted in read(markup, tmp_path), text
    for page in prose.to_html([evil, md_escape(evil)]):
        assert not re.search(r"<(script|tag)|href=.javascript", page)


def test_each_mark_of_markdown_is_set(tmp_path: Path) -> None:
    (markup,) = prose.to_typst(
        [
            "# T `c` *e*\n\nsoft\nbreak  \nhard [to T](#t-c-e) [out](https://x.example/a_b)\n\n"
            "3. three\n4. four\n   - inner\n\n     more\n\n> quoted\n\n---\n\n    code\n\n"
            "| a | b |\n|:--|--:|\n| 1 | ~~2~~ |\n"
        ]
    )
    for part in (
        '= T #raw("c") #emph[e]\n#label("t-c-e")', "soft break#linebreak()hard",
        '#link(label("t-c-e"))[to T]', '#link("https://x.example/a_b")[out]',
        "#enum(start: 3, tight: true, [three]", "#list(tight: false, [inner\n\nmore])",
        "#quote(block: true)[quoted]", "#horizontalrule", '#raw(block: true, "code")',
        "align: (left, right,)", "#strike[2]",
    ):  # fmt: skip
        assert part in markup, part
    assert "Tce" in read(markup, tmp_path)


def test_a_text_ends_what_it_opened_and_anchors_are_of_all_texts() -> None:
    first, second = prose.to_typst(["# A\n\n```\nopen", "# A\n\n*b*"])
    assert first.endswith('#raw(block: true, "open")')
    assert second == '= A\n#label("a-1")\n\n#emph[b]'
    assert [re.findall('id="(.*?)"', page) for page in prose.to_html(["# A", "# A b!"])] == [
        ["a"],
        ["a-b"],
    ]
