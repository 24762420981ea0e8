"""The recording: every sample that a run read, with where it came from.

A recording is a folder: one Parquet file a span (the window, and each baseline interval) with one
row a series, and `recording.json`, which keeps for each sample set its query, server, time, what
the server warned of, and a digest of its samples. Everything that a report says is derived from
it, so a recording is also a source: any run can be replayed without the server.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StrictBool, StrictInt, StrictStr

from tars_ga_lib import atomic, sanitise, strict
from tars_ga_lib.evidence import verify
from tars_ga_lib.grammar import Model, ParametersError, check, format_duration, format_time

if TYPE_CHECKING:
    from pyarrow import parquet

Floats = NDArray[np.float64]

SCHEMA = "tars-ga/recording/1"

_LAST_SECOND = 2**36
_SLACK = 64 << 20
_RATIO = 1000
"""A recording's file may hold so many times its size in samples, beyond `_SLACK` bytes of them."""


@dataclass(frozen=True)
class Provenance:
    """Where one sample set came from.

    `template` is the query as the catalogue writes it and `by` the label that names each of its
    dimensions; `query` is what was sent. `samples` counts the finite samples, `nonfinite` those
    that were sent but are NaN or infinite. `warnings` is what put the answer in doubt by the
    server's own word, `infos` its remarks that did not. `error` says why there is no answer, or is
    empty.
    """

    id: str
    template: str
    by: dict[str, str]
    query: str
    server: str
    collected_at: str
    series: int = 0
    samples: int = 0
    nonfinite: int = 0
    warnings: list[str] = field(default_factory=list)
    error: str = ""
    digest: str = ""
    infos: list[str] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """Return what `recording.json` keeps; recordings without remarks have no key for them."""
        facts = asdict(self)
        return facts if self.infos else {k: v for k, v in facts.items() if k != "infos"}


@dataclass(frozen=True)
class SampleSet:
    """The answer to one query: `values` has a row a series and a column a step, NaN = missing."""

    provenance: Provenance
    labels: list[dict[str, str]]
    values: Floats

    @classmethod
    def of(
        cls,
        provenance: Provenance,
        labels: list[dict[str, str]],
        values: Floats,
    ) -> SampleSet:
        """Build a set in its canonical order, with counts and digest filled in."""
        order = sorted(range(len(labels)), key=lambda i: sorted(labels[i].items()))
        labels, values = [labels[i] for i in order], values[order]
        values[np.isnan(values)] = np.nan  # one NaN only: others differ in their bytes
        return cls(
            replace(
                provenance,
                series=len(labels),
                samples=int(np.count_nonzero(np.isfinite(values))),
                digest=_digest(labels, values),
            ),
            labels,
            values,
        )


def _digest(labels: list[dict[str, str]], values: Floats) -> str:
    """SHA-256 over the labels and the little-endian numbers of a sample set."""
    names = json.dumps([sorted(one.items()) for one in labels], ensure_ascii=False)
    sha = hashlib.sha256(names.encode())
    sha.update(np.ascontiguousarray(values, dtype="<f8").data)
    return "sha256:" + sha.hexdigest()


def _digest_of_facts(facts: dict[str, Any]) -> str:
    return "sha256:" + hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Span:
    """One interval of a recording, [start, stop) in epoch seconds, and its sample sets by id."""

    name: str
    start: int
    stop: int
    step: int
    sets: dict[str, SampleSet]

    @property
    def steps(self) -> int:
        """Number of steps."""
        return (self.stop - self.start) // self.step

    @property
    def times(self) -> NDArray[np.datetime64]:
        """End of each step, as UTC `datetime64[s]`, shape (steps,)."""
        ends = self.start + self.step * np.arange(1, self.steps + 1)
        return ends.astype("datetime64[s]")

    def find(self, template: str, by: Mapping[str, str]) -> SampleSet | None:
        """Return the set that was asked for with this template and these labels."""
        for one in self.sets.values():
            if one.provenance.template == template and one.provenance.by == by:
                return one
        return None

    def cut(self, start: int, stop: int, step: int, name: str) -> Span:
        """Return the same sets on another interval; what was not recorded is missing.

        Raises
        ------
        ParametersError
            If the interval's grid does not meet the recorded one.
        """
        if step != self.step or (start - self.start) % step:
            raise ParametersError(
                f"source.recording: it was recorded in steps of {format_duration(self.step)} from "
                f"{format_time(self.start)}, which the window's start and step do not meet; "
                "choose a start and step that do"
            )
        if (start, stop) == (self.start, self.stop):
            return replace(self, name=name)
        first, steps = (start - self.start) // step, (stop - start) // step
        here = np.arange(max(first, 0), min(first + steps, self.steps))
        sets = {}
        for key, one in self.sets.items():
            values = np.full((len(one.labels), steps), np.nan)
            values[:, here - first] = one.values[:, here]
            sets[key] = SampleSet.of(one.provenance, one.labels, values)
        return Span(name, start, stop, step, sets)


