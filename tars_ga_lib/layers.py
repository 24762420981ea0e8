"""Files laid over each other: what differs is written, and no more.

The later file wins. Mappings are joined key by key, at any depth; anything else, lists included,
is replaced; and a key that is laid over with nothing (`numerator: null`) is taken out, as by JSON
Merge Patch (RFC 7386). Where each part came from is kept, so that an error blames the file or the
option that is wrong, and `tars-ga show` tells it.

OmegaConf, which does the same for configurations, was tried and does not serve: it refuses the
times that YAML has (`UnsupportedValueType`), takes `${...}` in a query for an interpolation of its
own (`InterpolationKeyError`), and does not keep where a value came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import yaml
from pydantic import BeforeValidator, InstanceOf, PlainSerializer, WithJsonSchema

from tars_ga_lib.grammar import ParametersError, nearest

Place = tuple[int | str, ...]


class Files(tuple[Path, ...]):
    """Files that are laid over each other, the later over the earlier."""

    def __str__(self) -> str:
        return " + ".join(map(str, self))


def _files(value: object) -> object:
    several = value if isinstance(value, list) else [value]
    if not several or not all(isinstance(each, str) and each for each in several):
        raise ValueError(f"it must be a path, or a list of paths, not {_short(value)}")
    return Files(map(Path, several))


def _short(value: object) -> str:
    return "a mapping" if isinstance(value, Mapping) else repr(value)[:60]


def _written(files: Files) -> str | list[str]:
    return str(files[0]) if len(files) == 1 else [str(file) for file in files]


Layers = Annotated[
    InstanceOf[Files],
    BeforeValidator(_files),
    PlainSerializer(_written),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "path"},
                {"type": "array", "items": {"type": "string", "format": "path"}, "minItems": 1},
            ]
        }
    ),
]
"""A file, or several that are laid over each other."""


class Assignment(NamedTuple):
    """One `--set`: `keys` name a place, `value` replaces what is there; `option` never holds it."""

    option: str
    keys: list[str]
    value: Any


@dataclass
class Layered:
    """A document made of layers; `origins` says what last spoke of each place in it.

    `whole`, if given, is what an error of the document as a whole is told of.
    """

    value: Any
    origins: dict[Place, str]
    whole: str = ""

    @classmethod
    def of(cls, value: Any, name: str) -> Layered:
        """Begin with one layer."""
        return cls(value, {(): name})

    def lay(self, value: Any, name: str) -> None:
        """Lay another file over all that is there."""
        self.value = self._joined(self.value, value, (), name)

    def assign(self, assignment: Assignment, *, entries: str = "") -> None:
        """Replace what is at one place.

        Parameters
        ----------
        entries
            Key of a mapping by name, in which a name that is not there is a mistake.

        Raises
        ------
        ParametersError
            If the place cannot be.
        """
        option, keys, value = assignment
        known = self.value.get(entries) if entries and isinstance(self.value, dict) else None
        inside = keys[0] == entries and len(keys) > 2
        if inside and isinstance(known, dict) and keys[1] not in known:
            raise ParametersError(
                f"{option}: there is no {entries} entry named {keys[1]!r}; "
                f"{nearest(keys[1], known)}"
            )
        self.value = self._assigned(self.value, keys, value, (), option)

    def name_of(self, place: Sequence[int | str]) -> str:
        """Return what last spoke of a place, or of what it is in."""
        if not place and self.whole:
            return self.whole
        above = (tuple(place[:length]) for length in range(len(place), -1, -1))
        return next(self.origins[outer] for outer in above if outer in self.origins)

    def _joined(self, base: Any, value: Any, place: Place, name: str) -> Any:
        if not (isinstance(base, dict) and isinstance(value, dict)):
            return self._replaced(value, place, name)
        if place:
            self.origins[place] = name
        joined = dict(base)
        for key, inner in value.items():
            if inner is None and key in joined:
                del joined[key]
                self._forget((*place, key))
            else:
                joined[key] = self._joined(joined.get(key), inner, (*place, key), name)
        return joined

    def _assigned(self, base: Any, keys: Sequence[str], value: Any, place: Place, name: str) -> Any:
        if not keys:
            return self._replaced(value, place, name)
        if place:
            self.origins[place] = name
        key, *rest = keys
        if isinstance(base, list):
            if not (key.isascii() and key.isdigit() and int(key) < len(base)):
                where = ".".join(map(str, place))
                raise ParametersError(
                    f"{name}: {where} is a list of {len(base)}; {key!r} is no place in it: give "
                    f"0 to {len(base) - 1}, or the whole list"
                )
            at = int(key)
            inner = self._assigned(base[at], rest, value, (*place, at), name)
            return [*base[:at], inner, *base[at + 1 :]]
        there = dict(base) if isinstance(base, dict) else {}
        there[key] = self._assigned(there.get(key), rest, value, (*place, key), name)
        return there

    def _replaced(self, value: Any, place: Place, name: str) -> Any:
        self._forget(place)
        self.origins[place] = name
        return value

    def _forget(self, place: Place) -> None:
        for other in [one for one in self.origins if one[: len(place)] == place]:
            del self.origins[other]


def text_of(document: Any) -> str:
    """Write a document as YAML, a key a line, in its order."""
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)


def lines_of(text: str) -> dict[Place, int]:
    """Line, from 1, on which each place of the first document of a YAML text begins."""
    lines: dict[Place, int] = {}

    def walk(node: yaml.Node | None, place: Place) -> None:
        if isinstance(node, yaml.MappingNode):
            inner = [(key.value, key, value) for key, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            inner = [(number, value, value) for number, value in enumerate(node.value)]
        else:
            return
        for name, begins, value in inner:
            lines[(*place, name)] = begins.start_mark.line + 1
            walk(value, (*place, name))

    walk(next(yaml.compose_all(text, Loader=yaml.SafeLoader), None), ())
    return lines


def with_origins(layered: Layered) -> list[tuple[str, str]]:
    """Return a document as lines of YAML, each with the file and line, or option, it is from."""
    text = text_of(layered.value)
    files = {name: Path(name) for name in set(layered.origins.values()) if Path(name).is_file()}
    sources = {name: lines_of(file.read_text(encoding="utf-8")) for name, file in files.items()}
    places = {line: place for place, line in reversed(lines_of(text).items())}
    told = []
    for number, line in enumerate(text.splitlines(), 1):
        origin = ""
        if (place := places.get(number)) is not None:
            name = layered.name_of(place)
            at = sources.get(name, {}).get(place)
            origin = f"{name}:{at}" if at else name
        told.append((line, origin))
    return told
