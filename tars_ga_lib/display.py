"""What the notebooks show: tables and the banner of the decision.

A notebook ends a cell with one of these objects. Each carries several faces of the same facts:
one for JupyterLab, one for GitHub, and one for machines, from which the exporters of
:mod:`tars_ga_lib.report` set the PDF and the Markdown report. So the report never has to read
figures back out of rendered HTML.

Two rules hold for every string here. First, data is never code: what comes from a label, a name
or a query is escaped for the language that it is written into. Second, missing data is never
good news: a missing number reads ``NO DATA``, and nothing is rounded across a limit.

This module is imported by every notebook, so it imports nothing heavy.
"""

from __future__ import annotations

import importlib.util
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from pathlib import Path
from typing import Any, Literal

from tars_ga_lib import fingerprint as fingerprints
from tars_ga_lib import sanitise

__all__ = [
    "CHIPS",
    "DECISION_MIME",
    "IDENTITY_MIME",
    "NO_DATA",
    "TONES",
    "Chip",
    "Decision",
    "Identity",
    "clean",
    "duration",
    "md_code",
    "md_escape",
    "printable",
    "quantity",
    "scale",
    "when",
    "window",
]

NO_DATA = "NO DATA"
NBSP = "\u00a0"
MINUS = "\u2212"

DECISION_MIME = "application/vnd.tars-ga.decision+json"
IDENTITY_MIME = "application/vnd.tars-ga.identity+json"

Tone = Literal["pass", "warn", "fail", "none", "info"]
Bundle = dict[str, Any]


# --- verdicts: a colour, a symbol and a word, so that colour never carries the meaning alone ---


@dataclass(frozen=True)
class Chip:
    """How a verdict looks: its word, its symbol and the tone that colours it."""

    label: str
    symbol: str
    tone: Tone

    @property
    def text(self) -> str:
        """Symbol and word, for places without colour."""
        return f"{self.symbol}{NBSP}{self.label.replace(' ', NBSP)}"


CHIPS: Mapping[str, Chip] = {
    "pass": Chip("PASS", "✓", "pass"),
    "warn": Chip("WARN", "▲", "warn"),
    "fail": Chip("FAIL", "✗", "fail"),
    "no_data": Chip(NO_DATA, "○", "none"),
    "waived": Chip("WAIVED", "◇", "warn"),
    "critical": Chip("CRITICAL", "✗", "fail"),
    "warning": Chip("WARNING", "▲", "warn"),
    "info": Chip("INFO", "•", "info"),
    "CERTIFIED": Chip("CERTIFIED", "✓", "pass"),
    "CERTIFIED WITH WAIVERS": Chip("CERTIFIED WITH WAIVERS", "◇", "warn"),
    "NOT CERTIFIED": Chip("NOT CERTIFIED", "✗", "fail"),
    "INCONCLUSIVE": Chip("INCONCLUSIVE", "○", "none"),
    "approved": Chip("APPROVED", "✓", "pass"),
    "refused": Chip("REFUSED", "✗", "fail"),
    "not_signed": Chip("not signed", "○", "none"),
}
"""Verdicts, severities, decisions and signatures that a ``verdict`` cell may hold."""

DECISIONS = ("CERTIFIED", "CERTIFIED WITH WAIVERS", "NOT CERTIFIED", "INCONCLUSIVE")

TONES: Mapping[str, tuple[str, str, str]] = {
    "pass": ("#dcf1e6", "#0b5d3b", "#0b7a4b"),
    "warn": ("#fdebc8", "#6f4300", "#b26a00"),
    "fail": ("#fadcd8", "#8f1d14", "#b3261e"),
    "none": ("#e6e8ec", "#3c4452", "#5f6b7a"),
    "info": ("#dceaf7", "#134a7c", "#1f6fb2"),
}
"""Tint, ink and strong colour of each tone; ink on tint has a contrast above 6 : 1."""


def chip(verdict: str) -> Chip:
    """Return the look of a verdict; an unknown word is an error, never a blank."""
    try:
        return CHIPS[verdict]
    except KeyError:
        raise ValueError(f"unknown verdict {verdict!r}; known are {', '.join(CHIPS)}") from None


# --- strings from data ---

_UNSEEN = re.compile(
    f"[{sanitise.HARMFUL}\t\n\r\u00ad\u200b-\u200d\u2060-\u2065\ufeff]"
)  # and what is harmless in a file, but cannot be seen on a page


def clean(text: object) -> str:
    """Make every character of a string visible.

    Line ends become ``↵`` and tabs spaces; other control characters, invisible ones, and those
    that turn the direction of the text (which can make a name read as another) are written as
    ``‹U+202E›``.
    """
    string = str(text).replace("\r\n", "\n").replace("\n", "↵").replace("\r", "↵")
    return _UNSEEN.sub(sanitise.named, string.replace("\t", " "))


