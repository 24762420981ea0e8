"""The Prometheus HTTP API, asked for whole grids of numbers at a time.

prometheus-api-client speaks the API. What it leaves open is done here, in the session that it is
given: one pool of connections, numbers parsed in bulk (a Python object per sample costs many times
the transfer), warnings and partial answers kept, refusals turned into sentences. Any server of the
same API serves: Thanos, Mimir, VictoriaMetrics.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import requests
import tenacity
from numpy.typing import NDArray
from prometheus_api_client import PrometheusConnect
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from tars_ga_lib.grammar import ParametersError
from tars_ga_lib.parameters import Source
from tars_ga_lib.recording import INFO

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

MAX_POINTS = 11_000
"""Points a series that a Prometheus server answers at most in one range query."""

ATTEMPTS = 4
"""How often a request is tried at most, if the server or the way to it fails."""

_BATCH_BYTES = 4 << 20

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
    that are NaN or infinite, `nonfinite_at` those of each grid time; `warnings` holds what the
    server said about its answer.
    """

    labels: list[dict[str, str]]
    values: Floats
    warnings: list[str] = field(default_factory=list)
    nonfinite: int = 0
    nonfinite_at: Counts = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass
class _Body:
    """An answer whose numbers are not parsed: `samples[i]` is where those of `series[i]` are."""

    content: bytes
    series: list[dict[str, str]]
    samples: list[tuple[int, int]]
    warnings: list[str]


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
    """Parse all of a range query's answer but its numbers, by the JSON parser."""
    rest: list[bytes] = []
    found: list[tuple[int, int]] = []
    position = 0
    for start, stop in _segments(content):
        # In the place of its samples each series gets the number of their segment.
        rest += [content[position:start], b"%d" % len(found)]
        found.append((start, stop))
        position = stop
    rest.append(content[position:])
    document = json.loads(b"".join(rest))
    data = document["data"]
    if data["resultType"] != "matrix":
        raise ValueError(f"the answer is a {data['resultType']}, not a matrix")
    warnings = [*document.get("warnings", []), *(INFO + t for t in document.get("infos", []))]
    if document.get("isPartial"):
        warnings.append("the server says that its answer is partial")
    series, samples = [], []
    for entry in data["result"]:
        values = entry.get("values", [])
        if values and not isinstance(values[0], int):
            raise ValueError("the samples are not written compactly")
        samples.append(found[values[0]] if values else (0, 0))
        if "values" not in entry:
            warnings.append("a native histogram was answered, which this version does not read")
        series.append(entry["metric"])
    return _Body(content, series, samples, warnings)


def _numbers(segments: list[bytes], columns: list[str]) -> list[Floats]:
    """Parse the chosen columns (`time`, `value`) of `[t,"v"],[t,"v"]` segments in bulk.

    Raises
    ------
    ValueError
        If they hold something else.
    """
    if sum(map(len, segments)) >= _WORTH_ARROW:
        return _numbers_by_arrow(segments, columns)
    flat = np.fromstring(b",".join(segments).translate(None, b'[]"'), np.float64, sep=",")
    pairs = flat.reshape(-1, 2)
    return [pairs[:, ("time", "value").index(c)] for c in columns]


def _numbers_by_arrow(segments: list[bytes], columns: list[str]) -> list[Floats]:
    """Parse as `_numbers` does: in half the time, but pyarrow takes 30 MB of memory."""
    import pyarrow as pa
    from pyarrow import csv

    blob = b"\n".join(segments).replace(b"],[", b"\n").translate(None, b'[]"')
    try:
        table = csv.read_csv(
            pa.BufferReader(blob),
            read_options=csv.ReadOptions(column_names=["time", "value"], use_threads=False),
            convert_options=csv.ConvertOptions(
                include_columns=columns,
                column_types={"time": pa.float64(), "value": pa.float64()},
                null_values=[],
            ),
        )
    except pa.ArrowException as error:
        raise ValueError(str(error)) from None
    # Not to_numpy, which imports pandas.
    return [np.asarray(np.from_dlpack(table.column(c).combine_chunks())) for c in columns]


class _Response(requests.Response):
    """An answer whose range-query numbers are parsed in bulk."""

    def json(self, **kwargs: Any) -> Any:
        """Parse the body; a matrix becomes a `_Body` in the place of its result."""
        if b'"resultType":"matrix"' not in self.content[:200]:
            return super().json(**kwargs)
        return {"data": {"result": _parse(self.content)}}


