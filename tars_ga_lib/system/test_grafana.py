"""Is Grafana healthy, do its dashboards load, and does every panel's query answer in time?

All is asked by its HTTP API with a service account's token, as a dashboard in a browser would ask;
drawing in a browser is not measured.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from typing import Any

from tars_ga_lib.system import web
from tars_ga_lib.system.checks import Cause, NotMeasured, Reading, Scope, check
from tars_ga_lib.system.server import Server
from tars_ga_lib.targets import Grafana

grafana = partial(check, group="grafana")

_NO_QUERY = ("-- Dashboard --", "-- Grafana --", "grafana", "dashboard")
"""Data sources that are no server: a panel that shows another's result, and built-in ones."""
_MAX_DATA_POINTS = 1000
_VARIABLE = re.compile(r"\$\{(\w+)(?:\.\w+)?(?::(\w+))?\}|\[\[(\w+)(?::(\w+))?\]\]|\$(\w+)")


@lru_cache(maxsize=1)  # one connection for all checks
def servers(scope: Scope) -> list[Server]:
    """Return the Grafana server, if the validation file has one."""
    grafana = scope.targets.grafana
    if grafana is None:
        return []
    token, problem = web.token(grafana.token_env, scope.environ)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if grafana.org_id is not None:
        headers["X-Grafana-Org-Id"] = str(grafana.org_id)
    api = web.Server(
        grafana.url,
        "Grafana",
        scope.targets.check_timeout,
        headers,
        ca_file=grafana.ca_file,
        remedy=f"see the token in {grafana.token_env}" if token else "name a token by token_env",
    )
    return [
        Server(
            region=grafana.region,
            address=grafana.url,
            secrets=(grafana.token_env,) if grafana.token_env else (),
            to={"api": api},
            settings=grafana,
            problem=problem,
        )
    ]


def dashboards(scope: Scope) -> list[Server]:
    """Return each dashboard that must load and answer."""
    return [at.asked(uid, uid) for at in servers(scope) for uid in at.settings.dashboards]


def _ask(at: Server, method: str, path: str, json: Any = None) -> web.Answer:
    api: web.Server = at.usable()["api"]
    return api.ask(method, path, json)


@grafana(
    name="grafana.health",
    title="Grafana answers 200",
    limit="== 1",
    query="GET /api/health",
    at=servers,
)
def test_grafana_health(at: Server) -> Reading:
    """See that Grafana and its database are up."""
    answer = _ask(at, "GET", "/api/health")
    body = answer.body if isinstance(answer.body, dict) else {}
    says = f"version {body.get('version', 'unknown')}, database {body.get('database', 'unknown')}"
    healthy = answer.status == 200 and body.get("database") == "ok"
    return Reading(float(healthy), f"HTTP {answer.status}, {says}")


@grafana(
    name="grafana.dashboard_load_time",
    title="Dashboard {at.of} loads",
    limit="load_time",
    query=lambda at: f"GET /api/dashboards/uid/{at.of}",
    measure="dashboard_load_time",
    at=dashboards,
)
def test_dashboard_load_time(at: Server) -> Reading:
    """Time how long a dashboard's model takes to load."""
    model, seconds = _dashboard(at)
    panels = sum(1 for _ in _with_queries(model))
    doubt = "" if panels else "it has no panel with a query"
    return Reading(seconds, f"{model.get('title', at.of)}, {panels} panels with queries", doubt)


@grafana(
    name="grafana.panel_query_time",
    title="Slowest panel query of dashboard {at.of}",
    limit="panel_query",
    query=lambda at: f"POST /api/ds/query of each panel of GET /api/dashboards/uid/{at.of}",
    measure="panel_query_time",
    at=dashboards,
)
def test_panel_query_time(at: Server) -> Reading:
    """Time the query of every panel; the slowest counts, and one that errs is no measurement."""
    model, _ = _dashboard(at)
    values = _values(model, at.settings)
    times: dict[str, float] = {}
    problems: dict[str, NotMeasured] = {}
    rows = 0
    for panel in _with_queries(model):
        name = str(panel.get("title") or f"panel {panel.get('id')}")
        try:
            times[name], found = _ask_panel(at, panel, values)
            rows += found
        except NotMeasured as error:
            if error.cause in ("unreachable", "unauthorised"):
                raise
            problems[name] = error
    slowest = max(times, key=lambda name: times[name], default="")
    broken = bool(times) and not at.settings.panel_query.holds(times[slowest])
    wrong = "; ".join(f"{name}: {error.reason}" for name, error in problems.items())
    if problems and not broken:
        first = next(iter(problems.values()))
        raise NotMeasured(first.cause, f"{len(problems)} panels do not answer: {wrong}")
    if not times:
        raise NotMeasured("no_rows", f"dashboard {at.of} has no panel with a query")
    if not rows and not broken:
        raise NotMeasured("no_rows", "every panel's query answers, but none with a single row")
    details = f"{slowest} is the slowest of {len(times)} panels"
    return Reading(times[slowest], "; ".join(text for text in (details, wrong) if text))


# --- the dashboard and its panels -----------------------------------------------------------------


def _dashboard(at: Server) -> tuple[dict[str, Any], float]:
    """Return a dashboard's model and the seconds that it took.

    Raises
    ------
    NotMeasured
        If there is none.
    """
    answer = _ask(at, "GET", f"/api/dashboards/uid/{at.of}")
    if answer.status != 200:
        cause: Cause = "refused" if answer.status < 500 else "error"
        raise NotMeasured(cause, f"dashboard {at.of}: {answer.message}")
    model = answer.body.get("dashboard") if isinstance(answer.body, dict) else None
    if not isinstance(model, dict):
        raise NotMeasured("error", f"dashboard {at.of}: the answer holds no dashboard")
    return model, answer.seconds


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


def _ask_panel(
    at: Server, panel: Mapping[str, Any], values: Mapping[str, Any]
) -> tuple[float, int]:
    """Ask a panel's queries as its dashboard would; return the seconds and the rows.

    Raises
    ------
    NotMeasured
        If it cannot be asked, or the answer holds an error.
    """
    if "libraryPanel" in panel and not panel.get("targets"):
        panel = _library(at, panel)
    span = at.settings.range
    queries = [
        {
            "refId": chr(65 + i) if i < 26 else f"Q{i}",
            "intervalMs": max(1000, span * 1000 // _MAX_DATA_POINTS),
            "maxDataPoints": _MAX_DATA_POINTS,
            **_replaced(target, values),
            "datasource": _source(at, target["datasource"], values),
        }
        for i, target in enumerate(_targets(panel))
    ]
    now = int(time.time() * 1000)
    body = {"queries": queries, "from": str(now - span * 1000), "to": str(now)}
    answer = _ask(at, "POST", "/api/ds/query", body)
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


def _library(at: Server, panel: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the model of a library panel."""
    uid = panel["libraryPanel"].get("uid", "")
    answer = _ask(at, "GET", f"/api/library-elements/{uid}")
    try:
        model: Mapping[str, Any] = answer.body["result"]["model"]
    except (KeyError, TypeError):
        raise NotMeasured("refused", f"library panel {uid}: {answer.message}") from None
    return model


def _source(at: Server, source: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a query's data source by its uid: it may be a name, a variable, or the default."""
    source = _replaced(source, values)
    if isinstance(source, dict) and source.get("uid") not in (None, "", "default"):
        return source
    name = source.get("uid") if isinstance(source, dict) else source
    answer = _ask(at, "GET", "/api/datasources")
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