def printable(text: object) -> str:
    """Clean a string, and name each character that the bundled fonts cannot draw.

    The PDF and the charts use no font of the machine, so that their bytes do not depend on it.
    A character without a glyph reads ``‹U+540D›`` there instead of a blank.
    """
    string = clean(text)
    if string.isascii():
        return string
    # U+FE0F only asks for the coloured form of the sign before it
    string = unicodedata.normalize("NFC", string).replace("\ufe0f", "")
    return re.sub(
        r"[^\x00-\x7f]", lambda m: m[0] if ord(m[0]) in _drawn() else sanitise.named(m), string
    )


def font_folder() -> Path:
    """Return the folder of the DejaVu fonts that come with matplotlib, which is not imported."""
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("matplotlib, whose fonts the report uses, is not installed")
    return Path(spec.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf"


@cache
def _drawn() -> frozenset[int]:
    """Code points that the bundled font draws."""
    from matplotlib.ft2font import FT2Font  # only a name beyond ASCII asks for it

    return frozenset(FT2Font(str(font_folder() / "DejaVuSans.ttf")).get_charmap())


_MD_ALWAYS = re.compile(r"[\\`*\[\]<>|$~&]")
_MD_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
_MD_START = re.compile(r"^(\s*)([-+](?=[\s-]|$)|[#=]|\d+(?=[.)](?:\s|$)))")
_MD_LINK = re.compile(r"(?<=\w):(?=//)|(?<=www)\.|(?<=mailto):", re.IGNORECASE)


def md_escape(text: object) -> str:
    r"""Write a string from data into Markdown so that it reads as itself and marks nothing up.

    Works inside table cells, link texts and paragraphs, for GitHub, JupyterLab and pandoc.

    >>> md_escape("a|b *c* <d> $x$")
    'a\\|b \\*c\\* \\<d\\> \\$x\\$'
    """
    string = _MD_ALWAYS.sub(lambda m: "\\" + m[0], clean(text))
    string = _MD_UNDERSCORE.sub(r"\\_", string)
    string = _MD_LINK.sub(lambda m: "\\" + m[0], string)
    return _MD_START.sub(_escape_start, string)


def _escape_start(match: re.Match[str]) -> str:
    """Escape what would start a heading, a list or a rule at the start of a line."""
    lead, mark = match[1], match[2]
    return f"{lead}{mark}\\" if mark.isdigit() else f"{lead}\\{mark}"


def md_code(text: object, *, in_table: bool = False) -> str:
    """Write a string from data as Markdown code, with a fence longer than any in it."""
    string = clean(text)
    if not string:
        return ""
    if in_table:
        string = string.replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", string)), default=0))
    pad = " " if string[0] in "` " or string[-1] in "` " else ""
    return f"{fence}{pad}{string}{pad}{fence}"


# --- numbers, times and durations as a person reads them ---

_ALIASES = {
    "ratio": "ratio", "%": "percent", "percent": "percent",
    "pp": "pp", "percentage points": "pp",
    "s": "s", "seconds": "s", "second": "s",
    "B": "B", "bytes": "B", "byte": "B",
    "B/s": "B/s", "bytes/s": "B/s", "bytes_per_second": "B/s", "bytes/second": "B/s",
    "cores": "cores", "count": "", "1": "", "": "",
    "usd/h": "USD/h", "USD/h": "USD/h", "usd/hour": "USD/h", "USD/hour": "USD/h",
    "usd_per_hour": "USD/h", "usd": "USD", "USD": "USD",
    "1/s": "/s", "per_second": "/s", "requests/s": "requests/s",
}  # fmt: skip
_TIME = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))
_BYTES = tuple((p + "B", 1024.0**k) for k, p in ((4, "Ti"), (3, "Gi"), (2, "Mi"), (1, "Ki")))
_LARGE = (("G", 1e9), ("M", 1e6), ("k", 1e3))


def scale(value: float, unit: str) -> tuple[float, str]:
    """Choose the multiple of a unit in which a value of this size is read.

    Returns
    -------
    tuple of float and str
        What to divide by, and the name to write behind the number: ``scale(0.25, "s")`` is
        ``(0.001, "ms")``, ``scale(0.999, "ratio")`` is ``(0.01, "%")``.
    """
    unit = _ALIASES.get(unit, unit)
    size = abs(value) if math.isfinite(value) else 0.0
    if unit == "ratio":
        return 0.01, "%"
    if unit == "percent":
        return 1.0, "%"
    if unit == "pp":
        return 0.01, "pp"
    if unit == "s":
        # 0 is read in milliseconds: latencies are what this project counts in seconds
        name, factor = next(((n, f) for n, f in _TIME if size >= f), _TIME[1 if not size else -1])
        return factor, name
    if unit in ("B", "B/s"):
        name, factor = next(((n, f) for n, f in _BYTES if size >= f), ("B", 1.0))
        return factor, name + unit[1:]
    if size >= 1e4:
        prefix, factor = next((p, f) for p, f in _LARGE if size >= f)
        return factor, f"{prefix} {unit}".rstrip() if unit[:1] != "/" else prefix + unit
    return 1.0, unit


