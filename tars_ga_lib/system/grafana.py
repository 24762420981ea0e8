"""Grafana: it is healthy, its dashboards load, and every panel's query answers in time.

All is asked by its HTTP API with a service account's token, as a dashboard in a browser would ask;
drawing in a browser is not measured.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from tars_ga_lib.grammar import Limit
from tars_ga_lib.system.check import Check, NotMeasured, Reading, part
from tars_ga_lib.targets import Grafana, ValidationTargets

_NO_QUERY = ("-- Dashboard --", "-- Grafana --", "grafana", "dashboard")
"""Data sources that are no server: a panel that shows another's result, and built-in ones."""
_MAX_DATA_POINTS = 1000
_VARIABLE = re.compile(r"\$\{(\w+)(?:\.\w+)?(?::(\w+))?\}|\[\[(\w+)(?::(\w+))?\]\]|\$(\w+)")


def checks(targets: ValidationTargets) -> list[Check]:
    """Return the checks of a Grafana server: its health, and two of each dashboard."""
    grafana = targets.grafana
    if grafana is None:
        return []
    api = _Api(grafana, targets.check_timeout)

    def check(name: str, title: str, query: str, read: Callable[[], Reading], **more: Any) -> Check:
        return Check(
            id=f"grafana.{name}",
            title=title,
            group="grafana",
            region=grafana.region,
            target=grafana.url,
            query=query,
            read=read,
            secrets=(grafana.token_env,) if grafana.token_env else (),
            **more,
        )

    health = check(
        "health", "Grafana answers 200", "GET /api/health", partial(_health, api),
        measure=None, unit="bool", limit=Limit("==", 1.0), warning=None,
    )  # fmt: skip
    found = [health]
    for uid in grafana.dashboards:
        load = check(
            f"dashboard_load_time.{part(uid)}",
            f"Dashboard {uid} loads",
            f"GET /api/dashboards/uid/{uid}",
            partial(_load, api, uid),
            measure="dashboard_load_time",
            unit="s",
            limit=grafana.load_time,
            warning=grafana.load_time_warning,
        )
        panels = check(
            f"panel_query_time.{part(uid)}",
            f"Slowest panel query of dashboard {uid}",
            f"POST /api/ds/query of each panel of GET /api/dashboards/uid/{uid}",
            partial(_panels, api, uid),
            measure="panel_query_time",
            unit="s",
            limit=grafana.panel_query,
            warning=grafana.panel_query_warning,
        )
        found += [load, panels]
    return found


# --- the API -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Answer:
    """An HTTP answer, its JSON (None if it is none), and the seconds until all of it was there."""

    status: int
    body: Any
    seconds: float

    @property
    def message(self) -> str:
        """What the server says is wrong."""
        said = self.body.get("message") if isinstance(self.body, dict) else None
        return f"HTTP {self.status}" + (f" ({said})" if said else "")


class _Api:
    """Grafana's HTTP API; a session is opened by the first call."""

    def __init__(self, grafana: Grafana, timeout: float) -> None:
        self.grafana, self._timeout = grafana, timeout
        self._session: Any = None

    def _open(self) -> Any:
        import requests

        session = requests.Session()
        session.trust_env = False  # no .netrc, no proxy: what is sent where is what we say
        session.verify = self.grafana.ca_file or True
        if variable := self.grafana.token_env:
            token = os.environ.get(variable)
            if not token:
                raise NotMeasured(
                    "not_configured", f"the environment variable {variable} is not set"
                )
            session.headers["Authorization"] = f"Bearer {token}"
        if self.grafana.org_id is not None:
            session.headers["X-Grafana-Org-Id"] = str(self.grafana.org_id)
        return session

    def call(self, method: str, path: str, json: Any = None) -> _Answer:
        """Ask, and read the whole answer.

        Raises
        ------
        NotMeasured
            If no answer comes, or it refuses our credentials.
        """
        import requests

        if self._session is None:
            self._session = self._open()
        started = time.perf_counter()
        try:
            response = self._session.request(
                method,
                self.grafana.url + path,
                json=json,
                timeout=(min(5, self._timeout), self._timeout),
                allow_redirects=False,
            )
        except requests.Timeout:
            raise NotMeasured("timed_out", f"no answer within {self._timeout} s") from None
        except requests.exceptions.SSLError:
            raise NotMeasured(
                "unreachable", "its certificate is not trusted; set grafana.ca_file"
            ) from None
        except requests.RequestException as error:
            raise NotMeasured(
                "unreachable", f"cannot be reached ({type(error).__name__}); see that it runs"
            ) from None
        seconds = time.perf_counter() - started
        try:
            body = response.json()
        except requests.JSONDecodeError:
            body = None
        answer = _Answer(response.status_code, body, seconds)
        if answer.status in (401, 403):
            variable = self.grafana.token_env
            remedy = f"see the token in {variable}" if variable else "name a token by token_env"
            raise NotMeasured("unauthorised", f"{answer.message}; {remedy}")
        if 300 <= answer.status < 400:
            raise NotMeasured(
                "refused",
                f"HTTP {answer.status}: it sends us elsewhere, as to a page for signing in",
            )
        return answer


