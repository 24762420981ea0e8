"""Texts from outside, made harmless where they come in.

A server, a package of a stranger or a file may hold characters that steer a terminal, turn the
direction of what is read, or cannot stand in XML at all; and a server may repeat the credentials
that it was sent. Whatever reads such a text passes it through here first, so that nothing behind
the door has to think of it.

Sources: Unicode Standard 16.0, 23.7 (noncharacters) and 23.9 (tag characters); UAX #9
(bidirectional controls); XML 1.0, section 2.2 (characters).
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

_PLANES = "".join(
    f"{chr((plane << 16) + 0xFFFE)}{chr((plane << 16) + 0xFFFF)}" for plane in range(17)
)

HARMFUL = (
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # control characters, but not tab and line ends
    "\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"  # direction and line separators
    f"\ufdd0-\ufdef{_PLANES}"  # noncharacters
    "\ud800-\udfff"  # halves of a character, which no encoding can write
    "\ufff9-\ufffb\U000e0000-\U000e007f"  # annotations and tags, which hide a text in another
)
"""Characters that no text from outside keeps, as a character class of a regular expression."""

_HARMFUL = re.compile(f"[{HARMFUL}]")

_SECRET = re.compile(
    r"TARS_GA_\w*(?:TOKEN|PASSWORD|PASSPHRASE|SECRET|KEY|WEBHOOK|URL|DSN|HEADERS)\w*"
)
_NO_SECRETS = frozenset({"TARS_GA_CLIENT_KEY", "TARS_GA_SIGNING_KEY", "TARS_GA_REPORT_URL"})
"""Variables that hold the name of a file, or a link that is meant to be shown."""

_SHORTEST_SECRET = 4
"""Characters of the shortest secret that is looked for: shorter ones stand in any text."""

REDACTED = "…"


def named(match: re.Match[str]) -> str:
    """Write a character by its number: ``‹U+202E›``."""
    return f"‹U+{ord(match[0]):04X}›"


def secrets(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return what must not be repeated, in each form in which it may come back, longest first."""
    held = {v for k, v in environ.items() if _SECRET.fullmatch(k) and k not in _NO_SECRETS}
    user = environ.get("TARS_GA_USERNAME", "")
    if password := environ.get("TARS_GA_PASSWORD", ""):
        held.add(base64.b64encode(f"{user}:{password}".encode()).decode())
    forms = {form for one in held if len(one) >= _SHORTEST_SECRET for form in _forms(one)}
    return sorted(forms, key=lambda one: (-len(one), one))


def _forms(secret: str) -> set[str]:
    coded = base64.b64encode(secret.encode("utf-8", "surrogateescape")).decode()
    return {secret, secret.strip(), quote(secret, safe="", errors="surrogateescape"), coded}


def text(value: str, hidden: Sequence[str] = ()) -> str:
    """Return a text without harmful characters and without the secrets in `hidden`."""
    for secret in hidden:
        value = value.replace(secret, REDACTED)
    return _HARMFUL.sub(named, value)


def one_line(value: str, most: int = 200) -> str:
    """Return a name or cause so that it stays one line, can steer no terminal, and has an end."""
    shown = "".join(c if c.isprintable() else f"‹U+{ord(c):04X}›" for c in value)
    return shown if len(shown) <= most else shown[: most - 3] + "..."


def tree(document: Any, hidden: Sequence[str] = ()) -> Any:
    """Return JSON or YAML data with all its texts made harmless, keys included."""
    if isinstance(document, str):
        return text(document, hidden)
    if isinstance(document, dict):
        return {tree(key, hidden): tree(value, hidden) for key, value in document.items()}
    if isinstance(document, list):
        return [tree(value, hidden) for value in document]
    return document
