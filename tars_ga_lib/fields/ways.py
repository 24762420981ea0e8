"""The ways to a field's value that `report_fields.yaml` names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tars_ga_lib.fields.values import Found

TITLES = {
    "ENG_LEAD": "engineering lead",
    "RELEASE_MANAGER": "release manager",
    "QA_LEAD": "QA lead",
    "DEVOPS_LEAD": "DevOps lead",
    "SRE_LEAD": "SRE lead",
    "PM": "product manager",
    "VP_ENG": "VP of engineering",
}
"""Who signs, by the beginning of the fields' names."""

Find = Callable[..., Found]
"""Takes what is known of a run, and what the table of fields tells; or raises `NoDataError`."""


@dataclass(frozen=True)
class Way:
    """A way to a value: the sort of its source, the source in words, and the function itself."""

    sort: Literal["run", "query", "evidence", "computation"]
    words: str
    find: Find

    def source(self, *told: str) -> str:
        """Write where the value comes from."""
        last = told[-1].replace("_", " ") if told else ""
        title = TITLES.get(told[0], "") if told else ""
        return self.words.format(*told, last=last, all=" ".join(told), title=title)


WAYS: dict[str, Way] = {}


def way(sort: Any, words: str) -> Callable[[Find], Find]:
    """Register a function under its own name; `words` say its source, `{0}` what it is told."""

    def register(find: Find) -> Find:
        WAYS[find.__name__] = Way(sort, words, find)
        return find

    return register