class _Adapter(HTTPAdapter):
    """An adapter that answers with `_Response`."""

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        response = super().build_response(req, resp)
        response.__class__ = _Response
        return response


class _Session(requests.Session):
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
        if response.status_code != 200:
            raise QueryError(_refusal(response))
        return response


def _refusal(response: requests.Response) -> str:
    try:
        said = str(requests.Response.json(response)["error"])
    except (ValueError, KeyError, TypeError):
        said = response.text[:200].strip() or "no explanation"
    return f"HTTP {response.status_code}: {' '.join(said.split())}"


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost"


def _session(url: str, environ: Mapping[str, str]) -> requests.Session:
    """Build the session; its credentials come from the environment and go nowhere else."""
    session = _Session()
    session.trust_env = False  # no .netrc, no proxy: what is sent where is what we say
    if token := environ.get("TARS_GA_BEARER_TOKEN"):
        session.headers["Authorization"] = f"Bearer {token}"
    elif user := environ.get("TARS_GA_USERNAME"):
        session.auth = (user, environ.get("TARS_GA_PASSWORD", ""))
    if certificate := environ.get("TARS_GA_CLIENT_CERT"):
        key = environ.get("TARS_GA_CLIENT_KEY")
        session.cert = (certificate, key) if key else certificate
    session.verify = environ.get("TARS_GA_CA_BUNDLE") or True
    if _is_local(urlsplit(url).hostname or ""):
        # On a local network compressing costs the server far more than the bytes do.
        session.headers["Accept-Encoding"] = "identity"
    return session


def _secrets(environ: Mapping[str, str]) -> list[str]:
    """Return what must not be repeated, in each form in which it is sent."""
    password = environ.get("TARS_GA_PASSWORD", "")
    pair = f"{environ.get('TARS_GA_USERNAME', '')}:{password}"
    found = [environ.get("TARS_GA_BEARER_TOKEN", ""), password]
    return [each for each in [*found, base64.b64encode(pair.encode()).decode()] if each]


_TRANSIENT = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


class Prometheus:
    """A Prometheus HTTP API.

    Parameters
    ----------
    url
        Its base URL, without credentials.
    timeout
        Seconds that one request may take.
    connections
        How many connections are kept open; as many threads may call at once.
    org_id
        Tenant of a multi-tenant server, sent as `X-Scope-OrgID`.
    environ
        Where the credentials are: `TARS_GA_BEARER_TOKEN`, or `TARS_GA_USERNAME` and
        `TARS_GA_PASSWORD`; `TARS_GA_CLIENT_CERT`, `TARS_GA_CLIENT_KEY`, `TARS_GA_CA_BUNDLE`.
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
    ) -> None:
        self.url = url
        session = _session(url, environ)
        if org_id:
            session.headers["X-Scope-OrgID"] = org_id
        # A server that is there takes a connection soon, however long its answer takes.
        patience = (min(10, timeout), timeout)
        self._api = PrometheusConnect(url, session=session, timeout=patience, method="POST")
        retry = Retry(
            total=None, connect=0, read=False, other=0, redirect=3, status=attempts,
            status_forcelist=(429, 502, 503, 504), allowed_methods=None,
            backoff_factor=0.5, backoff_max=10, raise_on_status=False, retry_after_max=30,
        )  # fmt: skip
        # The client mounts an adapter of its own over the session; ours must come after it.
        session.mount(url, _Adapter(max_retries=retry, pool_maxsize=connections))
        self._secrets = _secrets(environ)
        self._attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_TRANSIENT),
            stop=tenacity.stop_after_attempt(attempts),
            wait=tenacity.wait_random_exponential(multiplier=0.3, max=5),
            reraise=True,
        )

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

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
        body = self._call(
            self._api.custom_query_range,
            query,
            datetime.fromtimestamp(first, UTC),
            datetime.fromtimestamp(last, UTC),
            str(step),
            # VictoriaMetrics otherwise moves start and end to where its cache likes them.
            {"nocache": "1"},
        )
        if not isinstance(body, _Body):
            raise QueryError("the answer is not that of a range query")
        answer = _lay(body, first, last, step)
        answer.warnings = [self._without_secrets(text) for text in answer.warnings]
        return answer

    def _without_secrets(self, text: str) -> str:
        """Take our credentials out of what a server said: it may quote what we sent."""
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return text

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
        except requests.JSONDecodeError:
            raise QueryError("the answer cannot be read (it is not JSON)") from None
        except requests.RequestException as error:
            raise QueryError(f"the request failed ({type(error).__name__})") from None
        except OSError as error:  # of a certificate's file
            raise SourceError(
                f"{self.url}: {error}; correct TARS_GA_CA_BUNDLE, _CLIENT_CERT or _CLIENT_KEY"
            ) from None
        except SourceError as error:
            raise SourceError(f"{self.url}: {error}") from None
        except QueryError as error:
            raise QueryError(self._without_secrets(str(error))) from None
        except (ValueError, KeyError, TypeError) as error:
            raise QueryError(f"the answer cannot be read ({str(error)[:120]})") from None

    def _get(self, path: str, **params: Any) -> Any:
        """Answer of a plain API call."""
        # The client has no call for these; its session is ours.
        session: requests.Session = self._api._session
        url = f"{self.url}/api/v1/{path}"

        def get() -> Any:
            answer = session.request("GET", url, params=params, timeout=self._api._timeout)
            return answer.json()["data"]

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
            return str(info.get("version") or "unknown")
        except QueryError:
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

    def metrics(self, start: int, stop: int) -> set[str]:
        """Names of all metrics that have samples in the interval."""
        return set(self._get("label/__name__/values", start=start, end=stop))

    def label_values(self, label: str, metric: str, start: int, stop: int) -> set[str]:
        """Return the values that a label takes on a metric's series in the interval."""
        params = {"match[]": metric, "start": start, "end": stop}
        return set(self._get(f"label/{label}/values", **params))

    def labels(self, metric: str, start: int, stop: int) -> set[str]:
        """Return the names of the labels that a metric's series have in the interval."""
        params = {"match[]": metric, "start": start, "end": stop}
        return set(self._get("labels", **params)) - {"__name__", "le"}


