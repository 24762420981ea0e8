"""JSON read strictly: what is read says one thing only, and cannot break its reader.

No NaN and no infinity (RFC 8259 has none), no number beyond a double's range, no key twice, no
half of a character, UTF-8 only, and no deeper nesting than any file of ours has.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

DEEPEST = 64
"""Levels of nesting that are read; our own files have ten."""

_HALF = re.compile("[\ud800-\udfff]")
_MOST_DIGITS = 400
_SHOWN = 40


def loads(content: bytes | str) -> Any:
    """Parse JSON.

    Raises
    ------
    ValueError
        If it is not sound JSON; the text says why, in a few words.
    """
    if isinstance(content, bytes):
        try:
            content = content.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError("it is not UTF-8 text") from None
    try:
        document = json.loads(
            content,
            object_pairs_hook=_pairs,
            parse_float=_finite,
            parse_int=_integer,
            parse_constant=_finite,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    layer = [document]
    for _ in range(DEEPEST):
        if "\\u" in content and not all(map(_whole, layer)):  # only an escape can say half of one
            raise ValueError("a text holds half of a character")
        layer = [inner for value in layer for inner in _inside(value)]
        if not layer:
            return document
    raise ValueError("it is nested too deeply")


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else []


def _whole(value: Any) -> bool:
    return not isinstance(value, str) or not _HALF.search(value)


def _pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(items)
    if len(found) < len(items):
        raise ValueError("a key is there twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:_SHOWN]} is not finite")
    return value


def _integer(text: str) -> int:
    if len(text) > _MOST_DIGITS or not math.isfinite(float(text)):
        raise ValueError(f"the number {text[:_SHOWN]}… is too large")
    return int(text)
