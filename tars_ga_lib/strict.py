"""JSON read strictly: what is read says one thing only, and cannot break its reader.

No NaN and no infinity (RFC 8259 has none), no number beyond a double's range, no key twice, no
half of a character, UTF-8 only, and no deeper nesting than any file of ours has.
"""

from __future__ import annotations

import json
import math
from typing import Any

DEEPEST = 64
"""Levels of nesting that are read; our own files have ten."""

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
    _check_depth(document)
    if "\\u" in content:  # only an escape can say half of a character
        _check_texts(document)
    return document


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


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _check_depth(document: Any) -> None:
    layer = [document]
    for _ in range(DEEPEST):
        layer = [inner for value in layer for inner in _inside(value)]
        if not layer:
            return
    raise ValueError("it is nested too deeply")


def _check_texts(value: Any) -> None:
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError("a text holds half of a character") from None
    elif isinstance(value, dict):
        for key, inner in value.items():
            _check_texts(key)
            _check_texts(inner)
    elif isinstance(value, list):
        for inner in value:
            _check_texts(inner)