def connect(
    source: Source, *, timeout: float | None = None, attempts: int = ATTEMPTS
) -> Prometheus:
    """Return a client of the server that the parameters name.

    `timeout` seconds take the place of the source's own.

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
    return Answer(body.series, values, body.warnings, int(nonfinite.sum()), nonfinite)


def _fill(
    values: Floats, batch: list[tuple[int, bytes]], first: int, last: int, step: int
) -> Counts:
    """Fill the rows of one batch, and count the samples of each time that are not finite."""
    nonfinite = np.zeros(values.shape[1], np.int64)
    if not batch:
        return nonfinite
    rows, segments = [row for row, _ in batch], [segment for _, segment in batch]
    counts = [segment.count(b"],[") + 1 for segment in segments]
    whole = all(
        count == values.shape[1] and _ends(segment) == (first, last)
        for count, segment in zip(counts, segments, strict=True)
    )
    try:
        if whole:
            # As many times as the grid has, in order, from its first to its last: these are it.
            (found,) = _numbers(segments, ["value"])
            values[rows] = found.reshape(len(rows), -1)
            nonfinite = np.count_nonzero(~np.isfinite(values[rows]), axis=0)
        else:
            times, found = _numbers(segments, ["time", "value"])
            columns = np.rint((times - first) / step).astype(np.int64)
            if np.any((columns < 0) | (columns >= values.shape[1])) or np.any(
                np.abs(times - first - columns * step) > 1e-3 * step
            ):
                raise QueryError("the server answered for other times than it was asked for")
            values[np.repeat(rows, counts), columns] = found
            np.add.at(nonfinite, columns, ~np.isfinite(found))
    except ValueError as error:
        raise QueryError(f"the answer cannot be read ({str(error)[:120]})") from None
    return nonfinite


def _ends(segment: bytes) -> tuple[float, float]:
    """First and last time of a series' samples."""
    return float(segment[1 : segment.index(b",")]), float(
        segment[segment.rindex(b"[") + 1 : segment.rindex(b",")]
    )


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
    return Answer(
        [dict(n) for n in names],
        values,
        warnings,
        sum(a.nonfinite for a in answers),
        np.concatenate([a.nonfinite_at for a in answers]),
    )
