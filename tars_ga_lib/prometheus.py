"""The Prometheus HTTP API, asked for whole grids of numbers at a time.

prometheus-api-client speaks the API. What it leaves open is done here, in the session that it is
given: numbers parsed in bulk (a Python object per sample costs many times the transfer), each time
of the grid checked, warnings and partial answers kept, refusals turned into sentences. All texts
pass `tars_ga_lib.sanitise`. Any server of the same API serves: Thanos, Mimir, VictoriaMetrics.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import requests
import tenacity
from numpy.typing import NDArray
from prometheus_api_client import PrometheusConnect

from tars_ga_lib import sanitise, strict, transport
from tars_ga_lib.grammar import ParametersError, parse_duration
from tars_ga_lib.parameters import Source

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

MAX_POINTS = 11_000
"""Points a series that a Prometheus server answers at most in one range query."""

ATTEMPTS = 4
"""How often a request is tried at most, if the server or the way to it fails."""

_BATCH_BYTES = 4 << 20

_BYTES_A_SAMPLE = 64
"""Bytes of a sample in an answer: a time and a number of 17 digits have 45."""

_MOST_SLOW = 32 << 20
_MOST_REMARKS = 20
_LONGEST_REMARK = 500
_LONGEST_NAME = 100

_WORTH_ARROW = 1 << 20
"""Bytes of numbers from which on pyarrow's parser saves more than it costs in memory."""


class SourceError(Exception):
    """The source as a whole cannot be used; the text is one sentence."""


class QueryError(Exception):
    """The source answers, but not this query; the text is one sentence."""


@dataclass
class Answer:
    """What a range query brought: `values` has one row a series and one column a grid time.

    A sample that is missing is NaN. `nonfinite` counts the samples that the server did send but
    that are NaN or infinite, `nonfinite_at` those of each grid time; `warnings` holds what puts
    the answer in doubt by the server's own word, `infos` its remarks that do not.
    """

    labels: list[dict[str, str]]
    values: Floats
    warnings: list[str] = field(default_factory=list)
    nonfinite: int = 0
    nonfinite_at: Counts = field(default_factory=lambda: np.zeros(0, np.int64))
    infos: list[str] = field(default_factory=list)


@dataclass
class _Body:
    """An answer whose numbers are not parsed: `samples[i]` is where those of `series[i]` are."""

    content: bytes
    series: list[dict[str, str]]
    samples: list[tuple[int, int]]
    warnings: list[str]
    infos: list[str]


def _segments(content: bytes) -> Iterator[tuple[int, int]]:
    """Where the samples of each series stand in an answer.

    The opening mark cannot stand inside a JSON string, where its quotes would be escaped, and
    samples hold no bracket pair but the closing one.
    """
    position = 0
    while (start := content.find(b'"values":[[', position)) >= 0:
        start += len(b'"values":[')
        stop = content.find(b"]]", start) + 1
        if not stop:
            raise ValueError("the answer ends in the middle of its samples")
        yield start, stop
        position = stop


def _parse(content: bytes) -> _Body:
    """Parse all of a range query's answer but its numbers, by the JSON parser.

    Raises
    ------
    ValueError
        If it is not one.
    """
    rest: list[bytes] = []
    found: list[tuple[int, int]] = []
    position = 0
    for start, stop in _segments(content):
        # In the place of its samples each series gets the number of their segment.
        rest += [content[position:start], b"%d" % len(found)]
        found.append((start, stop))
        position = stop
    rest.append(content[position:])
    whole = b"".join(rest)
    if len(whole) > transport.FLOOR:
        raise ValueError("it says far more than samples")
    document = strict.loads(whole)
    data = _data(document)
    if not isinstance(data, dict) or data.get("resultType") != "matrix":
        raise ValueError("it is not that of a range query")
    warnings, infos = _remarks(document, "warnings"), _remarks(document, "infos")
    if document.get("isPartial"):
        warnings.append("the server says that its answer is partial")
    series, samples, names = [], [], set()
    for entry in data["result"]:
        values = entry.get("values", [])
        if values and not isinstance(values[0], int):
            raise _NotCompactError
        samples.append(found[values[0]] if values else (0, 0))
        if "values" not in entry:
            warnings.append("a native histogram was answered, which this version does not read")
        labels = entry["metric"]
        if not all(isinstance(value, str) for value in labels.values()):
            raise ValueError("a label is not a text")
        names.add(tuple(sorted(labels.items())))
        series.append(labels)
    if len(names) < len(series):
        raise ValueError("it holds one series twice")
    return _Body(content, series, samples, warnings, infos)


