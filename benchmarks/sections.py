"""The marked sections of README.md that the benchmarks write their figures into."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

README = Path(__file__).resolve().parent / "README.md"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write(name: str, text: str) -> None:
    """Put a text between its section's marks, or behind all others."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    body = f"{begin}\n{text.strip()}\n{end}"
    page = README.read_text(encoding="utf-8") if README.exists() else "# Benchmarks\n"
    marked = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if marked.search(page):
        page = marked.sub(lambda _: body, page)
    else:
        page = f"{page.rstrip()}\n\n{body}\n"
    README.write_text(page, encoding="utf-8")