def _health(api: _Api) -> Reading:
    answer = api.call("GET", "/api/health")
    body = answer.body if isinstance(answer.body, dict) else {}
    says = f"version {body.get('version', 'unknown')}, database {body.get('database', 'unknown')}"
    healthy = answer.status == 200 and body.get("database") == "ok"
    return Reading(float(healthy), f"HTTP {answer.status}, {says}")


def _dashboard(api: _Api, uid: str) -> tuple[dict[str, Any], float]:
    """Return a dashboard's model and the seconds that it took.

    Raises
    ------
    NotMeasured
        If there is none.
    """
    answer = api.call("GET", f"/api/dashboards/uid/{uid}")
    if answer.status != 200:
        cause = "refused" if answer.status < 500 else "error"
        raise NotMeasured(cause, f"dashboard {uid}: {answer.message}")  # type: ignore[arg-type]
    model = answer.body.get("dashboard") if isinstance(answer.body, dict) else None
    if not isinstance(model, dict):
        raise NotMeasured("error", f"dashboard {uid}: the answer holds no dashboard")
    return model, answer.seconds


def _load(api: _Api, uid: str) -> Reading:
    model, seconds = _dashboard(api, uid)
    panels = sum(1 for _ in _with_queries(model))
    doubt = "" if panels else "it has no panel with a query"
    return Reading(seconds, f"{model.get('title', uid)}, {panels} panels with queries", doubt)


# --- panels --------------------------------------------------------------------------------------


def _panels(api: _Api, uid: str) -> Reading:
    """Time the query of every panel; the slowest counts, and one that errs is no measurement."""
    model, _ = _dashboard(api, uid)
    values = _values(model, api.grafana)
    times: dict[str, float] = {}
    problems: dict[str, NotMeasured] = {}
    rows = 0
    for panel in _with_queries(model):
        name = str(panel.get("title") or f"panel {panel.get('id')}")
        try:
            times[name], found = _ask(api, panel, values)
            rows += found
        except NotMeasured as error:
            if error.cause in ("unreachable", "unauthorised"):
                raise
            problems[name] = error
    slowest = max(times, key=lambda name: times[name], default="")
    broken = bool(times) and not api.grafana.panel_query.holds(times[slowest])
    wrong = "; ".join(f"{name}: {error.reason}" for name, error in problems.items())
    if problems and not broken:
        first = next(iter(problems.values()))
        raise NotMeasured(first.cause, f"{len(problems)} panels do not answer: {wrong}")
    if not times:
        raise NotMeasured("no_rows", f"dashboard {uid} has no panel with a query")
    if not rows and not broken:
        raise NotMeasured("no_rows", "every panel's query answers, but none with a single row")
    details = f"{slowest} is the slowest of {len(times)} panels"
    return Reading(times[slowest], "; ".join(text for text in (details, wrong) if text))