def quantity(
    value: float | None,
    unit: str = "",
    *,
    limit: float | None = None,
    digits: int = 4,
    signed: bool = False,
) -> str:
    """Write a figure as a person reads it, without ever rounding it across a limit.

    Parameters
    ----------
    value : float or None
        In SI units as the data holds it: seconds, bytes, ratios from 0 to 1.
    unit : str
        ``ratio``, ``pp`` (a difference of ratios, in percentage points), ``s``, ``B``, ``B/s``,
        ``cores``, ``count``, ``USD/h``, … An unknown unit is written behind the number.
    limit : float or None
        A limit to which the reader compares the figure. Digits are added until the written
        figure stands to the limit as the true one does, and its unit follows the limit's.
    digits : int
        Significant digits, if the limit and 100 % ask for no more.
    signed : bool
        Write a plus sign, for differences.

    Examples
    --------
    >>> quantity(0.999996, "ratio")
    '99.9996\\xa0%'
    >>> quantity(0.00099996, "ratio", limit=0.001)
    '0.099996\\xa0%'
    >>> quantity(None, "s")
    'NO DATA'
    """
    if value is None or math.isnan(value):
        return NO_DATA
    if limit is None and _ALIASES.get(unit, unit) == "s" and 3600 <= abs(value) < math.inf:
        return ("+" if signed and value > 0 else "") + duration(value)  # 61 d, not 5,270,000 s
    sign = MINUS if value < 0 else "+" if signed and value > 0 else ""
    factor, name = _scale_with(value, unit, limit)
    gap = "" if not name or name.startswith("/") else NBSP
    if math.isinf(value):
        return f"{sign}∞{gap}{name}"
    divisor = Decimal(repr(factor))
    number = abs(Decimal(repr(float(value)))) / divisor
    guards = [Decimal(100)] if _ALIASES.get(unit, unit) in ("ratio", "percent") else []
    if limit is not None and math.isfinite(limit):
        guards.append(abs(Decimal(repr(float(limit)))) / divisor)
    return f"{sign}{_plain(_round(number, digits, guards))}{gap}{name.replace(' ', NBSP)}"


def _scale_with(value: float, unit: str, limit: float | None) -> tuple[float, str]:
    """Scale by the limit where both can be read so: 1200 ms beside 500 ms, not 1.2 s."""
    if limit and math.isfinite(limit) and 0.1 <= abs(value / limit) < 20:
        return scale(limit, unit)
    return scale(value, unit)


def _round(number: Decimal, digits: int, guards: Sequence[Decimal]) -> Decimal:
    """Round to significant digits, to more of them where a guard would be met or crossed."""
    if not number:
        return number
    for count in range(digits, 18):
        rounded = number.quantize(Decimal(1).scaleb(number.adjusted() - count + 1), ROUND_HALF_UP)
        if all(rounded.compare(guard) == number.compare(guard) for guard in guards):
            return rounded
    return number


def _plain(number: Decimal) -> str:
    """Write a decimal without trailing zeros; a tiny one as a power of ten."""
    if number and number.adjusted() < -6:
        mantissa = _plain(number.scaleb(-number.adjusted()))
        power = str(number.adjusted()).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return f"{mantissa}×10{power}"
    text = f"{number:,f}" if number >= 10_000 else f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


_PERIODS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def duration(seconds: float | None) -> str:
    """Write a length of time in at most two units: ``12 min``, ``1 h 5 min``, ``350 ms``."""
    if seconds is None or math.isnan(seconds):
        return NO_DATA
    if math.isinf(seconds) or abs(seconds) < 60:
        return quantity(seconds, "s") if seconds else f"0{NBSP}s"
    sign, left = (MINUS, -seconds) if seconds < 0 else ("", seconds)
    for place, (_, size) in enumerate(_PERIODS):
        step = _PERIODS[min(place + 1, 3)][1]
        whole = round(left / step) * step
        if whole >= size:
            break
    parts = []
    for name, size in _PERIODS[place : place + 2]:
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count}{NBSP}{name}")
    return sign + NBSP.join(parts)


