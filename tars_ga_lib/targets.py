"""What of the running system is validated, and its limits: the model of `validation.yaml`.

A section that is absent is not forgotten: its checks are in the results as not configured. Only
`left_out` takes a section away, and its reason is told with the results. Secrets are named here by
the environment variables that hold them, and stand in no file.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StrictBool, StrictInt, model_validator

from tars_ga_lib.grammar import Duration, Limit, LimitText, Model, Name, Names, Number, Variable


class Measure(NamedTuple):
    """What a criterion can take from the validation's results: its unit, and SPEC's limit."""

    unit: str
    limit: str


SPECIFIED = {
    "failed": Measure("count", "== 0"),
    "count_difference": Measure("count", "== 0"),
    "replication_lag": Measure("s", "< 0.1"),
    "mission_query_time": Measure("s", "< 0.05"),
    "analytics_query_time": Measure("s", "< 0.2"),
    "dashboard_load_time": Measure("s", "< 2"),
    "panel_query_time": Measure("s", "< 0.5"),
    "agent_memory": Measure("bytes", "< 1.5e9"),
    "agent_memory_growth": Measure("bytes/h", "< 1e7"),
    "oom_kills": Measure("count", "== 0"),
}
MEASURES = tuple(SPECIFIED)

Section = Literal["kpis", "postgres", "redis", "chroma", "grafana", "agents"]


# --- values --------------------------------------------------------------------------------------


def _host(value: str) -> str:
    if set(value) & set("@/? \t\n") or value.count(":") == 1:
        raise ValueError("is not a host name; write it without user, password, port and path")
    return value


def _url(value: str) -> str:
    if set(value) & set("@?#"):
        raise ValueError(
            "the URL holds credentials, a query or a fragment; take them out, and name the "
            "environment variable that holds the secret"
        )
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ValueError(f"{value!r} is not a URL; write it like https://grafana.example.com")
    return value.rstrip("/")


def _limit(text: str) -> Limit:
    operator, number = text.split()
    return Limit(operator, float(number))


def _upper(value: Limit) -> Limit:
    if value.operator[0] == ">":
        raise ValueError(f"'{value}' must be an upper limit; write it like '< 0.5' or '== 0'")
    return value


UpperLimit = Annotated[LimitText, AfterValidator(_upper)]
Host = Annotated[Name, AfterValidator(_host)]
Port = Annotated[StrictInt, Field(ge=1, le=65535)]
Url = Annotated[Name, AfterValidator(_url)]
Share = Annotated[Number, Field(gt=0, le=1)]


class Limited(Model):
    """Something with a limit and, if wanted, a stricter one beyond which it warns."""

    @model_validator(mode="after")
    def _warnings_are_stricter(self) -> Self:
        for key in type(self).model_fields:
            warning, limit = getattr(self, f"{key}_warning", None), getattr(self, key)
            if key == "limit":
                warning = getattr(self, "warning", None)
            if warning is None or limit is None:
                continue
            if warning.operator[0] != limit.operator[0] or not _stricter(warning, limit):
                raise ValueError(
                    f"the warning limit '{warning}' is not stricter than the limit '{limit}', so "
                    "it would never warn; make it the stricter of the two"
                )
        return self


def _stricter(warning: Limit, limit: Limit) -> bool:
    if limit.operator[0] == ">":
        return warning.value >= limit.value
    return warning.value <= limit.value


# --- KPIs of the window --------------------------------------------------------------------------


class KpiThreshold(Limited):
    """One threshold on what a run's recording says of the window, or on its drift analysis."""

    title: Name | None = None
    kpi: Name | None = None
    drift: Literal["worst_adverse"] | None = None
    scope: Literal["overall", "worst_region", "worst_service", "worst_series"] = "overall"
    limit: LimitText
    warning: LimitText | None = None
    min_coverage: Share = 0.95
    min_series_coverage: Share = 0.8

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.kpi is None) == (self.drift is None):
            raise ValueError("give either 'kpi' or 'drift'")
        return self


_THRESHOLDS = {
    "availability": {"kpi": "availability", "limit": ">= 0.999"},
    "error_rate": {"kpi": "error_rate", "limit": "< 0.001"},
    "latency_p99": {"kpi": "latency_p99", "limit": "< 0.5"},
    "websocket_uptime": {"kpi": "websocket_uptime", "limit": ">= 0.999"},
    "drift_stability": {
        "title": "Largest drift",
        "drift": "worst_adverse",
        "limit": "<= 0.1",
        "warning": "<= 0.05",
    },
}


# --- PostgreSQL ----------------------------------------------------------------------------------


