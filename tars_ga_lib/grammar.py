"""How every file that a user writes is read: strictly, and refused in one clear sentence.

Here are the grammar of single values (durations, times, limits), the base of every file's model,
and `check`, which turns whatever is wrong with a file into one sentence that names the file, the
key and the remedy.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import operator
import os
import re
import reprlib
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeVar, get_args

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

from tars_ga_lib import sanitise

Verdict = Literal["pass", "warn", "fail", "no_data"]
Number = Annotated[StrictFloat, Field(allow_inf_nan=False)] | StrictInt
M = TypeVar("M", bound="Model")

_UNITS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:\d+w)?(?:\d+d)?(?:\d+h)?(?:\d+m)?(?:\d+s)?", re.ASCII)
_LONGEST = 10 * 366 * 86400

_MOST_YAML = 4 << 20
_MOST_NODES = 200_000
_DEEPEST_YAML = 64
_PLAIN_TAG = re.compile(r"tag:yaml\.org,2002:\w+")
_LARGEST = 2**63


class ParametersError(ValueError):
    """Bad input: the text is a sentence for the user, or several, a line each; exit code 2."""


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


def clock(seconds: float) -> str:
    """Date and time in UTC of epoch seconds for a reader: `2026-11-20 00:00`."""
    moment = datetime.fromtimestamp(int(seconds), UTC)
    return f"{moment:%Y-%m-%d %H:%M}" + (f":{moment:%S}" if moment.second else "")


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


ALLOWED_VARIABLES = "TARS_GA_ALLOW_ENV"
"""Variable with further names, separated by commas, that a file may take secrets from."""

ANY_VARIABLE = "*"
"""What it holds where nothing is read from the environment and nothing is sent."""


def _variable(name: object) -> object:
    # What stands there may be the secret itself, so it is not repeated.
    if not isinstance(name, str) or not re.fullmatch(_VARIABLE, name):
        raise ValueError(
            "is not the name of an environment variable; write the name, in capitals, of the one "
            "that holds the secret, like TARS_GA_POSTGRES_PASSWORD"
        )
    allowed = os.environ.get(ALLOWED_VARIABLES, "").split(",")
    if not (name.startswith("TARS_GA_") or name in allowed or ANY_VARIABLE in allowed):
        raise ValueError(
            "may name only a variable that begins with TARS_GA_, so that no file can send another "
            "secret of yours somewhere; rename yours, or allow it with tars-ga --allow-env NAME"
        )
    return name


_VARIABLE = "^[A-Z_][A-Z0-9_]*$"
Variable = Annotated[StrictStr, Field(pattern=_VARIABLE), BeforeValidator(_variable)]
"""Name of an environment variable that holds a secret."""


_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt, "==": operator.eq,
}  # fmt: skip


class Limit(NamedTuple):
    """One comparison of a criterion, like `>= 0.999`."""

    operator: str
    value: float

    def holds(self, value: float) -> bool:
        """Whether `value` satisfies the limit; a NaN never does."""
        return _COMPARISONS[self.operator](value, self.value)

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
    """Base of every file's model: unknown keys are refused, values never change.

    `EITHER` holds the keys of which exactly one is to be given, a group each.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)
    EITHER: ClassVar[tuple[tuple[str, ...], ...]] = ()

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        for names in self.EITHER:
            if sum(getattr(self, name) is not None for name in names) != 1:
                *others, last = map(repr, names)
                raise ValueError(f"give exactly one of {', '.join(others)} and {last}")
        return self

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy with changes, checked as strictly as a file: pydantic's own copy checks nothing.

        Raises
        ------
        ValidationError
            If the changes do not fit, or contradict what is there.
        """
        copied = super().model_copy(update=update, deep=deep)
        return type(self).model_validate(copied.model_dump(mode="json"))


class Interval(Model):
    """Times [start, end), given by a duration or by an end."""

    EITHER = (("duration", "end"),)

    start: Time
    duration: Duration | None = None
    end: Time | None = None

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> Self:
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
        problem = "a key must be a plain name" if not isinstance(key, Hashable) else ""
        if problem or key in seen:
            problem = problem or f"the key {key!r} is there twice"
            raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
        seen.add(key)
    mapping: dict[Any, Any] = loader.construct_mapping(node, deep=True)
    return mapping


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def parse_yaml(text: str, name: str) -> Any:
    """Read one YAML text; `name` is what an error calls it.

    Its texts come without characters that could harm a terminal or a page: see
    `tars_ga_lib.sanitise`.

    Raises
    ------
    ParametersError
        If it is not YAML, a key stands twice, or it is built to break its reader.
    """
    return _parsed(text, name, lambda: yaml.load(text, Loader=_StrictLoader))


def parse_documents(text: str, name: str) -> list[Any]:
    """Read a stream of YAML documents as `parse_yaml` reads one."""
    documents: list[Any] = _parsed(text, name, lambda: [*yaml.load_all(text, Loader=_StrictLoader)])
    return documents


def _parsed(text: str, name: str, load: Callable[[], Any]) -> Any:
    try:
        check_yaml(text)
        return _plain(load())
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error) or "it is not a YAML text"
        problem = sanitise.text(" ".join(str(problem).split()))
        raise ParametersError(f"{name}{where}: {problem}; correct the YAML") from None


def check_yaml(text: str) -> None:
    """See that YAML, of one document or several, is plain data that no reader breaks on.

    libyaml's loader recurses in C, where a deep text ends the process: its stream of events, which
    is looked at here, does not.

    Raises
    ------
    ValueError, yaml.YAMLError
        If it is deep, asks for more than data, is small on disk and huge once its aliases are
        written out, or is not YAML.
    """
    if len(text) > _MOST_YAML:
        raise ValueError("it is too large for a file of parameters")
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []  # anchor, and nodes before it
    count = 0
    for event in yaml.parse(text, Loader=_Loader):
        mark: Any = event.start_mark  # libyaml's own class, which the stubs do not let pass
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                problem = f"the alias *{event.anchor} is recursive or names nothing"
                raise yaml.composer.ComposerError(None, None, problem, mark)
            count += sizes[event.anchor]
        elif isinstance(event, yaml.NodeEvent):
            tag = getattr(event, "tag", None)
            if tag not in (None, "!") and not _PLAIN_TAG.fullmatch(tag):
                problem = f"the tag {tag} asks for more than data"
                raise yaml.constructor.ConstructorError(None, None, problem, mark)
            if isinstance(event, yaml.CollectionStartEvent):
                open_nodes.append((event.anchor, count))
            elif event.anchor:
                sizes[event.anchor] = 1
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = count - before
        if len(open_nodes) > _DEEPEST_YAML:
            raise ValueError("it is nested too deeply")
        if count > _MOST_NODES:
            raise ValueError("it expands to far more than it holds (aliases of aliases)")


def _plain(value: Any) -> Any:
    """Return YAML data with harmless texts and numbers that a double can hold."""
    if isinstance(value, str):
        return sanitise.text(value)
    if isinstance(value, dict):
        return {_plain(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise ValueError("a number is too large")
    return value


def read_text(path: Path) -> str:
    """Read a text file that a user names.

    Raises
    ------
    ParametersError
        If the file is missing, unreadable or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ParametersError(f"{path}: there is no such file; check the name") from None
    except OSError as error:
        raise ParametersError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ParametersError(f"{path}: is not UTF-8 text; save it as UTF-8") from None


