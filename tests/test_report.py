"""The exporters: a notebook becomes a PDF and Markdown, or an error, never half a report."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tars_ga_lib import charts, fingerprint, report
from tars_ga_lib.charts import Chart
from tars_ga_lib.display import Decision, Identity
from tars_ga_lib.report import prose
from tars_ga_lib.tables import Column, Shown, frame, show
from tests import executed

EVIL = [
    '#read("/etc/passwd")',
    "$x$ *bold* _it_ <tag> @ref `raw` ~",
    '"quotes" \\ back # $ < > [b] {c}',
    "] #panic() [",
    "// comment /* x */ = h - i + e",
    "שלום עולם",
    "مثال",
    "line\nbreak",
    'sum by (region) (increase(http_requests_total{job=~"x|y"}[5m]))',
]
PROOF = "tars-ga/fingerprint/1\nT.A.R.S. v1.0.1\nNOT CERTIFIED\n"
LONG = "x" * 30 + "_" + "y" * 200


def shown(*facts: Any, **more: Any) -> Shown:
    return show(frame(*facts, **more))


def code(*values: Any, tags: tuple[str, ...] = (), source: str = "show()") -> Any:
    return new_code_cell(
        source,
        execution_count=1,
        metadata={"tags": list(tags)},
        outputs=[
            item if isinstance(item, NotebookNode) else executed.output(item) for item in values
        ],
    )


def stream(name: str, text: str) -> Any:
    return new_output("stream", name=name, text=text)


def banner(**changes: Any) -> Decision:
    facts: dict[str, Any] = {
        "decision": "NOT CERTIFIED", "reason": "P99 latency was 512 ms, where < 500 ms is asked.",
        "release": "T.A.R.S. v1.0.1", "start": "2026-11-20T00:00:00Z",
        "end": "2026-11-21T00:00:00Z", "simulated": True, "proof": PROOF,
    }  # fmt: skip
    return Decision(**(facts | changes))


def identity() -> Identity:
    return Identity([("Build", "sha256:" + "0123456789abcdef" * 4), ("Coverage", "99.31 %")], PROOF)


def criteria() -> Shown:
    rows: list[list[Any]] = [
        ["Availability", "≥ 99.9 %", 0.99934, "ratio", 0.999, "pass"],
        ["Error rate", "< 0.1 %", 0.00099996, "ratio", 0.001, "pass"],
        ["P99 latency", "< 500 ms", 0.512, "s", 0.5, "fail"],
        ["WebSocket uptime", "≥ 99.9 %", None, "ratio", 0.999, "no_data"],
    ]
    columns: list[Column | str] = [
        "Criterion",
        "Target",
        Column("Measured", "number", unit_from="unit", limit_from="limit"),
        Column("Unit", hidden=True),
        Column("Limit", hidden=True),
        Column("Verdict", "verdict"),
    ]
    return shown(columns, rows, caption="Criteria", note="Shares are totals over totals.")


def chart(title: str = "Availability by region", caption: str = "Share of scrapes up.") -> Chart:
    ends = np.datetime64("2026-11-20T00:00", "s") + np.arange(1, 289) * np.timedelta64(300, "s")
    values = 1 - np.random.default_rng(1).exponential(2e-4, 288)
    values[100:110] = np.nan
    return charts.lines(
        ends, {"us-east-1": values}, title=title, name="availability", unit="ratio", caption=caption
    )


def sample() -> Any:
    cells = [
        code(source="import tars_ga_lib"),
        new_markdown_cell("# GA day report"),
        code(banner()),
        new_markdown_cell("## Criteria\n\nThe decision follows from *these*: `a < b`."),
        code(criteria(), identity()),
        new_markdown_cell("## Availability & errors\n\nSee [criteria](#criteria), 5 $ a day."),
        code(stream("stdout", "printed\n"), stream("stderr", "SECRET\n"), chart(),
             chart("Again", "")),
        new_markdown_cell("## Evidence\n\n| a | b |\n|---|--:|\n| c1 | 2 |\n\n> quoted\n\n"
                          "- item\n\n```promql\nsum(up)\n\n## not a part\n```"),
        code(shown(["Name", Column("Query", "code")], [[x, x] for x in [*EVIL, LONG]],
                   caption='Names # $ @ < " * \\')),
        code(shown(["a"], [], empty="No waivers were given.", caption="Waivers")),
        new_markdown_cell("# More", metadata={"tags": ["appendix"]}),
        code(shown(["Only there"], [["kept apart"]], caption="Rest"), tags=("appendix",)),
        code(shown(["hidden table"], [["hidden cell"]]), tags=("remove_cell",)),
    ]  # fmt: skip
    return new_notebook(cells=cells)


def notebook(*cells: Any, **metadata: Any) -> Any:
    return new_notebook(cells=list(cells), metadata=metadata)


@pytest.fixture(scope="module")
def pdf() -> bytes:
    return report.to_pdf(sample())


@pytest.fixture(scope="module")
def markdown() -> tuple[str, dict[str, bytes]]:
    return report.to_markdown(sample())


def run(tool: str, pdf: bytes, folder: Path, *arguments: str) -> str:
    if not shutil.which(tool):
        pytest.skip(f"{tool} of poppler-utils is not installed")
    path = folder / "report.pdf"
    path.write_bytes(pdf)
    done = subprocess.run([tool, *arguments, str(path), "-"][: -1 if tool == "pdfinfo" else None],
                          capture_output=True, check=True)  # fmt: skip
    return done.stdout.decode()


def text_of(pdf: bytes, folder: Path, *arguments: str) -> str:
    return run("pdftotext", pdf, folder, *arguments).replace("\u00a0", " ")


def squeezed(text: str) -> str:
    """Drop all space, and the marks of direction that pdftotext adds."""
    return re.sub(r"[\s\u200e\u200f\u202a-\u202e]", "", text)


# --- what is in it ---


def test_the_pdf_and_the_markdown_say_the_same(
    pdf: bytes, markdown: tuple[str, dict[str, bytes]], tmp_path: Path
) -> None:
    text = squeezed(text_of(pdf, tmp_path, "-raw"))
    other = squeezed(re.sub(r"\\(?=[^\w\s])", "", markdown[0]).replace("&lt;", "<"))
    for part in [
        "GA day report", "NOT CERTIFIED", "P99 latency was 512 ms, where < 500 ms is asked.",
        "Simulated data", "T.A.R.S. v1.0.1", "2026-11-20 00:00 – 2026-11-21 00:00 UTC", "99.31 %",
        "99.93 %", "0.099996 %", "512 ms", "NO DATA", "FAIL", "Criteria", "No waivers were given.",
        "Table 1. Criteria", "Table 2. Names", "Figure 1. Share of scrapes up.", "printed", "c1",
        "5 $ a day", "quoted", "sum(up)", "Shares are totals over totals.", LONG,
    ]:  # fmt: skip
        assert squeezed(part) in text, part
        assert squeezed(part) in other, part


def test_nothing_that_is_not_for_readers(
    pdf: bytes, markdown: tuple[str, dict[str, bytes]], tmp_path: Path
) -> None:
    for text in (text_of(pdf, tmp_path), markdown[0]):
        for part in ("import tars_ga_lib", "SECRET", "hidden", "show()", "Table: ", "nan", "None",
                     "kept apart"):  # fmt: skip
            assert part not in text


def test_the_appendix_holds_its_own_cells_under_the_same_banner(tmp_path: Path) -> None:
    for text in (
        text_of(report.to_pdf(sample(), part="appendix"), tmp_path),
        re.sub(r"<[^>]*>", "", report.to_html(sample(), part="appendix")).replace("\xa0", " "),
        report.to_markdown(sample(), part="appendix")[0].replace("\xa0", " "),
    ):
        for part in ("More", "NOT CERTIFIED", "kept apart", "Table A1. "):
            assert part in text
        assert text.index("More") < text.index("P99 latency was")
        assert "WebSocket uptime" not in text


def test_the_first_page_is_enough_to_decide(pdf: bytes, tmp_path: Path) -> None:
    first = squeezed(text_of(pdf, tmp_path, "-l", "1"))
    for part in ("NOT CERTIFIED", "P99 latency was 512 ms", "WebSocket uptime", "Contents:"):
        assert squeezed(part) in first


def test_each_later_page_names_release_window_decision_and_its_number(
    pdf: bytes, tmp_path: Path
) -> None:
    pages = text_of(pdf, tmp_path).split("\f")[:-1]
    assert len(pages) >= 2
    for number, page in enumerate(pages, 1):
        assert f"{number}/{len(pages)}" in squeezed(page)
        assert f"Fingerprint {fingerprint.short(PROOF)}" in page
        if number > 1:
            assert "T.A.R.S. v1.0.1 · 2026-11-20 00:00 – 2026-11-21 00:00 UTC" in page
            assert "SIMULATED DATA" in page
            assert "NOT CERTIFIED" in page


def test_the_pdf_is_tagged_dated_by_the_window_and_holds_alternative_texts(
    pdf: bytes, tmp_path: Path
) -> None:
    info = run("pdfinfo", pdf, tmp_path)
    assert re.search(r"Title:\s+GA day report – T.A.R.S. v1.0.1", info)
    assert re.search(r"Tagged:\s+yes", info)
    dated = subprocess.run(
        ["pdfinfo", "-isodates", str(tmp_path / "report.pdf")], capture_output=True, text=True
    ).stdout
    assert re.search(r"CreationDate:\s+2026-11-21T00:00:00", dated)
    structure = subprocess.run(
        ["pdfinfo", "-struct-text", str(tmp_path / "report.pdf")], capture_output=True, text=True
    ).stdout
    assert "Figure" in structure
    assert "TH" in structure
    assert b"pdfaid" in pdf
    assert b"pdfuaid" in pdf


def test_paper(pdf: bytes, tmp_path: Path) -> None:
    assert "(A4)" in run("pdfinfo", pdf, tmp_path)
    assert "(letter)" in run("pdfinfo", report.to_pdf(sample(), paper="us-letter"), tmp_path)


# --- data is never code ---


def test_data_reads_as_itself_in_the_pdf(pdf: bytes, tmp_path: Path) -> None:
    text = squeezed(text_of(pdf, tmp_path, "-raw"))
    for evil in EVIL:
        if evil.isascii():
            assert squeezed(evil.replace("\n", "↵")) in text, evil
    for letters in ("שלום", "مثال"):
        assert letters in text or letters[::-1] in text
    assert "root:" not in text


def test_data_is_not_markup_anywhere_else(tmp_path: Path) -> None:
    for evil in [*EVIL, "名前", "a\u202eb", "x" * 500, ""]:
        made = report.to_pdf(
            notebook(
                code(banner(reason=evil or "-", release=evil, proof=evil),
                     Identity([(evil, evil)], evil)),
                new_markdown_cell("## One\n\ntext\n\n## Two\n\ntext"),
                code(shown([evil, Column(evil, "number")], [[evil, evil]], caption=evil, note=evil),
                     shown([evil], [], empty=evil),
                     chart().describe(evil, evil + ".", evil)),
                code(stream("stdout", evil)),
            )
        )  # fmt: skip
        if evil:
            name = "‹U+540D›‹U+524D›" if evil == "名前" else evil
            name = name.replace("\n", "↵").replace("\u202e", "‹U+202E›")
            if not re.search("[\u0590-\u06ff]", name):
                assert squeezed(name) in squeezed(text_of(made, tmp_path, "-raw"))
        assert_within_margins(made, tmp_path)


def test_markdown_of_outputs_is_prose_but_not_typst() -> None:
    made = prose.to_typst(['a #read("/etc/passwd") $x $ @b <c> *d* [e]', "## f", "`#g`"])
    assert len(made) == 3
    assert "\\#read" in made[0]
    assert "\\@b" in made[0]
    assert "#emph[d]" in made[0]


def test_an_unclosed_fence_does_not_swallow_the_next_cells() -> None:
    made = prose.to_typst(["```\nopen", "second", "third"])
    assert len(made) == 3
    assert "second" not in made[0]
    assert [text.strip() for text in made[1:]] == ["second", "third"]


def test_prose_names_what_the_fonts_cannot_draw(tmp_path: Path) -> None:
    made = report.to_pdf(notebook(new_markdown_cell("# T\n\nof 名前")))
    assert "of ‹U+540D›‹U+524D›" in text_of(made, tmp_path)


# --- what is refused ---


def test_a_failed_notebook_makes_no_report() -> None:
    error = new_output("error", ename="ValueError", evalue="no samples", traceback=[])
    hidden = new_code_cell("x", execution_count=1, outputs=[error],
                           metadata={"tags": ["remove_cell"]})  # fmt: skip
    for make in (report.to_pdf, report.to_markdown):
        with pytest.raises(report.ReportError, match="cell 2 ended in ValueError: no samples"):
            make(notebook(new_markdown_cell("# R"), hidden))


def test_a_notebook_that_did_not_run_makes_no_report() -> None:
    with pytest.raises(report.ReportError, match="cell 1 was not run"):
        report.to_pdf(notebook(new_code_cell("show()")))
    with pytest.raises(report.ReportError, match="ended in an error"):
        report.to_pdf(notebook(code(), papermill={"exception": True}))
    report.to_pdf(notebook(new_code_cell("  \n")))


def test_what_cannot_be_set_is_an_error_of_one_kind() -> None:
    for text in ("![picture](nowhere.png)", "[link](#nowhere)"):
        with pytest.raises(report.ReportError, match="could not be set"):
            report.to_pdf(notebook(new_markdown_cell(f"# T\n\n{text}")))


def test_a_notebook_without_a_title_gets_one(tmp_path: Path) -> None:
    for text in ("text only", "## A part\n\nx", "```\n# a comment\n```"):
        made = report.to_pdf(notebook(new_markdown_cell(text)))
        assert text_of(made, tmp_path).startswith("Report")


# --- pages ---


def test_no_heading_is_left_alone_at_the_foot_of_a_page(tmp_path: Path) -> None:
    for lines in range(20, 60, 5):
        made = report.to_pdf(
            notebook(
                new_markdown_cell("# T\n\n" + "filler  \n" * lines),
                new_markdown_cell("## Part\n\nIntroduction of the part."),
                code(chart()),
                new_markdown_cell("### Section\n\nIntroduction of the section."),
                code(criteria()),
            )
        )
        pages = text_of(made, tmp_path).split("\f")
        (page,) = [page for page in pages if re.search("^Part$", page, re.MULTILINE)]
        assert "Share of scrapes up" in page
        (page,) = [page for page in pages if re.search("^Section$", page, re.MULTILINE)]
        assert "WebSocket uptime" in page


@pytest.mark.parametrize(("lines", "page"), [(10, 0), (46, 1)])
def test_a_part_starts_a_page_unless_a_quarter_of_one_is_free(
    lines: int, page: int, tmp_path: Path
) -> None:
    filler = "# T\n\n" + "filler  \n" * lines
    made = report.to_pdf(notebook(new_markdown_cell(filler), new_markdown_cell("## Part\n\nx")))
    assert "Part" in text_of(made, tmp_path).split("\f")[page]


def assert_within_margins(pdf: bytes, folder: Path) -> None:
    boxes = run("pdftotext", pdf, folder, "-bbox")
    page = float(re.findall(r'<page width="([\d.]+)"', boxes)[0])
    left = [float(x) for x in re.findall(r'xMin="([\d.-]+)"', boxes)]
    right = [float(x) for x in re.findall(r'xMax="([\d.-]+)"', boxes)]
    margin = 1.8 / 2.54 * 72
    assert min(left) >= margin - 1
    assert max(right) <= page - margin + 1


@pytest.mark.parametrize("columns", [1, 5, 9, 18])
@pytest.mark.parametrize("cell", ["12.35\u00a0%", "word word word word word", "W" * 60, LONG])
def test_no_table_runs_off_the_page(columns: int, cell: str, tmp_path: Path) -> None:
    heads = [Column(f"eu-central-{i} long", "number" if i % 2 else "code") for i in range(columns)]
    made = report.to_pdf(notebook(code(shown(heads, [[cell] * columns] * 3))))
    assert_within_margins(made, tmp_path)


def test_a_long_table_repeats_its_head(tmp_path: Path) -> None:
    rows = [[f"service-{i}", 0.5] for i in range(200)]
    made = report.to_pdf(notebook(code(shown(["Service", Column("P99", "number", "s")], rows))))
    pages = text_of(made, tmp_path, "-layout").split("\f")[:-1]
    assert len(pages) > 2
    assert all(re.search(r"Service\s+P99", page) for page in pages)
    assert sum(len(re.findall(r"service-\d+", page)) for page in pages) == 200


# --- markdown ---


def test_markdown_has_its_charts_beside_it(markdown: tuple[str, dict[str, bytes]]) -> None:
    text, files = markdown
    assert set(files) == {"charts/availability.svg", "charts/availability-2.svg"}
    for path, content in files.items():
        assert f"]({path})" in text
        assert content.startswith(b"<svg")
    assert re.search(r"!\[Line chart: Availability by region, 2026-11-20 00:00 [^\n]*lowest ", text)
    assert "Contents: [Criteria](#criteria) · [Availability & errors]" in text.replace("\\", "")
    assert "(#availability--errors)" in text
    assert "not a part](" not in text


def test_equal_headings_get_the_anchors_that_github_gives() -> None:
    text, _ = report.to_markdown(notebook(new_markdown_cell("# A\n\n## A\n\nx\n\n## A b!\n\n## A")))
    assert "[A](#a-1) · [A b!](#a-b) · [A](#a-2)" in text


# --- the same bytes ---


def test_the_same_bytes_everywhere(pdf: bytes, tmp_path: Path) -> None:
    assert report.to_pdf(sample()) == pdf
    nbformat.write(sample(), tmp_path / "n.ipynb")
    script = (
        "import hashlib, json; from tars_ga_lib import report; "
        "nb = json.load(open('n.ipynb')); "
        "print(hashlib.sha256(report.to_pdf(nb)).hexdigest(), "
        "hashlib.sha256(report.to_markdown(nb)[0].encode()).hexdigest())"
    )
    env = os.environ | {
        "TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "7", "HOME": str(tmp_path),
        "SOURCE_DATE_EPOCH": "77", "PYTHONPATH": str(Path(__file__).parents[1]),
    }  # fmt: skip
    there = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=env, text=True,
                           capture_output=True, check=True)  # fmt: skip
    text, _ = report.to_markdown(sample())
    assert there.stdout.split() == [
        hashlib.sha256(pdf).hexdigest(),
        hashlib.sha256(text.encode()).hexdigest(),
    ]


def test_the_date_never_comes_from_the_clock(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain = notebook(new_markdown_cell("# T"))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert b"1970" in report.to_pdf(plain)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    assert b"2001-09-09" in report.to_pdf(plain)
    assert b"2033-05-18" in report.to_pdf(plain, timestamp=2_000_000_000)


# --- nbconvert ---


def test_nbconvert_finds_and_runs_the_exporters(tmp_path: Path, pdf: bytes) -> None:
    nbformat.write(sample(), tmp_path / "GA_DAY_REPORT.ipynb")
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    for name in ("TypstPDFExporter", "MarkdownExporter", "HTMLExporter"):
        subprocess.run(
            [sys.executable, "-m", "nbconvert", "--to", f"tars_ga_lib.report.{name}",
             "GA_DAY_REPORT.ipynb"],
            cwd=tmp_path, env=env, check=True, capture_output=True,
        )  # fmt: skip
    assert (tmp_path / "GA_DAY_REPORT.pdf").read_bytes() == pdf
    assert "charts/availability.svg" in (tmp_path / "GA_DAY_REPORT.md").read_text()
    assert (tmp_path / "charts" / "availability.svg").read_bytes().startswith(b"<svg")
    assert (tmp_path / "GA_DAY_REPORT.html").read_text("utf-8") == report.to_html(sample())


def test_the_way_without_nbconvert_stays_light() -> None:
    code = (
        "import sys; from tars_ga_lib import report; "
        "report.to_pdf({'cells': [], 'metadata': {}}); "
        "print([m for m in ('nbconvert', 'matplotlib', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = report.Nothing