def _with_queries(model: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the panels that ask a data source, those in collapsed rows too."""
    for panel in model.get("panels") or []:
        if panel.get("type") == "row":
            yield from _with_queries(panel)
        elif "libraryPanel" in panel or _targets(panel):
            yield panel


def _targets(panel: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the queries of a panel that it shows, each with its data source."""
    found = []
    for target in panel.get("targets") or []:
        source = target.get("datasource") or panel.get("datasource")
        name = source.get("uid") if isinstance(source, dict) else source
        if not target.get("hide") and name not in _NO_QUERY:
            found.append({**target, "datasource": source})
    return found


def _ask(api: _Api, panel: Mapping[str, Any], values: Mapping[str, Any]) -> tuple[float, int]:
    """Ask a panel's queries as its dashboard would; return the seconds and the rows.

    Raises
    ------
    NotMeasured
        If it cannot be asked, or the answer holds an error.
    """
    if "libraryPanel" in panel and not panel.get("targets"):
        panel = _library(api, panel)
    span = api.grafana.range
    queries = [
        {
            "refId": chr(65 + i) if i < 26 else f"Q{i}",
            "intervalMs": max(1000, span * 1000 // _MAX_DATA_POINTS),
            "maxDataPoints": _MAX_DATA_POINTS,
            **_replaced(target, values),
            "datasource": _source(api, target["datasource"], values),
        }
        for i, target in enumerate(_targets(panel))
    ]
    now = int(time.time() * 1000)
    body = {"queries": queries, "from": str(now - span * 1000), "to": str(now)}
    answer = api.call("POST", "/api/ds/query", body)
    results = answer.body.get("results") if isinstance(answer.body, dict) else None
    errors = [r["error"] for r in (results or {}).values() if r.get("error")]
    if errors or answer.status not in (200, 207):
        said = str(errors[0]) if errors else answer.message
        raise NotMeasured("refused" if answer.status < 500 else "error", said[:300])
    if not isinstance(results, dict) or set(results) != {query["refId"] for query in queries}:
        raise NotMeasured("error", "the answer does not hold a result of each query")
    frames = [frame for result in results.values() for frame in result.get("frames") or []]
    return answer.seconds, sum(_rows(frame) for frame in frames)


def _rows(frame: Mapping[str, Any]) -> int:
    columns = (frame.get("data") or {}).get("values") or []
    return max((len(column) for column in columns), default=0)


def _library(api: _Api, panel: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the model of a library panel."""
    uid = panel["libraryPanel"].get("uid", "")
    answer = api.call("GET", f"/api/library-elements/{uid}")
    try:
        model: Mapping[str, Any] = answer.body["result"]["model"]
    except (KeyError, TypeError):
        raise NotMeasured("refused", f"library panel {uid}: {answer.message}") from None
    return model


def _source(api: _Api, source: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a query's data source by its uid: it may be a name, a variable, or the default."""
    source = _replaced(source, values)
    if isinstance(source, dict) and source.get("uid") not in (None, "", "default"):
        return source
    name = source.get("uid") if isinstance(source, dict) else source
    answer = api.call("GET", "/api/datasources")
    for each in answer.body if isinstance(answer.body, list) else []:
        default = name in (None, "", "default") and each.get("isDefault")
        if default or name in (each.get("name"), each.get("uid")):
            return {"type": each.get("type"), "uid": each["uid"]}
    raise NotMeasured("refused", f"there is no data source '{name or 'default'}'")


# --- variables -----------------------------------------------------------------------------------


def _values(model: Mapping[str, Any], grafana: Grafana) -> dict[str, Any]:
    """Return what each variable of a dashboard stands for: ours first, then its own current one."""
    found: dict[str, Any] = {}
    for variable in (model.get("templating") or {}).get("list") or []:
        value = (variable.get("current") or {}).get("value")
        if value in (None, "", []):
            value = (
                variable.get("query") if variable.get("type") in ("constant", "textbox") else None
            )
        if value in ("$__all", ["$__all"]):
            options = [o.get("value") for o in variable.get("options") or []]
            known = [o for o in options if o not in (None, "$__all")]
            value = variable.get("allValue") or known or ".*"
        found[str(variable.get("name"))] = value
    return found | grafana.variables


def _replaced(value: Any, values: Mapping[str, Any]) -> Any:
    """Put the variables' values into every text of a query.

    Raises
    ------
    NotMeasured
        If a variable has no value.
    """
    if isinstance(value, dict):
        return {key: _replaced(each, values) for key, each in value.items()}
    if isinstance(value, list):
        return [_replaced(each, values) for each in value]
    return _VARIABLE.sub(partial(_filled, values), value) if isinstance(value, str) else value


def _filled(values: Mapping[str, Any], match: re.Match[str]) -> str:
    name = match[1] or match[3] or match[5]
    if name not in values:
        # $__interval and its like, and capture groups, are for Grafana and its data source.
        return match[0]
    value = values[name]
    if value in (None, "", []):
        raise NotMeasured(
            "not_configured",
            f"the variable '{name}' has no value; give one as grafana.variables.{name}",
        )
    if isinstance(value, str):
        return value
    form, texts = match[2] or match[4], [str(each) for each in value]
    if form == "csv":
        return ",".join(texts)
    if form == "pipe":
        return "|".join(texts)
    # In a string of PromQL a backslash is written twice; `regex` asks for the plain expression.
    mark = r"\\\1" if form == "regex" else r"\\\\\1"
    texts = [re.sub(r"([\\^$*+?.()|\[\]{}])", mark, text) for text in texts]
    return texts[0] if len(texts) == 1 else f"({'|'.join(texts)})"