class _NotCompactError(ValueError):
    """The answer's samples are not where a compact answer has them."""


def _parse_any(content: bytes) -> _Body:
    """Parse an answer, written compactly or not; the latter takes many times the time."""
    try:
        if b'"resultType":"matrix"' in content[:200]:
            return _parse(content)
    except _NotCompactError:
        pass
    if len(content) > _MOST_SLOW:
        raise ValueError("it is large, and not written compactly")
    document = strict.loads(content)
    compact = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    try:
        return _parse(compact)
    except _NotCompactError:
        raise ValueError("its samples are not those of a range query") from None


def _data(document: Any) -> Any:
    """Return the data of an answer.

    Raises
    ------
    ValueError
        If it has none.
    QueryError
        If the server says that it failed, by whatever status of HTTP.
    """
    if not isinstance(document, dict):
        raise ValueError("it is not that of a Prometheus server")
    if document.get("status") != "success":
        said = str(document.get("error") or "")[:_LONGEST_REMARK]
        if not said and "status" not in document:
            raise ValueError("it does not say that it is a success")
        raise QueryError(f"the server says that it failed: {said or 'it does not say why'}")
    return document.get("data")


def _remarks(document: dict[str, Any], key: str) -> list[str]:
    """Return what a server remarks, of a length that can be shown."""
    remarks = document.get(key) or []
    if not isinstance(remarks, list) or not all(isinstance(text, str) for text in remarks):
        raise ValueError(f"its {key} are not a list of texts")
    kept = [text[:_LONGEST_REMARK] for text in remarks[:_MOST_REMARKS]]
    more = len(remarks) - len(kept)
    return [*kept, f"and {more} more"] if more else kept


def _numbers(segments: list[bytes]) -> tuple[Floats, Floats]:
    """Parse the times and values of `[t,"v"],[t,"v"]` segments in bulk.

    Raises
    ------
    ValueError
        If they hold something else.
    """
    if sum(map(len, segments)) >= _WORTH_ARROW:
        return _numbers_by_arrow(segments)
    flat = np.fromstring(b",".join(segments).translate(None, b'[]"'), np.float64, sep=",")
    pairs = flat.reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _numbers_by_arrow(segments: list[bytes]) -> tuple[Floats, Floats]:
    """Parse as `_numbers` does: in half the time, but pyarrow takes 30 MB of memory."""
    import pyarrow as pa
    from pyarrow import csv

    blob = b"\n".join(segments).replace(b"],[", b"\n").translate(None, b'[]"')
    try:
        table = csv.read_csv(
            pa.BufferReader(blob),
            read_options=csv.ReadOptions(column_names=["time", "value"], use_threads=False),
            convert_options=csv.ConvertOptions(
                column_types={"time": pa.float64(), "value": pa.float64()},
                null_values=[],
            ),
        )
    except pa.ArrowException as error:
        raise ValueError(str(error)) from None
    # Not to_numpy, which imports pandas.
    times, values = (
        np.asarray(np.from_dlpack(table.column(name).combine_chunks()))
        for name in ("time", "value")
    )
    return times, values


class _Session(transport.Session):
    """A session that sends queries as forms and turns refusals into errors of ours."""

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> Any:
        if method == "POST" and not kwargs.get("data"):
            # Long queries do not fit into a URL; the API takes them as a form.
            kwargs["data"] = kwargs.pop("params", None)
        response = super().request(method, url, *args, **kwargs)
        if response.status_code in (401, 403):
            raise SourceError(
                f"it refuses our credentials (HTTP {response.status_code}); set "
                "TARS_GA_BEARER_TOKEN, or TARS_GA_USERNAME and TARS_GA_PASSWORD"
            )
        if response.status_code in transport.BUSY:
            raise _BusyError(_refusal(response), transport.retry_after(response))
        if response.status_code != 200:
            raise QueryError(_refusal(response))
        response.__class__ = _Response
        return response


class _Response(requests.Response):
    """An answer whose range-query numbers are parsed in bulk."""

    def json(self, **_: Any) -> Any:
        """Parse the body of a range query; the result is a `_Body`."""
        return {"data": {"result": _parse_any(self.content)}}


class _BusyError(QueryError):
    """The server asks to come again, in `after` seconds."""

    def __init__(self, text: str, after: float) -> None:
        super().__init__(text)
        self.after = after


def _refusal(response: requests.Response) -> str:
    try:
        said = str(strict.loads(response.content)["error"])
    except (ValueError, KeyError, TypeError):
        said = response.text[:200].strip() or "no explanation"
    return f"HTTP {response.status_code}: {' '.join(said[:_LONGEST_REMARK].split())}"


_TRANSIENT = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


