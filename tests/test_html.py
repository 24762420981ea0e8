"""The HTML report in a real browser: one file that fetches nothing, runs nothing, and fits."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tars_ga_lib import report
from tars_ga_lib.display import Identity
from tars_ga_lib.tables import Column
from tests import executed, packages, wide
from tests.browsing import chromium
from tests.helpers import ROOT
from tests.test_report import (
    EVIL,
    LONG,
    assert_within_margins,
    banner,
    chart,
    code,
    notebook,
    sample,
    shown,
    squeezed,
    text_of,
)  # fmt: skip

SCRIPT = "<script>window.ran=1</script><img src=x onerror='window.ran=1'>"
NAMES = [SCRIPT, "поиск-и-индексация", "خدمة-البحث", "s" * 90]


@pytest.fixture(scope="module")
def harmful(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the notebook of a whole run whose names are meant to do harm."""
    folder = tmp_path_factory.mktemp("run") / "run"
    wide.write(folder, ["us-east-1", "eu-central-1", "שרת-ראשי"], NAMES, wide.FOUR_HOURS)
    packages.finish(folder)
    with pytest.MonkeyPatch.context() as patch:
        return executed.execute("05_certification", folder, patch)


@pytest.fixture(scope="module")
def page(harmful: Any) -> str:
    return report.to_html(harmful)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


def show(browser: Any, text: str, folder: Path, width: int = 1200, scheme: str = "light") -> None:
    file = folder / "report.html"
    file.write_text(text, encoding="utf-8")
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(file.as_uri())


# --- in the browser ---


def test_nothing_runs_nothing_is_fetched_and_the_console_is_silent(
    harmful: Any, browser: Any, tmp_path: Path
) -> None:
    show(browser, report.to_html(harmful, part="appendix"), tmp_path)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return window.ran") is None
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    shown = browser.find_element(By.TAG_NAME, "body").text
    for name in NAMES:
        assert name in shown
    # what the policy forbids even to a script that got in
    asked = """const done = arguments[0];
        fetch('http://127.0.0.1:9/').then(() => done('fetched'), () => done('refused'));"""
    assert browser.execute_async_script(asked) == "refused"
    said = " ".join(entry["message"] for entry in browser.get_log("browser"))
    assert "Content Security Policy" in said


@pytest.mark.parametrize("width", [360, 768, 1400])
def test_no_page_is_wider_than_the_screen(
    width: int, page: str, browser: Any, tmp_path: Path
) -> None:
    show(browser, page, tmp_path, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    # what is too wide scrolls by itself, and can be reached by the keyboard
    assert browser.execute_script("""
        return [...document.querySelectorAll('main *')].filter(e =>
          e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX === 'auto'
          && e.tabIndex !== 0).length""") == 0  # fmt: skip
    # and no text stands outside of the page, but in what scrolls
    assert browser.execute_script("""
        return [...document.querySelectorAll('main p, main h1, main h2, main dd, main figcaption')]
          .filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.textContent)
        """) == []  # fmt: skip


def test_all_pictures_are_there(page: str, browser: Any, tmp_path: Path) -> None:
    show(browser, page, tmp_path)
    sizes = browser.execute_script("""
        return [...document.querySelectorAll('main svg[role=img]')].map(e => {
          const box = e.getBoundingClientRect();
          return [e.getAttribute('aria-label'), box.width, box.height]; })""")
    assert len(sizes) >= 7
    for label, width, height in sizes:
        assert len(label) > 5
        assert width > 60
        assert height > 10
    # the glyphs of each chart are its own: none is empty because another's identifier won
    assert browser.execute_script("""
        return [...document.querySelectorAll('use')].filter(e => {
          const id = (e.getAttribute('xlink:href') || e.getAttribute('href')).slice(1);
          const found = document.querySelectorAll('[id="' + id + '"]');
          return found.length !== 1 || found[0].closest('svg') !== e.closest('svg');
        }).length""") == 0  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_themes(
    scheme: str, page: str, browser: Any, tmp_path: Path
) -> None:
    show(browser, page, tmp_path, scheme=scheme)
    contrasts = browser.execute_script("""
        const rgb = s => s.match(/[\\d.]+/g).map(Number);
        const lum = c => { const [r, g, b] = c.map(v => { v /= 255;
          return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
          return .2126 * r + .7152 * g + .0722 * b; };
        const ground = e => { for (; e; e = e.parentElement) {
          const c = rgb(getComputedStyle(e).backgroundColor);
          if (c.length < 4 || c[3] > 0) return c.slice(0, 3); } return [255, 255, 255]; };
        return [...document.querySelectorAll('main *, nav a')].filter(e =>
          !e.closest('svg') && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
          .map(e => { const a = lum(rgb(getComputedStyle(e).color).slice(0, 3)),
            b = lum(ground(e)); return (Math.max(a, b) + .05) / (Math.min(a, b) + .05); })""")
    assert len(contrasts) > 100
    assert min(contrasts) >= 4.5
    body = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (body == "rgb(255, 255, 255)") is (scheme == "light")


@pytest.mark.parametrize("part", ["report", "appendix"])
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (360, "dark")])
def test_axe_finds_nothing(
    part: Any, width: int, scheme: str, harmful: Any, browser: Any, tmp_path: Path
) -> None:
    show(browser, report.to_html(harmful, part=part), tmp_path, width, scheme)
    browser.execute_script((ROOT / "tests/node_modules/axe-core/axe.min.js").read_text("utf-8"))
    found = browser.execute_async_script(
        "const done = arguments[0]; axe.run().then(r => done(r.violations.map("
        "v => [v.id, v.nodes.slice(0, 3).map(n => n.html.slice(0, 200))])))"
    )
    assert found == []


