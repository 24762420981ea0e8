"""What a pipeline shows of a decision: the criteria as JUnit XML, and a summary in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from tars_ga_lib.display import CHIPS, clean, md_escape
from tars_ga_lib.wording import criteria_rows, limit_text, value_text, why

Facts = Mapping[str, Any]


def junit(certification: Facts) -> bytes:
    """Write the criteria as JUnit XML, the content of `certification_metadata.json` given.

    A criterion that fails is a failure, and one without data an error, for what is not known is not
    passed. A waived failure, and an optional criterion without data, are skipped, with the reason.
    """
    suite = ElementTree.Element("testsuite", name="certification")
    counts = {"failures": 0, "errors": 0, "skipped": 0}
    suite.set("tests", str(len(certification["criteria"])))
    suite.set("timestamp", certification["window"]["end"].removesuffix("Z"))
    for outcome in certification["criteria"]:
        case = ElementTree.SubElement(suite, "testcase", classname="criteria", name=outcome["name"])
        tag, text = _result(outcome)
        if tag:
            counts["errors" if tag == "error" else "failures" if tag == "failure" else tag] += 1
            ElementTree.SubElement(case, tag, message=clean(text))
        else:
            ElementTree.SubElement(case, "system-out").text = clean(text)
    for key, number in counts.items():
        suite.set(key, str(number))
    root = ElementTree.Element("testsuites", name=clean(certification["decision"]))
    root.append(suite)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f"<?xml version='1.0' encoding='utf-8'?>\n{text}\n".encode()


def _result(outcome: Facts) -> tuple[str, str]:
    """Return the element of a criterion's test case, and what it says."""
    limit = limit_text(outcome["target"], outcome["unit"])
    text = f"{outcome['title']}: {value_text(outcome)}, target {limit}"
    if outcome["reason"]:
        text += f": {outcome['reason']}"
    if waiver := outcome["waiver"]:
        return "skipped", f"{text}; waived by {waiver['who']} until {waiver['until']}"
    if outcome["verdict"] == "fail":
        return "failure", text
    if outcome["verdict"] == "no_data":
        return ("error" if outcome["mandatory"] else "skipped"), text
    return "", f"{text}: {outcome['verdict']}"


def summary(certification: Facts) -> str:
    """Write a decision with its criteria in Markdown, as GitHub shows it for a step."""
    release = certification["release"]
    name = md_escape(f"{release['name']} {release['version']}")
    lines = [f"## {name}: {certification['decision']}", "", md_escape(why(certification)), ""]
    if certification["simulated"]:
        lines += ["The data is **simulated**: this certifies nothing real.", ""]
    lines += ["| Verdict | Criterion | Value | Target |", "| --- | --- | ---: | ---: |"]
    for row in criteria_rows(certification["criteria"]):
        chip = CHIPS["waived" if row.waived else row.verdict].text
        cells = [chip, *map(md_escape, (row.name, row.value, row.target))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])