def instant(time: object) -> datetime | None:
    """Read a point in time as UTC; None for a missing one.

    Takes an aware `datetime`, an ISO string with its offset, seconds since 1970, or a numpy
    ``datetime64`` (which is UTC by agreement). A naive `datetime` is refused: its zone would be
    a guess.
    """
    if time is None or str(time) in ("NaT", "nan"):
        return None
    if isinstance(time, str):
        time = datetime.fromisoformat(time)
    if isinstance(time, datetime):
        if time.tzinfo is None:
            raise ValueError(f"{time} names no time zone")
        return time.astimezone(UTC)
    if hasattr(time, "astype"):  # numpy, which this module does not import
        kind = str(getattr(time, "dtype", ""))
        if kind.startswith("datetime64"):
            return datetime.fromisoformat(str(time)[:26]).replace(tzinfo=UTC)
    return datetime.fromtimestamp(float(time), UTC)  # type: ignore[arg-type]


def when(time: object) -> str:
    """Write a point in time in UTC: ``2026-11-20 13:05 UTC``, with seconds if there are any."""
    moment = instant(time)
    return NO_DATA if moment is None else f"{_clock(moment)} UTC"


def window(start: object, end: object) -> str:
    """Write an interval in UTC, the zone named once."""
    first, last = instant(start), instant(end)
    if first is None or last is None:
        return NO_DATA
    return f"{_clock(first)} – {_clock(last)} UTC"


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" + (f":{moment:%S}" if moment.second else "")


def slug(name: str) -> str:
    """Turn any name into one that is safe as a file's and as an anchor."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:60] or "figure"


# --- the decision ---


@dataclass(frozen=True)
class Decision:
    """The banner: what was decided on which release and window, and why.

    The exporters take the title line, the date and the edges of the pages from it, so nothing else
    has to be written into the notebook. The end of the window dates the report: the same run gives
    the same bytes on any day.

    Parameters
    ----------
    decision : str
        ``CERTIFIED``, ``CERTIFIED WITH WAIVERS``, ``NOT CERTIFIED`` or ``INCONCLUSIVE``.
    reason : str
        One sentence that names the criteria which decided.
    release : str
        Name and version.
    start, end : time
        The window.
    proof : str
        The lines that the fingerprint is made of; see `tars_ga_lib.fingerprint`.
    simulated : bool
        Shown as a visible note.

    Raises
    ------
    ValueError
        If there is no such decision, or the window has no end.
    """

    decision: str
    reason: str
    release: str
    start: object
    end: object
    proof: str = ""
    simulated: bool = False

    def __post_init__(self) -> None:
        if self.decision not in DECISIONS:
            known = ", ".join(DECISIONS)
            raise ValueError(f"unknown decision {self.decision!r}; known are {known}")
        if instant(self.end) is None:
            raise ValueError("the window of a decision has an end")

    def to_json(self) -> dict[str, Any]:
        """Return the machine-readable face."""
        ended = instant(self.end)
        return {
            "decision": self.decision,
            "fingerprint": fingerprints.short(self.proof) if self.proof else "",
            "notes": [SIMULATED] if self.simulated else [],
            "reason": self.reason,
            "release": self.release,
            "time": ended.isoformat() if ended else "",
            "window": window(self.start, self.end),
        }

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> Bundle:
        facts = self.to_json()
        return {
            DECISION_MIME: facts,
            "text/markdown": decision_markdown(facts),
            "text/plain": f"{facts['decision']}: {clean(facts['reason'])}",
        }


SIMULATED = "Simulated data: this day was generated, not observed in production."


def decision_markdown(facts: Mapping[str, Any]) -> str:
    """Write the JSON of a banner as GitHub Markdown."""
    about = md_escape(f"{facts['release']}, {facts['window']}")
    lines = [f"> **{chip(facts['decision']).text}** {about}"]
    lines += [">", f"> {md_escape(facts['reason'])}"]
    for note in facts["notes"]:
        lines += [">", f"> ⚠ **{note}**"]
    return "\n".join(lines)


@dataclass(frozen=True)
class Identity:
    """What a report is about and how it is recognised: lines of facts, and a code to scan.

    Parameters
    ----------
    facts : sequence of pairs
        Label and value of each line.
    proof : str
        The lines that the QR code holds and the fingerprint is made of.
    """

    facts: Sequence[tuple[str, str]]
    proof: str = ""

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> Bundle:
        facts = {"facts": [list(each) for each in self.facts], "proof": self.proof}
        return {
            IDENTITY_MIME: facts,
            "text/markdown": identity_markdown(facts),
            "text/plain": "; ".join(f"{k}: {clean(v)}" for k, v in self.facts),
        }


def identity_markdown(facts: Mapping[str, Any]) -> str:
    """Write the JSON of an identity as GitHub Markdown."""
    return "\n".join(f"- **{md_escape(k)}:** {md_escape(v)}" for k, v in facts["facts"])