class PostgresServer(Model):
    """One server: by a connection string in the environment (`dsn_env`), or by its parts."""

    region: Name
    dsn_env: Variable | None = None
    host: Host | None = None
    port: Port = 5432
    dbname: Name = "tars"
    user: Name = "tars_ga"
    password_env: Variable | None = None
    sslmode: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] = "prefer"
    sslrootcert: Name | None = None

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if (self.dsn_env is None) == (self.host is None):
            raise ValueError("give either 'dsn_env' or 'host'")
        if self.dsn_env and self.model_fields_set != {"region", "dsn_env"}:
            raise ValueError("with 'dsn_env' give nothing else: the connection string holds it all")
        return self


class TableCount(Model):
    """A table whose row counts must agree, on every replica, with the primary's.

    Up to `exact_below` rows (as the planner estimates) the table is counted whole. A larger one is
    counted through the index of its time column `by`: the rows of the last `within`, of which
    those younger than `settle` are left out, as they may still be on their way.
    """

    name: Name
    difference: UpperLimit = _limit("== 0")
    by: Name | None = None
    within: Duration = 3600
    settle: Duration = 10
    exact_below: Annotated[StrictInt, Field(ge=0)] = 100_000


class PostgresQuery(Limited):
    """A query whose time is limited, and the index that it must use.

    `limit` is in seconds; if not given, that of its kind: 50 ms of a mission query, 200 ms of an
    analytics query. `runs` executions are timed: their median counts, and a slowest one beyond the
    limit warns.
    """

    name: Name
    kind: Literal["mission", "analytics"]
    sql: Name
    parameters: dict[Name, Name | Number | StrictBool] = Field(default={})
    limit: UpperLimit = Field(default_factory=lambda known: _limit_of_kind(known))
    warning: UpperLimit | None = None
    index: Name | None = None
    on: Literal["primary", "replicas", "all"] = "all"
    runs: Annotated[StrictInt, Field(ge=1, le=100)] = 5


def _limit_of_kind(known: dict[str, Any]) -> Limit:
    return _limit(SPECIFIED[f"{known.get('kind', 'mission')}_query_time"].limit)


_QUERIES = [
    PostgresQuery(
        name="missions_by_status",
        kind="mission",
        sql="SELECT count(*) FROM missions WHERE status = 'running'",
        index="idx_missions_status",
    ),
    PostgresQuery(
        name="newest_missions",
        kind="mission",
        sql="SELECT * FROM missions ORDER BY created_at DESC LIMIT 100",
        index="idx_missions_created_at",
    ),
    PostgresQuery(
        name="telemetry_of_the_last_hour",
        kind="analytics",
        sql="SELECT count(*) FROM telemetry WHERE timestamp >= now() - interval '1 hour'",
        index="idx_telemetry_timestamp",
    ),
]


class Canary(Model):
    """A row (or key) that is written on the primary and awaited on the replicas.

    Only where `enabled`: everything else that the suite does is read-only. `table` names the table,
    or the key. With `user` it is written by a role of its own, so that the others need not write.
    """

    enabled: StrictBool = False
    table: Name = "tars_ga_canary"
    user: Name | None = None
    password_env: Variable | None = None


class Postgres(Limited):
    """The PostgreSQL servers: one primary, and its streaming replicas."""

    primary: PostgresServer
    replicas: list[PostgresServer] = Field(default=[])
    tables: list[TableCount] = Field(
        default=[
            TableCount(name="missions", by="created_at"),
            TableCount(name="telemetry", by="timestamp"),
        ]
    )
    queries: list[PostgresQuery] = Field(default=_QUERIES)
    replication_lag: UpperLimit = _limit("< 0.1")
    replication_lag_warning: UpperLimit | None = None
    pool: UpperLimit = _limit("< 0.8")
    statement_timeout: Duration = 5
    connect_timeout: Duration = 5
    canary: Canary = Canary()


# --- Redis ---------------------------------------------------------------------------------------


class RedisServer(Model):
    """One server."""

    region: Name
    host: Host
    port: Port = 6379
    username: Name | None = None
    password_env: Variable | None = None
    tls: StrictBool = False
    ca_file: Name | None = None


class KeyCount(Model):
    """A database whose number of keys must agree."""

    db: Annotated[StrictInt, Field(ge=0)] = 0
    difference: UpperLimit = _limit("== 0")


class Redis(Limited):
    """The Redis servers: one primary, and its replicas.

    `required` are keys of database 0 that every server must hold.
    """

    primary: RedisServer
    replicas: list[RedisServer] = Field(default=[])
    keys: list[KeyCount] = Field(default=[KeyCount()])
    required: list[Name] = Field(default=[])
    replication_lag: UpperLimit = _limit("< 0.1")
    replication_lag_warning: UpperLimit | None = None
    clients: UpperLimit = _limit("< 0.8")
    connect_timeout: Duration = 5
    canary: Canary = Canary()