def _wait(state: tenacity.RetryCallState) -> float:
    """Seconds until the next attempt: longer each time, and as long as a busy server asks."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.after if isinstance(error, _BusyError) else 0.0
    return max(asked, tenacity.wait_random_exponential(multiplier=0.3, max=5)(state))


class Prometheus:
    """A Prometheus HTTP API.

    Parameters
    ----------
    url
        Its base URL, without credentials.
    timeout
        Seconds that one request may take, to the last byte of its answer.
    connections
        How many connections are kept open; as many threads may call at once.
    org_id
        Tenant of a multi-tenant server, sent as `X-Scope-OrgID`.
    environ
        Where the credentials are: `TARS_GA_BEARER_TOKEN`, or `TARS_GA_USERNAME` and
        `TARS_GA_PASSWORD`; `TARS_GA_CLIENT_CERT`, `TARS_GA_CLIENT_KEY`, `TARS_GA_CA_BUNDLE`.
    series
        Series that an answer may have; together with its steps they limit its size.
    deadline
        Seconds after which nothing is asked any more, and what is under way is cut.

    Raises
    ------
    ParametersError
        If a credential or `org_id` cannot stand in a header.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 120,
        connections: int = 2,
        org_id: str | None = None,
        environ: Mapping[str, str] = os.environ,
        attempts: int = ATTEMPTS,
        series: int = 1000,
        deadline: float | None = None,
    ) -> None:
        self.url = transport.shown(url)
        self._base, self._series = url, series
        self._session = _Session(url, environ, timeout)
        if org_id:
            self._session.headers["X-Scope-OrgID"] = transport.header_text(org_id, "source.org_id")
        # A server that is there takes a connection soon, however long its answer takes.
        self._patience = (min(10, timeout), timeout)
        self._api = PrometheusConnect(
            url, session=self._session, timeout=self._patience, method="POST"
        )
        # The client mounts an adapter of its own over the session; ours must come after it.
        self._session.mount(url, transport.Adapter(pool_maxsize=connections))
        self._secrets = sanitise.secrets(environ)
        self._attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((*_TRANSIENT, _BusyError)),
            stop=tenacity.stop_after_attempt(attempts),
            wait=_wait,
            sleep=tenacity.sleep_using_event(self._session.ended),
            reraise=True,
        )
        self._deadline = None
        if deadline is not None:
            why = (
                f"it did not answer all queries within {deadline:.0f} s; see what slows it down, "
                "or raise source.deadline (30 times source.timeout if not given)"
            )
            self._deadline = threading.Timer(deadline, self._session.end, [why])
            self._deadline.daemon = True
            self._deadline.start()

    def close(self) -> None:
        """Close the connections."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._session.close()

    def end(self, why: str) -> None:
        """Cut what is under way, in whichever thread, and ask nothing any more."""
        self._session.end(why)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """End all requests if the block is left by an error, like that of Ctrl-C."""
        try:
            yield
        except BaseException:
            self.end("it was interrupted")
            raise

    def __enter__(self) -> Prometheus:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def range(self, query: str, start: int, stop: int, step: int) -> Answer:
        """Evaluate a query at the end of each step of [start, stop).

        Parameters
        ----------
        query
            PromQL whose result is an instant vector.
        start, stop, step
            Epoch seconds; `step` divides the interval. The grid is start + step, …, stop.

        Raises
        ------
        SourceError
            If the server cannot be reached or refuses our credentials.
        QueryError
            If the server refuses this query or answers what cannot be read.
        """
        steps = (stop - start) // step
        pieces = [(first, min(MAX_POINTS, steps - first)) for first in range(0, steps, MAX_POINTS)]
        answers = []
        while pieces:
            first, count = pieces.pop(0)
            grid = start + (first + 1) * step, start + (first + count) * step
            try:
                answers.append(self._grid(query, *grid, step))
            except QueryError as error:
                # A server's limit of samples a query is met by asking for less at once.
                if "too many samples" not in str(error) or count == 1:
                    raise
                half = count // 2
                pieces[:0] = [(first, half), (first + half, count - half)]
        return answers[0] if len(answers) == 1 else _join(answers)

    def _grid(self, query: str, first: int, last: int, step: int) -> Answer:
        steps = (last - first) // step + 1
        most = max(transport.FLOOR, steps * self._series * _BYTES_A_SAMPLE)
        with self._session.limited(most):
            body: _Body = self._call(
                self._api.custom_query_range,
                query,
                datetime.fromtimestamp(first, UTC),
                datetime.fromtimestamp(last, UTC),
                str(step),
                # VictoriaMetrics otherwise moves start and end to where its cache likes them.
                {"nocache": "1"},
            )
        if 8 * steps * len(body.series) > most:
            raise QueryError(
                f"the answer has {len(body.series):,} series, far more than what was asked for has"
            )
        answer = _lay(body, first, last, step)
        answer.labels = sanitise.tree(answer.labels, self._secrets)
        answer.warnings = sanitise.tree(answer.warnings, self._secrets)
        answer.infos = sanitise.tree(answer.infos, self._secrets)
        return answer

    def _clean(self, error: object) -> str:
        return sanitise.text(str(error), self._secrets)

    def _call(self, method: Any, *args: Any) -> Any:
        try:
            return self._attempts(method, *args)
        except requests.Timeout:
            raise QueryError("no answer in time; raise source.timeout") from None
        except requests.exceptions.SSLError:
            raise SourceError(
                f"{self.url}: its certificate is not trusted; set TARS_GA_CA_BUNDLE"
            ) from None
        except _TRANSIENT:
            raise SourceError(
                f"{self.url}: cannot be reached; see that the server runs and the URL is right"
            ) from None
        except requests.RequestException as error:
            raise QueryError(f"the request failed ({type(error).__name__})") from None
        except OSError as error:  # of a certificate's file
            raise SourceError(
                f"{self.url}: {error}; correct TARS_GA_CA_BUNDLE, _CLIENT_CERT or _CLIENT_KEY"
            ) from None
        except (SourceError, transport.EndedError) as error:
            raise SourceError(f"{self.url}: {self._clean(error)}") from None
        except transport.MovedError as error:
            raise SourceError(
                f"{self.url}: {self._clean(error)}, where our credentials do not go; name that "
                "server in source.prometheus"
            ) from None
        except (QueryError, transport.TooLargeError) as error:
            raise QueryError(self._clean(error)) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise QueryError(f"the answer cannot be read ({self._clean(error)[:120]})") from None

    def _get(self, path: str, **params: Any) -> Any:
        """Answer of a plain API call."""
        # The client has no call for these.
        url = f"{self._base}/api/v1/{path}"

        def get() -> Any:
            answer = self._session.request("GET", url, params=params, timeout=self._patience)
            return sanitise.tree(_data(strict.loads(answer.content)), self._secrets)

        return self._call(get)

    def version(self) -> str:
        """Name and version that the server says of itself; also proves that it answers.

        Raises
        ------
        SourceError
            If the server cannot be reached or refuses our credentials.
        """
        try:
            info = self._get("status/buildinfo")
            return str(info.get("version") or "unknown")[:_LONGEST_NAME]
        except (QueryError, AttributeError):
            pass
        try:
            self._get("query", query="vector(1)")
        except QueryError as error:
            raise SourceError(
                f"{self.url}: does not answer as a Prometheus server ({error})"
            ) from None
        return "unknown"

    def now(self) -> float:
        """Epoch seconds by the server's clock: the one that gives samples their times.

        Raises
        ------
        SourceError
            If the server cannot be reached or refuses our credentials.
        QueryError
            If it does not say.
        """
        found = self._get("query", query="vector(time())")
        try:
            return float(found["result"][0]["value"][1])
        except (LookupError, TypeError, ValueError):
            raise QueryError("the server does not say what time it is") from None

    def scrape_intervals(self) -> list[tuple[dict[str, str], float]]:
        """Labels and scrape interval in seconds of each target that is configured now.

        Nothing from a server that has no targets of its own, as Thanos, Mimir and VictoriaMetrics.
        """
        try:
            targets = self._get("targets", state="active")["activeTargets"]
            return [
                (one["labels"], float(parse_duration(one["scrapeInterval"])))
                for one in targets
                if one.get("scrapeInterval")
            ]
        except (QueryError, SourceError, LookupError, TypeError, ValueError, AttributeError):
            return []

    def spacings(self, selector: str, at: int, seconds: int) -> list[tuple[dict[str, str], Floats]]:
        """Labels of each series, and the seconds from each raw sample to the next.

        Parameters
        ----------
        selector
            PromQL that selects series.
        at, seconds
            End and length of the time that is looked at; nothing if the server does not tell.
        """
        try:
            found = self._get("query", query=f"{selector}[{seconds}s]", time=at)["result"]
            return [
                (one["metric"], np.diff([float(time) for time, _ in one["values"]]))
                for one in found
            ]
        except (QueryError, SourceError, LookupError, TypeError, ValueError):
            return []

    def metrics(self, start: int, stop: int) -> set[str]:
        """Names of all metrics that have samples in the interval."""
        return _texts(self._get("label/__name__/values", start=start, end=stop))

    def labels(self, metric: str, start: int, stop: int) -> set[str]:
        """Return the names of the labels that a metric's series have in the interval."""
        return _texts(self._get("labels", **{"match[]": metric, "start": start, "end": stop}))

    def label_values(self, label: str, metric: str, start: int, stop: int) -> set[str]:
        """Return the values that a label takes on a metric's series in the interval."""
        params = {"match[]": metric, "start": start, "end": stop}
        return _texts(self._get(f"label/{label}/values", **params))