def test_on_a_telephone_the_criteria_stand_before_the_code(
    page: str, browser: Any, tmp_path: Path
) -> None:
    show(browser, page, tmp_path, 360)
    tops = browser.execute_script("""
        return ['nav', '.decision', 'table', '.about .code'].map(
          s => document.querySelector(s).getBoundingClientRect().top + scrollY)""")
    assert tops == sorted(tops)
    assert browser.find_element(By.CSS_SELECTOR, ".decision .word").rect["y"] < 400
    assert browser.execute_script("return document.querySelector('nav').offsetHeight") < 80


def test_the_values_of_a_chart_are_below_it_and_where_the_pointer_is(page: str) -> None:
    assert page.count("<summary>Values") >= 6
    assert re.search(
        r"<rect [^>]*fill=.transparent.><title>from 2026-\d\d-\d\d \d\d:00 UTC\n", page
    )
    assert len(page.encode()) < 1_500_000


def test_the_first_key_leads_to_the_report(page: str, browser: Any, tmp_path: Path) -> None:
    show(browser, page, tmp_path)
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    skip = browser.switch_to.active_element
    assert skip.text == "Skip to the report"
    assert skip.rect["x"] >= 0
    for link in browser.find_elements(By.CSS_SELECTOR, "nav a, a.skip"):
        target = link.get_attribute("href").partition("#")[2]
        assert len(browser.find_elements(By.ID, target)) == 1


def test_it_prints_whole(page: str, browser: Any, tmp_path: Path) -> None:
    show(browser, page, tmp_path)
    made = browser.execute_cdp_cmd(
        "Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True}
    )
    pdf = base64.b64decode(made["data"])
    text = re.sub(r"\s", "", text_of(pdf, tmp_path, "-raw"))
    for cell in browser.find_elements(
        By.CSS_SELECTOR, "main td:not(details td), main h2, main figcaption"
    ):
        said = re.sub(r"\s", "", cell.get_attribute("textContent"))
        if said.isascii():
            assert said in text, said
    boxes = text_of(pdf, tmp_path, "-bbox")
    wide_page = float(re.findall(r'<page width="([\d.]+)"', boxes)[0])
    assert max(float(x) for x in re.findall(r'xMax="([\d.-]+)"', boxes)) <= wide_page - 20


def test_on_paper_nothing_needs_to_scroll(page: str, browser: Any, tmp_path: Path) -> None:
    show(browser, page, tmp_path, 690)  # A4 between its margins
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    hidden = browser.execute_script("""
        return [...document.querySelectorAll('main *')].filter(e =>
          !e.closest('svg') && e.getBoundingClientRect().right > innerWidth + 1)
          .map(e => e.outerHTML.slice(0, 80))""")
    # the long names of this run may ask for more than a page; charts and prose never do
    assert [text for text in hidden if not text.startswith(("<t", "<span", "<code"))] == []
    charts = browser.execute_script("""
        return [...document.querySelectorAll('.plot svg')].map(
          e => e.getBoundingClientRect().right - innerWidth)""")
    assert max(charts) <= 1
    assert browser.execute_script(
        "return getComputedStyle(document.querySelector('nav')).display"
    ) == ("none")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


def test_the_same_names_stay_on_the_pages_of_the_pdf(harmful: Any, tmp_path: Path) -> None:
    made = report.to_pdf(harmful, part="appendix")
    assert_within_margins(report.to_pdf(harmful), tmp_path)
    assert_within_margins(made, tmp_path)
    text = squeezed(text_of(made, tmp_path, "-raw"))
    for name in NAMES:  # from right to left, each word by itself
        word = name if name.isascii() else name.partition("-")[0]
        assert squeezed(word) in text or word[::-1] in text, name


# --- as a document ---


class Outline(HTMLParser):
    """Reads what a screen reader reads first: headings, landmarks, and what has no text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "action") and value:
                self.loads.append(value)
            if name == "id" and value:
                self.ids.append(value)
            assert not name.startswith("on"), f"{tag} has {name}"


def test_it_is_one_file_with_an_outline() -> None:
    text = report.to_html(sample())
    found = Outline(text)
    assert found.headings[0] == 1
    assert found.headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(found.headings, found.headings[1:], strict=False))
    assert {"main", "nav", "section", "figure", "caption", "thead"} <= set(found.tags)
    assert not {"script", "iframe", "object", "form", "base"} & set(found.tags)
    assert all(link.startswith(("#", "data:")) for link in found.loads), found.loads
    assert len(found.ids) == len(set(found.ids))
    assert "default-src 'none'" in text
    assert report.to_html(sample()) == text


def test_data_is_never_markup() -> None:
    for evil in [*EVIL, SCRIPT, LONG, "a\u202eb", "]]>", "</style><script>", '" onload="x']:
        text = report.to_html(
            notebook(
                code(banner(reason=evil, release=evil, proof=evil), Identity([(evil, evil)], evil)),
                code(shown([evil, Column(evil, "code")], [[evil, evil]], caption=evil, note=evil),
                     shown([evil], [], empty=evil),
                     chart().describe(evil, f"{evil}.", evil)),
            )
        )  # fmt: skip
        tags = Outline(text).tags
        assert "script" not in tags
        assert "img" not in tags
        assert tags.count("style") == 1


def test_a_picture_that_we_did_not_draw_stays_a_picture() -> None:
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><script>window.ran=1</script></svg>'
    shown = {"image/svg+xml": svg, "text/plain": "a foreign picture"}
    cell = code()
    cell.outputs = [{"output_type": "display_data", "data": shown, "metadata": {}}]
    found = Outline(text := report.to_html(notebook(cell)))
    assert "script" not in found.tags
    assert 'alt="a foreign picture"' in text
