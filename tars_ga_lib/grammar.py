"""How every file that a user writes is read: strictly, and refused in one clear sentence.

Here are the grammar of single values (durations, times, limits), the base of every file's model,
and `check`, which turns whatever is wrong with a file into one sentence that names the file, the
key and the remedy.
"""

from __future__ import annotations

import difflib
import math
import re
import reprlib
import unicodedata
from collections.abc import Hashable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

Verdict = Literal["pass", "warn", "fail", "no_data"]
Number = Annotated[StrictFloat, Field(allow_inf_nan=False)] | StrictInt
M = TypeVar("M", bound="Model")

_UNITS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:\d+w)?(?:\d+d)?(?:\d+h)?(?:\d+m)?(?:\d+s)?", re.ASCII)
_LONGEST = 10 * 366 * 86400


class ParametersError(ValueError):
    """Bad input: the text is one sentence for the user, and the exit code is 2."""


# --- the grammar of single values -----------------------------------------------------------


def parse_duration(text: object) -> int:
    """Seconds of a duration like `24h`, `5m`, `30s` or `1h30m` (units w, d, h, m, s).

    Raises
    ------
    ValueError
        If `text` is not a positive duration of that grammar.
    """
    if not isinstance(text, str) or not text or not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration; write it like 24h, 5m or 30s")
    parts = re.findall(r"(\d+)(\w)", text)
    # More digits than any duration has are not turned into a number at all.
    seconds = sum(int(n[:12]) * _UNITS[unit] for n, unit in parts)
    if seconds > _LONGEST or any(len(n) > 12 for n, _ in parts):
        raise ValueError(f"{text[:20]!r} is longer than ten years; write it like 24h, 5m or 30s")
    if not seconds:
        raise ValueError(f"{text!r} is an empty duration; write it like 24h, 5m or 30s")
    return seconds


def format_duration(seconds: int) -> str:
    """Write seconds in the grammar of `parse_duration`, in the largest units: 5400 is `1h30m`."""
    parts = []
    for unit, size in _UNITS.items():
        # A day reads better as 24h, a month of days better as 30d: days only from two on.
        if unit == "w" or (unit == "d" and seconds < 2 * size):
            continue
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def duration_words(seconds: float) -> str:
    """Write a length of time for a reader, to the minute: `3 h 35 min`, `45 s`."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    words = [f"{hours} h"] if hours else []
    return " ".join([*words, f"{minutes} min"] if minutes else words)


def parse_time(value: object) -> int:
    """Epoch seconds of an ISO time with a time zone.

    Raises
    ------
    ValueError
        If it is none, has no time zone, or parts of a second.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(
                f"{value!r} is not a time; write it like 2026-11-20T00:00:00Z"
            ) from None
    if not isinstance(value, datetime):
        raise ValueError(f"{value} is not a time; write it like 2026-11-20T00:00:00Z")
    if value.tzinfo is None:
        raise ValueError(f"{value.isoformat()} has no time zone; end it with Z for UTC")
    if value.microsecond:
        raise ValueError(f"{value.isoformat()} has parts of a second; give whole seconds")
    if not 1970 <= value.year <= 9000:
        raise ValueError(f"{value.isoformat()} is not a time of monitoring; correct the year")
    return int(value.timestamp())


def format_time(seconds: float) -> str:
    """ISO time in UTC of epoch seconds: `2026-11-20T00:00:00Z`."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _visible(name: str) -> str:
    """Refuse a name that shows nothing: blanks, control and zero-width characters."""
    if not any(unicodedata.category(letter)[0] not in "CZ" for letter in name):
        raise ValueError(f"{name!a} shows nothing; write a name that can be read")
    return name


def _unique(names: Sequence[str]) -> Sequence[str]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is there twice; name each once")
    return names


Duration = Annotated[int, BeforeValidator(parse_duration), PlainSerializer(format_duration)]
Time = Annotated[int, BeforeValidator(parse_time), PlainSerializer(format_time)]
Name = Annotated[StrictStr, AfterValidator(_visible), Field(min_length=1)]
Names = Annotated[list[Name], Field(min_length=1), AfterValidator(_unique)]


class Limit(NamedTuple):
    """One comparison of a criterion, like `>= 0.999`."""

    operator: str
    value: float

    def holds(self, value: float) -> bool:
        """Whether `value` satisfies the limit; a NaN never does."""
        return {
            ">=": value >= self.value,
            ">": value > self.value,
            "<=": value <= self.value,
            "<": value < self.value,
            "==": value == self.value,
        }[self.operator]

    def __str__(self) -> str:
        return f"{self.operator} {self.value:.15g}"


def parse_limit(text: object) -> Limit:
    """Read a limit like `>= 0.999`; `true` and `false` are 1 and 0.

    Raises
    ------
    ValueError
        If it is none.
    """
    match = re.fullmatch(r"\s*(>=|<=|==|<|>)\s*(\S+)\s*", text) if isinstance(text, str) else None
    if not match:
        raise ValueError(f"{text!r} is not a limit; write it like '>= 0.999', '< 0.5' or '== 0'")
    number = {"true": "1", "false": "0"}.get(match[2], match[2])
    try:
        limit = Limit(match[1], float(number))
    except ValueError:
        limit = Limit(match[1], math.nan)
    if not math.isfinite(limit.value):
        raise ValueError(f"{match[2]!r} in {text!r} is not a number")
    return limit


LimitText = Annotated[Limit, BeforeValidator(parse_limit), PlainSerializer(str)]


class Model(BaseModel):
    """Base of every file's model: unknown keys are refused, values never change."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)