def _texts(values: Any) -> set[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise QueryError("the answer cannot be read (it is not a list of names)")
    return set(values)


def connect(
    source: Source,
    *,
    timeout: float | None = None,
    attempts: int = ATTEMPTS,
    series: int = 1000,
    deadline: float | None = None,
) -> Prometheus:
    """Return a client of the server that the parameters name.

    `timeout` seconds take the place of the source's own; for the others see `Prometheus`.

    Raises
    ------
    ParametersError
        If they name a recording.
    """
    if source.prometheus is None:
        raise ParametersError("source: it names a recording, and this needs 'prometheus' (a URL)")
    return Prometheus(
        source.prometheus,
        timeout=timeout or source.timeout,
        attempts=attempts,
        connections=source.connections,
        org_id=source.org_id,
        series=series,
        deadline=deadline,
    )


def _lay(body: _Body, first: int, last: int, step: int) -> Answer:
    """Parse an answer's numbers and lay them on their grid, some megabytes at a time.

    Raises
    ------
    QueryError
        If the samples cannot be read, or are not of the grid that was asked for.
    """
    values = np.full((len(body.series), (last - first) // step + 1), np.nan)
    nonfinite = np.zeros(values.shape[1], np.int64)
    batch, size = [], 0
    for row, (start, stop) in enumerate(body.samples):
        batch.append((row, body.content[start:stop]))
        size += stop - start
        if size > _BATCH_BYTES or row == len(body.samples) - 1:
            nonfinite += _fill(values, [item for item in batch if item[1]], first, last, step)
            batch, size = [], 0
    return Answer(body.series, values, body.warnings, int(nonfinite.sum()), nonfinite, body.infos)


def _fill(
    values: Floats, batch: list[tuple[int, bytes]], first: int, last: int, step: int
) -> Counts:
    """Fill the rows of one batch, and count the samples of each time that are not finite."""
    nonfinite = np.zeros(values.shape[1], np.int64)
    if not batch:
        return nonfinite
    rows, segments = [row for row, _ in batch], [segment for _, segment in batch]
    counts = [segment.count(b"],[") + 1 for segment in segments]
    try:
        times, found = _numbers(segments)
    except ValueError as error:
        raise QueryError(f"the answer cannot be read ({str(error)[:120]})") from None
    if len(times) != sum(counts):
        raise QueryError("the answer cannot be read (its samples are not pairs)")
    places = (times - first) / step
    # Not "more than a thousandth away", which no NaN is.
    if not np.all((np.abs(places - np.rint(places)) <= 1e-3) & (np.abs(places) < 2**31)):
        raise QueryError("the server answered for other times than it was asked for")
    columns = np.rint(places).astype(np.int64)
    if np.any((columns < 0) | (columns >= values.shape[1])):
        raise QueryError("the server answered for other times than it was asked for")
    later = np.diff(columns) > 0
    later[np.cumsum(counts)[:-1] - 1] = True  # from one series to the next
    if not later.all():
        raise QueryError("the server answered for a time twice, or not in the order of time")
    values[np.repeat(rows, counts), columns] = found
    np.add.at(nonfinite, columns, ~np.isfinite(found))
    return nonfinite


def _join(answers: list[Answer]) -> Answer:
    """Join the answers of consecutive grids, series by series."""
    names: dict[tuple[tuple[str, str], ...], int] = {}
    for answer in answers:
        for labels in answer.labels:
            names.setdefault(tuple(sorted(labels.items())), len(names))
    values = np.full((len(names), sum(a.values.shape[1] for a in answers)), np.nan)
    column = 0
    for answer in answers:
        width = answer.values.shape[1]
        rows = [names[tuple(sorted(labels.items()))] for labels in answer.labels]
        values[rows, column : column + width] = answer.values
        column += width
    warnings = list(dict.fromkeys(text for a in answers for text in a.warnings))
    infos = list(dict.fromkeys(text for a in answers for text in a.infos))
    return Answer(
        [dict(n) for n in names],
        values,
        warnings,
        sum(a.nonfinite for a in answers),
        np.concatenate([a.nonfinite_at for a in answers]),
        infos,
    )
