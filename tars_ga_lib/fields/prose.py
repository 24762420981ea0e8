"""Report fields in prose: what happened, why the decision is what it is, what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tars_ga_lib.display import duration, when
from tars_ga_lib.fields.values import (
    CERTIFICATION,
    DRIFT,
    REGIONS,
    SLO,
    Found,
    Items,
    Known,
    NoDataError,
    block,
)
from tars_ga_lib.grammar import parse_time
from tars_ga_lib.parameters import MEASURED
from tars_ga_lib.tables import Column, frame

RIGHT = "right"
VALIDATION, SESSIONS = MEASURED["validation"], MEASURED["websocket"]
PACKAGE = "ga_certification_package.tar.gz"

Facts = Mapping[str, Any]


def tell(known: Known) -> Any:
    """Return what `story` tells of the run, told once."""
    if not hasattr(known, "_story"):
        from tars_ga_lib import story

        def optional(read: Callable[[], Any]) -> Any:
            try:
                return read()
            except NoDataError:
                return None

        told = story.tell(
            known.run,
            known.document(DRIFT),
            known.document(REGIONS),
            known.document(CERTIFICATION),
            slos=optional(lambda: known.document(SLO)),
            validation=optional(lambda: known.measured("validation")),
            sessions=optional(lambda: known.measured("websocket")),
        )
        known._story = told  # type: ignore[attr-defined]
    return known._story  # type: ignore[attr-defined]


def sentences(key: str, topic: str = "", kind: str = "") -> Callable[[Known], Found]:
    """List what the story says of something, and what people wrote of it."""

    def find(known: Known) -> Found:
        from tars_ga_lib import story

        told = tell(known)
        texts = [_with_answers(each) for each in getattr(told, key)]
        parts = [Items(texts or [story.EMPTY.get(key, "Nothing is to be said of it.")])]
        if topic and (quotes := [each for each in told.quoted if each.topic == topic]):
            parts.append(Items([each.text for each in quotes], f"Quoted: {quotes[0].source}"))
        return block(*parts)

    return find


def _with_answers(each: Any) -> str:
    change = getattr(each, "change", "")
    answers = getattr(each, "answers", ())
    text = f"{each.text} {change}".strip()
    return f"{text} (answers {', '.join(answers)})" if answers else text


def actions(term: str) -> Callable[[Known], Found]:
    """List the actions of a term that the findings ask for, and those that people agreed on."""

    def find(known: Known) -> Found:
        from tars_ga_lib import story

        told = [_with_answers(each) for each in tell(known).actions if each.term == term]
        parts = [Items(told or [story.EMPTY["actions"]])]
        try:
            facts = known.given("actions")
        except NoDataError:
            return block(*parts)
        agreed = [_agreed(each) for each in facts.actions if each.term == term]
        return block(*parts, *([Items(agreed, f"Agreed: {facts.source}")] if agreed else []))

    return find


def _agreed(action: Any) -> str:
    more = [
        f"by {action.owner}" if action.owner else "",
        f"until {when(action.due)}" if action.due else "",
        f"answers {action.answers}" if action.answers else "",
    ]
    said = ", ".join(filter(None, more))
    return f"{action.title} ({said})" if said else str(action.title)


def drift_actions(known: Known) -> Found:
    """List the actions that answer findings of the drift analysis."""
    from tars_ga_lib import story

    told = [
        _with_answers(each)
        for each in tell(known).actions
        if any(rest.startswith(DRIFT) for rest in each.rests_on)
    ]
    return block(Items(told or [story.EMPTY["actions"]]))


def timeline(phase: str, kinds: Sequence[str] = ()) -> Callable[[Known], Found]:
    """Show what happened before, in or after the window."""

    def find(known: Known) -> Found:
        from tars_ga_lib import story

        events = [
            each
            for each in tell(known).events
            if each.phase == phase and (not kinds or each.kind in kinds)
        ]
        rows = [[_times(each), each.tone, each.where, each.text] for each in events]
        columns: list[Column | str] = [
            "When",
            Column("Severity", "verdict"),
            "Where",
            "What happened",
        ]
        empty = story.EMPTY.get("events" if phase == "window" else phase, "Nothing is known.")
        return block(frame(columns, rows, empty=empty))

    return find


def _times(event: Any) -> str:
    if event.start is None:
        return "before the window"
    if event.ongoing:
        return f"since {when(event.start)}"
    length = 0 if event.end is None else parse_time(event.end) - parse_time(event.start)
    return when(event.start) + (f", {duration(length)}" if length else "")