# --- Chroma --------------------------------------------------------------------------------------


class ChromaServer(Model):
    """One server, with the environment variable of its token, if it asks for one."""

    region: Name
    url: Url
    token_env: Variable | None = None
    token_header: Literal["Authorization", "X-Chroma-Token"] = "Authorization"
    tenant: Name = "default_tenant"
    database: Name = "default_database"


class CollectionCount(Model):
    """A collection whose number of vectors must agree."""

    name: Name
    difference: UpperLimit = _limit("== 0")


class Chroma(Model):
    """The Chroma servers: the primary, with which the others are compared."""

    primary: ChromaServer
    replicas: list[ChromaServer] = Field(default=[])
    collections: Annotated[list[CollectionCount], Field(min_length=1)]
    timeout: Duration = 5


# --- Grafana -------------------------------------------------------------------------------------


class Grafana(Limited):
    """A Grafana server and the dashboards, by their uid, that must load and answer.

    `token_env` holds a service account's token. `range` is the time that the panels' queries look
    back; `variables` are values for dashboard variables that have none of their own.
    """

    url: Url
    region: Name | None = None
    token_env: Variable | None = None
    org_id: Annotated[StrictInt, Field(ge=1)] | None = None
    ca_file: Name | None = None
    dashboards: Names
    load_time: UpperLimit = _limit("< 2")
    load_time_warning: UpperLimit | None = None
    panel_query: UpperLimit = _limit("< 0.5")
    panel_query_warning: UpperLimit | None = None
    range: Duration = 3600
    variables: dict[Name, Name] = Field(default={})


# --- agents --------------------------------------------------------------------------------------


class Agents(Limited):
    """Memory of the agents' pods over the certified window, asked of a Prometheus server.

    `prometheus` is its URL; the run's source if not given. `pods` is a regular expression that a
    pod's whole name matches, and `regions` are those in which agents run; all of the run's if not
    given. In the queries `$match` stands for both, and `$by` for the labels that tell regions and
    pods apart. `memory` and `restarts` (a counter) return a series a pod, `oom_killed` is 1 while
    the last end of a container was an OOM kill.
    """

    prometheus: Url | None = None
    pods: Name = "ppo-agent-.*"
    pod_label: Name = "pod"
    regions: Names | None = None
    memory: Name = (
        'sum by ($by) (container_memory_working_set_bytes{$match,container!="",container!="POD"})'
    )
    restarts: Name = "sum by ($by) (kube_pod_container_status_restarts_total{$match})"
    oom_killed: Name = (
        'max by ($by) ({__name__=~"kube_pod_container_status_(last_)?terminated_reason",'
        'reason="OOMKilled",$match})'
    )
    limit: UpperLimit = _limit("< 1.5e9")
    warning: UpperLimit | None = None
    growth: UpperLimit = _limit("< 1e7")
    growth_warning: UpperLimit | None = None
    confidence: Annotated[Number, Field(gt=0.5, lt=1)] = 0.95
    min_coverage: Share = 0.8
    oom_kills: UpperLimit = _limit("== 0")
    restart_count: UpperLimit = _limit("<= 2")
    restart_count_warning: UpperLimit | None = _limit("<= 0")

    @model_validator(mode="after")
    def _pods_match(self) -> Self:
        try:
            re.compile(self.pods)
        except re.error as error:
            raise ValueError(f"pods: {self.pods!r} is not a regular expression ({error})") from None
        return self


# --- the file ------------------------------------------------------------------------------------


class ValidationTargets(Model):
    """The file `validation.yaml`.

    `deadline` bounds the whole suite, `check_timeout` each check. `left_out` names sections that
    this system does not have, each with the reason.
    """

    deadline: Duration = 60
    check_timeout: Duration = 10
    kpis: dict[Name, KpiThreshold] = Field(
        default={n: KpiThreshold.model_validate(each) for n, each in _THRESHOLDS.items()}
    )
    postgres: Postgres | None = None
    redis: Redis | None = None
    chroma: Chroma | None = None
    grafana: Grafana | None = None
    agents: Agents | None = None
    left_out: dict[Section, Name] = Field(default={})

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.check_timeout > self.deadline:
            raise ValueError("'check_timeout' is longer than 'deadline'; make it the shorter")
        for section in self.left_out:
            if section in self.model_fields_set and getattr(self, section):
                raise ValueError(f"'{section}' is configured and left out; take one of them out")
        return self