@dataclass(frozen=True)
class Recording:
    """All samples that a run read, with what is known of their source.

    `spans` holds `window` and `baseline_1`, `baseline_2`, …; `problems` what went wrong with the
    source as a whole; `origin` is the folder that it was loaded from, if it is unchanged since.
    """

    server: str
    version: str
    software: str
    collected_at: str
    simulated: bool
    spans: dict[str, Span]
    problems: list[str] = field(default_factory=list)
    origin: Path | None = None

    @property
    def window(self) -> Span:
        """The span that is certified."""
        return self.spans["window"]

    @property
    def baselines(self) -> list[Span]:
        """The baseline's spans, in the order of the parameters."""
        return [span for name, span in self.spans.items() if name != "window"]

    def provenance(self) -> Iterator[tuple[Span, Provenance]]:
        """Yield where every sample set came from."""
        for span in self.spans.values():
            for one in span.sets.values():
                yield span, one.provenance

    def digest(self) -> str:
        """SHA-256 over all that `recording.json` says, the digests of the sample sets included.

        Warnings and errors count as much as samples: without them an answer looks whole.
        """
        return _digest_of_facts(self._facts())

    def save(self, folder: Path) -> None:
        """Write the recording; `recording.json` comes last, so a folder that has it is whole."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.origin is not None:
            # A replay keeps the very bytes, whichever version of pyarrow wrote them.
            for name in (*(f"{span}.parquet" for span in self.spans), "recording.json"):
                write_bytes(folder / name, (self.origin / name).read_bytes())
            return
        for span in self.spans.values():
            _write_parquet(span, folder / f"{span.name}.parquet")
        facts = self._facts()
        write_json(folder / "recording.json", facts | {"digest": _digest_of_facts(facts)})

    def _facts(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "simulated": self.simulated,
            "server": self.server,
            "version": self.version,
            "software": self.software,
            "collected_at": self.collected_at,
            "problems": self.problems,
            "spans": [
                {
                    "name": span.name,
                    "start": format_time(span.start),
                    "end": format_time(span.stop),
                    "start_seconds": span.start,
                    "end_seconds": span.stop,
                    "step_seconds": span.step,
                    "sets": [one.provenance.facts() for one in span.sets.values()],
                }
                for span in self.spans.values()
            ],
        }


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, which is never half there: see `tars_ga_lib.atomic`."""
    with atomic.file(path) as stream:
        stream.write(content)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_json(path: Path, document: Any) -> None:
    """Write a JSON file; a NaN in it is an error, as JSON has none."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


# pyarrow is imported where a file is read or written: who watches a day does neither until its end,
# and would hold 30 MB for it.


def _write_parquet(span: Span, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns = pa.schema(
        [
            ("set", pa.dictionary(pa.int16(), pa.string())),
            ("labels", pa.map_(pa.string(), pa.string())),
            ("values", pa.list_(pa.float64())),
        ]
    )
    ids = [key for key, one in span.sets.items() for _ in one.labels]
    labels = [sorted(row.items()) for one in span.sets.values() for row in one.labels]
    values = [one.values.ravel() for one in span.sets.values()]
    flat = np.concatenate(values) if values else np.empty(0)
    offsets = np.arange(len(ids) + 1, dtype=np.int32) * np.int32(span.steps)
    table = pa.table(
        [
            pa.array(ids, pa.string()).dictionary_encode().cast(columns.field("set").type),
            pa.array(labels, columns.field("labels").type),
            pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat, pa.float64())),
        ],
        schema=columns,
    )
    with atomic.file(path) as stream:
        parquet.write_table(table, stream, compression="zstd", compression_level=9)


def locate(path: Path) -> Path:
    """Return the recording's folder: the path itself, or `recording` in a run's folder.

    In the folder of a run that was watched and not certified yet, it is in `watch`.

    Raises
    ------
    ParametersError
        If there is no whole recording.
    """
    for folder in (path, path / "recording", path / "watch" / "recording"):
        if (folder / "recording.json").is_file():
            return folder
    raise ParametersError(
        f"{path}: there is no recording in it; name a run's folder or its recording folder"
    )


def load(path: Path) -> Recording:
    """Read a recording, or that of a package's archive, and check it against its digests.

    Raises
    ------
    ParametersError
        If it is missing, of another version, or not what was recorded.
    """
    import pyarrow as pa

    if Path(path).is_file():
        return _load_packed(Path(path))
    folder = locate(Path(path))
    try:
        facts = strict.loads((folder / "recording.json").read_bytes())
        if facts["schema"] != SCHEMA:
            raise ParametersError(
                f"{folder}: is a {facts['schema']}, and this version reads {SCHEMA}; "
                "use the version that wrote it"
            )
        if facts.pop("digest") != _digest_of_facts(facts):
            raise ParametersError(f"{folder}: recording.json was changed; take an undamaged copy")
        check(_Facts, facts, f"{folder}/recording.json")
        spans = {one["name"]: _read_span(folder, one) for one in facts["spans"]}
        recording = Recording(
            server=facts["server"],
            version=facts["version"],
            software=facts["software"],
            collected_at=facts["collected_at"],
            simulated=facts["simulated"],
            spans=spans,
            problems=facts["problems"],
            origin=folder,
        )
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        if isinstance(error, (ParametersError, MemoryError)):  # Arrow has a MemoryError of its own
            raise
        raise ParametersError(
            f"{folder}: is not a readable recording ({type(error).__name__}: {error}); "
            "take an undamaged copy"
        ) from None
    return recording


def _load_packed(archive: Path) -> Recording:
    """Read the recording inside an evidence package's archive."""
    with verify.unpacked(archive) as folder:
        return replace(load(folder), origin=None)