class Interval(Model):
    """Times [start, end), given by a duration or by an end."""

    start: Time
    duration: Duration | None = None
    end: Time | None = None

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.duration is None) == (self.end is None):
            raise ValueError("give either 'duration' or 'end', and not both")
        if self.end is not None and self.end <= self.start:
            raise ValueError(
                f"the end {format_time(self.end)} is not after the start {format_time(self.start)}"
            )
        return self

    @property
    def stop(self) -> int:
        """End of the interval in epoch seconds."""
        return self.end if self.end is not None else self.start + (self.duration or 0)

    @property
    def seconds(self) -> int:
        """Length in seconds."""
        return self.stop - self.start


# --- reading -----------------------------------------------------------------------------------


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # seven times faster where libyaml is


class _StrictLoader(_Loader):  # type: ignore[misc]
    """YAML in which a key that stands twice is an error, as the last one would win silently."""


def _mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[object] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            raise yaml.constructor.ConstructorError(
                None, None, "a key must be a plain name", key_node.start_mark
            )
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} is there twice", key_node.start_mark
            )
        seen.add(key)
    found: dict[Any, Any] = loader.construct_mapping(node, deep=True)
    return found


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def parse_yaml(text: str, name: str) -> Any:
    """Read one YAML text; `name` is what an error calls it.

    Raises
    ------
    ParametersError
        If it is not YAML, or a key stands twice.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error) or "it is nested too deeply"
        problem = " ".join(str(problem).split())
        raise ParametersError(f"{name}{where}: {problem}; correct the YAML") from None


def read_yaml(path: Path) -> Any:
    """Read a YAML file strictly.

    Raises
    ------
    ParametersError
        If the file is missing, unreadable, not UTF-8 or not YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ParametersError(f"{path}: there is no such file; check the name") from None
    except OSError as error:
        raise ParametersError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ParametersError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    return parse_yaml(text, str(path))


def _keys_at(model: type[BaseModel], location: Iterable[int | str]) -> list[str]:
    """Return the keys that the model allows at an error's location, to suggest the right one."""
    here: Any = model
    for part in location:
        if isinstance(here, type) and issubclass(here, BaseModel) and part in here.model_fields:
            here = here.model_fields[str(part)].annotation
        else:
            here = getattr(here, "__args__", [None])[-1]
        here = (
            getattr(here, "__args__", [here])[0]
            if type(None) in getattr(here, "__args__", [])
            else here
        )
    # A union allows the keys of each of its models.
    several = [here, *getattr(here, "__args__", [])]
    models = [m for m in several if isinstance(m, type) and issubclass(m, BaseModel)]
    return [key for model in models for key in model.model_fields]


_BRANCHES = ("Baseline", "BaselineRun", "float", "int", "[key]")
"""What pydantic puts into an error's location that is no key of the file."""


def _sentence(name: str, model: type[BaseModel], error: ValidationError) -> str:
    """Write the first problem of a validation as one sentence: file, key, remedy."""
    problems = error.errors()
    first = problems[0]
    locations = [[part for part in each["loc"] if part not in _BRANCHES] for each in problems]
    location, more = locations[0], len({str(each) for each in locations}) - 1
    key, kind = ".".join(map(str, location)), first["type"]
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(location[-1]), _keys_at(model, location[:-1]), 1)
        remedy = f"did you mean '{near[0]}'?" if near else "take it out"
        text = f"unknown key '{key}'; {remedy}"
    elif kind == "missing":
        text = f"the key '{key}' is missing; add it"
    elif kind == "value_error":
        text = f"{key}: {first['ctx']['error']}" if key else str(first["ctx"]["error"])
    else:
        wanted = first["msg"].replace("Input should be", "must be").replace("Input", "it")
        if kind in ("model_type", "dict_type"):
            wanted = "must be a mapping of keys to values"
        elif kind == "path_type":
            wanted = "must be a path"
        # A URL may hold a secret, so it is not repeated.
        hidden = isinstance(first["input"], (dict, list)) or "@" in str(first["input"])
        given = "" if hidden else f", not {reprlib.repr(first['input'])}"
        hint = "; put it in quotes" if kind == "string_type" else ""
        text = f"{key}: {wanted}{given}{hint}" if key else f"{wanted}{given}"
    return f"{name}: {text}" + (f" (and {more} more)" if more else "")


def check(model: type[M], raw: object, name: str) -> M:
    """Validate raw YAML against a model.

    Raises
    ------
    ParametersError
        With one sentence that names `name`, the key and the remedy.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise ParametersError(_sentence(name, model, error)) from None


def interval_text(start: int, stop: int) -> str:
    """Write an interval for a reader: `2026-11-20 00:00 to 2026-11-21 00:00 UTC (24h)`."""
    first, last = (datetime.fromtimestamp(t, UTC) for t in (start, stop))
    form = "%Y-%m-%d %H:%M" + (":%S" if (start % 60 or stop % 60) else "")
    length = format_duration(int(timedelta(seconds=stop - start).total_seconds()))
    return f"{first:{form}} to {last:{form}} UTC ({length})"


def project_root(start: Path | None = None) -> Path:
    """Return the nearest folder above that holds `notebooks` and `parameters`; else the start.

    A notebook's relative paths are relative to it, whether papermill runs it from the project's
    folder or JupyterLab from `notebooks`.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "notebooks").is_dir() and (folder / "parameters").is_dir():
            return folder
    return start