def read_yaml(path: Path) -> Any:
    """Read a YAML file strictly.

    Raises
    ------
    ParametersError
        If the file is missing, unreadable, not UTF-8 or not YAML.
    """
    return parse_yaml(read_text(path), str(path))


# --- checking ------------------------------------------------------------------------------------

Namer = Callable[[Sequence[int | str]], str]
"""Says which file, or option, a place of a document came from."""

MOST_PROBLEMS = 50
"""Problems of one file that are told; what more there are is counted."""

_BRANCHES = ("Baseline", "BaselineRun", "float", "int", "[key]")
"""What pydantic puts into an error's location that is no key of the file."""


def check(model: type[M], raw: object, name: str | Namer) -> M:
    """Validate raw YAML against a model.

    Raises
    ------
    ParametersError
        With a sentence a problem, a line each, that names `name`, the key and the remedy.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise ParametersError(_sentences(name, model, error)) from None


def _sentences(name: str | Namer, model: type[BaseModel], error: ValidationError) -> str:
    """Write every problem of a validation as a sentence on a line of its own."""

    def blamed(place: Sequence[int | str]) -> str:
        return name if isinstance(name, str) else name(place)

    problems: dict[str, str] = {}
    for problem in error.errors():
        place = [part for part in problem["loc"] if part not in _BRANCHES]
        # Of one place that fits none of several types, the first is told.
        problems.setdefault(str(place), f"{blamed(place)}: {_sentence(model, place, problem)}")
    lines = [*problems.values()][:MOST_PROBLEMS]
    if more := len(problems) - len(lines):
        lines.append(f"{blamed(())}: and {more} more problems; mend these first")
    return "\n".join(lines)


def _sentence(model: type[BaseModel], place: Sequence[int | str], problem: Any) -> str:
    """Write a problem as one sentence: key and remedy."""
    key, kind = ".".join(map(str, place)), problem["type"]
    if kind == "extra_forbidden" and place:
        near = difflib.get_close_matches(str(place[-1]), _keys_at(model, place[:-1]), 1)
        remedy = f"did you mean '{near[0]}'?" if near else "take it out"
        return f"unknown key '{key}'; {remedy}"
    if kind == "missing":
        return f"the key '{key}' is missing; add it"
    if kind == "value_error":
        text = str(problem["ctx"]["error"])
    else:
        wanted = {
            "model_type": "must be a mapping of keys to values",
            "dict_type": "must be a mapping of keys to values",
            "path_type": "must be a path",
        }
        plain = problem["msg"].replace("Input should be", "must be").replace("Input", "it")
        # A URL may hold a secret, so it is not repeated.
        hidden = isinstance(problem["input"], (dict, list)) or "@" in str(problem["input"])
        given = "" if hidden else f", not {reprlib.repr(problem['input'])}"
        hint = "; put it in quotes" if kind == "string_type" and key else ""
        text = f"{wanted.get(kind, plain)}{given}{hint}"
    return (f"{key}: {text}" if key else text).replace("\n", " ")


def _keys_at(model: type[BaseModel], place: Iterable[int | str]) -> list[str]:
    """Return the keys that the model allows at an error's place, to suggest the right one."""
    models = [model]
    for part in place:
        fields = [one.model_fields[str(part)] for one in models if str(part) in one.model_fields]
        # A name or a number of an entry is no field: its model was reached with the key before.
        models = [one for field in fields for one in _models(field.annotation)] or models
    return [key for one in models for key in one.model_fields]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models in a type: a union allows the keys of all of its models."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