class _SetFacts(Model):
    """What `recording.json` says of a sample set: see `Provenance`."""

    id: StrictStr
    template: StrictStr
    by: dict[StrictStr, StrictStr]
    query: StrictStr
    server: StrictStr
    collected_at: StrictStr
    series: Annotated[StrictInt, Field(ge=0)] = 0
    samples: Annotated[StrictInt, Field(ge=0)] = 0
    nonfinite: Annotated[StrictInt, Field(ge=0)] = 0
    warnings: list[StrictStr] = Field(default=[])
    error: StrictStr = ""
    digest: StrictStr = ""
    infos: list[StrictStr] = Field(default=[])


class _SpanFacts(Model):
    """What `recording.json` says of a span; its name is that of a file beside it."""

    name: Annotated[StrictStr, Field(pattern=r"^(window|baseline_[1-9][0-9]{0,3})$")]
    start: StrictStr
    end: StrictStr
    start_seconds: Annotated[StrictInt, Field(ge=0, le=_LAST_SECOND)]
    end_seconds: Annotated[StrictInt, Field(ge=0, le=_LAST_SECOND)]
    step_seconds: Annotated[StrictInt, Field(ge=1)]
    sets: list[_SetFacts]


class _Facts(Model):
    """What `recording.json` holds."""

    schema_: StrictStr = Field(alias="schema")
    simulated: StrictBool
    server: StrictStr
    version: StrictStr
    software: StrictStr
    collected_at: StrictStr
    problems: list[StrictStr]
    spans: list[_SpanFacts]


def _check_parquet(file: parquet.ParquetFile, path: Path, series: int, steps: int) -> None:
    """See that a file says it holds the samples that it should, before any is read.

    pyarrow aborts the process where the metadata of single columns is damaged, so that they are
    not asked: whoever reads a stranger's recording does it in a child with little memory, as
    `tars_ga_lib.evidence.replay` does.
    """
    if file.metadata.num_rows != series:
        raise ParametersError(
            f"{path}: holds {file.metadata.num_rows} series instead of {series}; take an "
            "undamaged copy"
        )
    if 8 * series * steps > _SLACK + _RATIO * path.stat().st_size:
        raise ParametersError(
            f"{path}: is said to hold more than {_RATIO} times its size; take an undamaged copy"
        )


def _read_span(folder: Path, facts: dict[str, Any]) -> Span:
    import pyarrow as pa
    from pyarrow import parquet

    pa.set_memory_pool(pa.system_memory_pool())  # its own keeps what was freed: 30 MB of a run
    start, stop, step = facts["start_seconds"], facts["end_seconds"], facts["step_seconds"]
    path, steps = folder / f"{facts['name']}.parquet", (stop - start) // step
    # Neither read_table nor to_numpy: they import pyarrow's data sets and pandas, which takes
    # longer than reading.
    with parquet.ParquetFile(path) as file:
        _check_parquet(file, path, sum(one["series"] for one in facts["sets"]), steps)
        table = file.read()
    rows: Floats = np.asarray(np.from_dlpack(table.column("values").combine_chunks().values))
    values = rows.reshape(table.num_rows, steps)
    labels = [dict(row) for row in table.column("labels").to_pylist()]
    sets, first = {}, 0
    for one in facts["sets"]:
        provenance = Provenance(**one)
        last = first + provenance.series
        found = SampleSet(provenance, labels[first:last], values[first:last])
        if _digest(found.labels, found.values) != provenance.digest or provenance.id in sets:
            raise ParametersError(
                f"{folder / facts['name']}.parquet: the samples of '{provenance.id}' are not what "
                "was recorded (their digest differs); take an undamaged copy"
            )
        sets[provenance.id] = replace(found, labels=sanitise.tree(found.labels))
        first = last
    return Span(facts["name"], start, stop, step, sets)