class Problems:
    """What is wrong with several files, told all at once."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}

    @contextlib.contextmanager
    def collected(self) -> Iterator[None]:
        """Keep what is refused inside, and go on."""
        try:
            yield
        except ParametersError as error:
            self.add(*str(error).splitlines())

    def add(self, *lines: str) -> None:
        """Keep sentences, each a problem."""
        self._lines |= dict.fromkeys(lines)

    def refuse(self) -> None:
        """Refuse the input if anything was wrong.

        Raises
        ------
        ParametersError
            With a sentence a problem, a line each.
        """
        if self._lines:
            raise ParametersError("\n".join(self._lines))


def nearest(name: str, known: Iterable[str]) -> str:
    """Write the remedy for a name that is not known: the nearest ones, or all if none is near."""
    names = [str(one) for one in known]
    near = difflib.get_close_matches(name, names, 3)
    near = near or difflib.get_close_matches(name.lower(), names, 3, 0.5)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"there are {', '.join(names[:20])}" + (", …" if len(names) > 20 else "")


def known_as(what: str, name: str, known: Iterable[str]) -> None:
    """Refuse a name of a KPI, region or service that is not known, and name the nearest.

    Raises
    ------
    ParametersError
        If `name` is not in `known`.
    """
    names = list(known)
    if name not in names:
        raise ParametersError(f"there is no {what} named {name!r}; {nearest(str(name), names)}")


def interval_text(start: int, stop: int) -> str:
    """Write an interval for a reader: `2026-11-20 00:00 to 2026-11-21 00:00 UTC (24h)`."""
    length = format_duration(int(timedelta(seconds=stop - start).total_seconds()))
    return f"{clock(start)} to {clock(stop)} UTC ({length})"


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


def shipped(name: str) -> Path:
    """Return a folder that comes with the library: `notebooks`, or `parameters` with the defaults.

    In a checkout it is beside the package, in a wheel inside it.
    """
    here = Path(__file__).resolve().parent
    inside = here / "shipped" / name
    return inside if inside.is_dir() else here.parent / name
