"""The registry of the report's fields: name, meaning, unit, and where each value comes from.

What a field means is in `report_fields.yaml`; here is the way to its value. A source is of one of
four sorts: `run` (a fact of a file that the run derived or measured), `query` (a KPI of the
catalogue over the window), `evidence` (a file that the user gave) or `computation` (of those). One
that does not answer gives NO DATA with the reason, never a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tars_ga_lib.display import when
from tars_ga_lib.fields import evidence as ev
from tars_ga_lib.fields import figures as fig
from tars_ga_lib.fields import prose as tale
from tars_ga_lib.fields import system as live
from tars_ga_lib.fields import values as fv
from tars_ga_lib.fields.values import (
    BASELINE,
    CERTIFICATION,
    DRIFT,
    SLO,
    SUMMARY,
    FieldValue,
    Finder,
    Known,
    Unit,
    computed,
    evidence,
    figure,
    from_evidence,
    from_run,
    of_file,
    peak,
)
from tars_ga_lib.grammar import read_yaml
from tars_ga_lib.run import Run


@dataclass(frozen=True)
class Field:
    """One field of the report: what it means, its unit, and the way to its value."""

    name: str
    section: str
    meaning: str
    unit: Unit
    finder: Finder

    @property
    def block(self) -> bool:
        """Whether it is a block of Markdown (tables, lists)."""
        return self.unit == fv.BLOCK

    def value(self, known: Known) -> FieldValue:
        """Find the field's value, or the reason why there is none."""
        source = self.finder.source
        return fv.settle(self.name, self.unit, lambda: self.finder.find(known), source)

    def facts(self) -> dict[str, Any]:
        """Return the field as JSON has it."""
        return {
            "name": self.name,
            "section": self.section,
            "meaning": self.meaning,
            "unit": self.unit.si,
            "sort": self.finder.sort,
            "from": self.finder.source,
        }


_UNITS = {
    "percent": fv.RATIO,
    "count": fv.COUNT,
    "milliseconds": fv.MILLISECONDS,
    "seconds": fv.SECONDS,
    "minutes": fv.MINUTES,
    "hours": fv.HOURS,
    "days": fv.DAYS,
    "mebibytes": fv.MIB,
    "gibibytes": fv.GIB,
    "megabits per second": fv.MBPS,
    "per second": fv.PER_SECOND,
    "dollars": fv.USD,
    "requests per core second": fv.PER_CORE_SECOND,
    "requests per second per GiB": fv.PER_GIB_SECOND,
    "time": fv.TIME,
    "text": fv.TEXT,
    "block": fv.BLOCK,
}

Read = Callable[[Known], fv.Found]


def _story(find: Read) -> Finder:
    return computed(f"story of {DRIFT}, {CERTIFICATION}, alerts and evidence files", find)


def _links(*kinds: str, own: Any = None) -> Finder:
    source = f"links file, {' and '.join(kinds)}"
    source = f"the run's folder, and {source}" if own else source
    return from_evidence(source, ev.linked(*kinds, own=own))


def _alerts(severity: str) -> Finder:
    return from_run(f"{SUMMARY}, alerts.counts.{severity}", fig.alert_count(severity))


def _incidents(*severities: str) -> Finder:
    return from_evidence("incidents file", ev.incident_count(*severities))


def _budget(word: str) -> Finder:
    return computed(f"{SLO}, objectives", fig.error_budget(word))


def _drift(*keys: str) -> Finder:
    return from_run(f"{DRIFT}, counts.{'.'.join(keys)}", fig.drift_count(*keys))


def _baseline(about: str, names: tuple[str, ...]) -> Finder:
    return from_run(f"{SUMMARY} and {BASELINE}, {about}", fig.window_and_baseline(names))


def _by(place: str, *names: str) -> Finder:
    return from_run(f"{SUMMARY}, {names[0]} by {place[:-1]}", fig.kpi_rows(names, place))


def _checks(wanted: Callable[[Mapping[str, Any]], bool], empty: str) -> Finder:
    return _validation(live.checks_where(wanted, empty))


def _validation(find: Read) -> Finder:
    return from_run(live.VALIDATION, live.whole(live.VALIDATION, find))


def _websocket(find: Read) -> Finder:
    return from_run(live.SESSIONS, live.whole(live.SESSIONS, find))


def _said(kind: str, key: str) -> Finder:
    return evidence(kind, key.replace("_", " "), lambda facts: getattr(facts, key))


def _incident_notes(key: str) -> Finder:
    return from_evidence(f"incidents file, {key}", ev.incident_notes(key))


def _vulnerabilities(severity: str) -> Finder:
    kpi = f"vulnerabilities_{severity}"
    source = f"security_scan file and KPI {kpi}"
    return from_evidence(source, ev.vulnerabilities(severity, kpi))


_LATENCIES = ("latency_p50", "latency_p95", "latency_p99")
_COMPARED = (
    "availability", "error_rate", "latency_p95", "latency_p99", "db_latency_p95", "request_rate",
    "cache_hit_rate", "cpu_usage", "memory_usage", "disk_usage", "network_throughput",
)  # fmt: skip

_SIGN_OFFS = {
    f"{role}_{key.upper()}": evidence("sign_off", f"{key} of the {title}", ev.sign_off(role, key))
    for role, title in ev.TITLES.items()
    for key in ("name", "signature", "date")
}

_FINDERS: dict[str, Finder] = {
    "GENERATION_TIMESTAMP": of_file(SUMMARY, "source", "collected_at", say=when),
    "CERTIFICATION_STATUS": from_run(f"{CERTIFICATION}, decision", fig.decision),
    "GA_START_TIME": of_file(SUMMARY, "window", "start", say=when),
    "GA_END_TIME": of_file(SUMMARY, "window", "end", say=when),
    "GA_DURATION_HOURS": computed(f"{SUMMARY}, window", fig.window_length),
    "DEPLOYMENT_STATUS": from_evidence("deployments file", ev.deployment_status),
    "OVERALL_HEALTH_STATUS": computed(f"{CERTIFICATION}, criteria", fig.health),
    "INSERT_KEY_OUTCOMES": _story(tale.sentences("outcomes")),
    "OVERALL_AVAILABILITY": figure("availability"),
    "SLO_COMPLIANCE_STATUS": computed(f"{SLO}, counts", fig.slo_status),
    "OVERALL_ERROR_RATE": figure("error_rate"),
    "P99_LATENCY_MS": figure("latency_p99"),
    "INCIDENT_COUNT": _incidents(),
    "HOTFIX_COUNT": from_evidence("deployments file", ev.deployments_of("hotfix")),
    "INSERT_PRE_GA_TIMELINE": _story(tale.timeline("before")),
    "INSERT_GA_TIMELINE_ROWS": _story(tale.timeline("window")),
    "INSERT_POST_GA_TIMELINE": _story(tale.timeline("after")),
    "INSERT_CANARY_SUMMARY": evidence("canary", "summary", ev.canary_summary),
    "CANARY_START_TIME": evidence("canary", "start", lambda facts: fv.iso(facts.start)),
    "CANARY_DURATION_MINUTES": _said("canary", "duration"),
    "CANARY_TRAFFIC_PERCENT": _said("canary", "traffic"),
    "CANARY_SUCCESS_RATE": _said("canary", "success_rate"),
    "CANARY_ERROR_RATE": _said("canary", "error_rate"),
    "CANARY_GATE_DECISION": evidence("canary", "decision", ev.gate_decision),
    "INSERT_CANARY_BASELINE_COMPARISON": evidence("canary", "compared", ev.canary_comparison),
    "INSERT_CANARY_GATE_CRITERIA": evidence("canary", "gates", ev.canary_gates),
    "INSERT_TARS_1001_VALIDATION": evidence("hotfix", "TARS-1001", ev.fix("TARS-1001")),
    "WS_TEST_DURATION": _websocket(live.watched),
    "WS_TOTAL_TESTS": _websocket(live.attempts),
    "WS_SUCCESS_RATE": _websocket(live.reconnect_success),
    "WS_AVG_LATENCY": _websocket(live.ping_mean),
    "WS_P99_LATENCY": _websocket(live.worst_session(lambda each: each["figures"]["ping_p99"])),
    "WS_MAX_DOWNTIME": _websocket(
        live.worst_session(lambda each: each["figures"]["longest_downtime"])
    ),
    "WS_VALIDATION_STATUS": _websocket(live.session_status),
    "INSERT_WS_COMPLIANCE_NOTES": _websocket(live.session_limits),
    "INSERT_TARS_1002_VALIDATION": evidence("hotfix", "TARS-1002", ev.fix("TARS-1002")),
    "INSERT_DB_PERFORMANCE_COMPARISON": _baseline(
        "db_latency", ("db_latency_mean", "db_latency_p50", "db_latency_p95", "db_latency_p99")
    ),
    "TOTAL_DOWNTIME_MINUTES": computed("KPI availability over the window", fig.downtime),
    "MEAN_TIME_TO_RECOVERY": computed(
        "KPI availability by step, against its target", fig.recovery_time
    ),
    "INSERT_SERVICE_AVAILABILITY_BREAKDOWN": _by("services", "availability"),
    "TOTAL_REQUESTS": figure("requests"),
    "TOTAL_ERRORS": figure("errors"),
    "INSERT_ERROR_RATE_BY_SERVICE": _by("services", "error_rate", "errors", "requests"),
    "AVG_P50_LATENCY": figure("latency_p50"),
    "AVG_P95_LATENCY": figure("latency_p95"),
    "AVG_P99_LATENCY": figure("latency_p99"),
    "MAX_P99_LATENCY": peak("latency_p99"),
    "INSERT_LATENCY_DISTRIBUTION": _by("regions", *_LATENCIES),
    "AVG_CPU_PERCENT": figure("cluster_cpu_utilisation"),
    "PEAK_CPU_PERCENT": peak("cluster_cpu_utilisation"),
    "AVG_MEMORY_PERCENT": figure("cluster_memory_utilisation"),
    "PEAK_MEMORY_PERCENT": peak("cluster_memory_utilisation"),
    "INSERT_RESOURCE_UTILIZATION_BY_SERVICE": _by(
        "services", "cpu_usage", "cpu_percent", "memory_usage", "memory"
    ),
    "AVG_DB_LATENCY": figure("db_latency_mean"),
    "MAX_DB_LATENCY": peak("db_latency_p99"),
    "DB_POOL_USAGE": figure("db_pool_usage"),
    "REDIS_HIT_RATE": figure("cache_hit_rate"),
    "REDIS_MEMORY_MB": figure("redis_memory"),
    "REDIS_CLIENTS": figure("redis_clients"),
    "TOTAL_NETWORK_IN_GB": figure("network_in"),
    "TOTAL_NETWORK_OUT_GB": figure("network_out"),
    "AVG_NETWORK_THROUGHPUT_MBPS": figure("network_throughput"),
    "INSERT_DRIFT_BASELINE_COMPARISON": _baseline("key KPIs", _COMPARED),
    "TOTAL_DRIFT_CHECKS": _drift("evaluations"),
    "DRIFTS_DETECTED": _drift("findings"),
    "CRITICAL_DRIFTS": _drift("by_verdict", "fail"),
    "INSERT_DRIFT_SEVERITY_BREAKDOWN": from_run(
        f"{DRIFT}, counts.by_category", fig.drift_severities
    ),
    "INSERT_DRIFT_DETAILS": from_run(f"{DRIFT}, worst", fig.drift_details),
    "INSERT_DRIFT_MITIGATION_ACTIONS": _story(tale.drift_actions),
    "INSERT_VALIDATION_SUITE_SUMMARY": _validation(live.validation_counts),
    "INSERT_TEST_RESULTS_BREAKDOWN": _validation(live.checks_by_group),
    "INSERT_CRITICAL_TEST_RESULTS": _checks(
        lambda check: check["measure"] is not None, "No check can be a criterion's."
    ),
    "INSERT_FAILED_TESTS": _checks(
        lambda check: check["verdict"] in ("fail", "no_data"), "No check failed."
    ),
    "INSERT_LOAD_TEST_RESULTS": evidence("load_test", "scenarios", ev.load_test),
    "INSERT_SECURITY_TEST_RESULTS": evidence("security_scan", "all of it", ev.scan),
    "SEV1_COUNT": _incidents("sev1"),
    "SEV2_COUNT": _incidents("sev2"),
    "SEV3_COUNT": _incidents("sev3"),
    "SEV4_COUNT": _incidents("sev4"),
    "INSERT_INCIDENT_DETAILS": from_evidence("incidents file", ev.incident_table),
    "INSERT_INCIDENT_TIMELINE": _story(tale.timeline("window", ("incident", "outage", "alert"))),
    "INSERT_ROOT_CAUSE_ANALYSIS": _incident_notes("root_cause"),
    "INSERT_REMEDIATION_ACTIONS": _incident_notes("remediation"),
    "PROMETHEUS_UPTIME": figure("prometheus_uptime"),
    "TOTAL_METRICS_COLLECTED": figure("samples_collected"),
    "METRIC_COLLECTION_RATE": figure("sample_rate"),
    "METRIC_RETENTION_DAYS": figure("metric_retention"),
    "INSERT_GRAFANA_DASHBOARD_LINKS": _links("dashboard"),
    "TOTAL_ALERTS": _alerts("all"),
    "CRITICAL_ALERTS": _alerts("critical"),
    "WARNING_ALERTS": _alerts("warning"),
    "AVG_ALERT_RESPONSE_TIME": from_evidence("incidents file, acknowledged", ev.response_time),
    "TOTAL_LOG_VOLUME_GB": figure("log_volume"),
    "ERROR_LOG_COUNT": figure("log_errors"),
    "WARNING_LOG_COUNT": figure("log_warnings"),
    "LOG_RETENTION_DAYS": evidence("links", "retention of logs", ev.log_retention),
    "INSERT_CLOUDWATCH_LINKS": _links("logs"),
    "PEAK_RPS": peak("request_rate"),
    "AVG_RPS": figure("request_rate"),
    "TOTAL_REQUESTS_24H": computed("KPI requests by step", fig.last_day_requests),
    "INSERT_LATENCY_PERCENTILES_TABLE": _baseline("latency", _LATENCIES),
    "COST_PER_1M_REQUESTS": computed(
        f"{SUMMARY}, cost, and KPI request_rate", fig.cost_of_requests
    ),
    "CPU_EFFICIENCY": computed(
        "KPI request_rate over KPI cpu_usage", fig.requests_per("cpu_usage", 1.0)
    ),
    "MEMORY_EFFICIENCY": computed(
        "KPI request_rate over KPI memory_usage", fig.requests_per("memory_usage", 2.0**30)
    ),
    "INSERT_SLO_COMPLIANCE_TABLE": from_run(SLO, fig.slo_table),
    "AVAILABILITY_ERROR_BUDGET": _budget("availability"),
    "LATENCY_ERROR_BUDGET": _budget("latency"),
    "ERROR_RATE_ERROR_BUDGET": _budget("error"),
    "INSERT_SLO_VIOLATIONS": from_run(SLO, fig.slo_violations),
    "CVE_SCAN_STATUS": evidence("security_scan", "scanned at", ev.scan_status),
    "CRITICAL_VULNS": _vulnerabilities("critical"),
    "HIGH_VULNS": _vulnerabilities("high"),
    "SECURITY_PATCHES": _said("security_scan", "patched"),
    "JWT_SUCCESS_RATE": figure("jwt_success_rate"),
    "FAILED_AUTH_ATTEMPTS": figure("auth_failures"),
    "RBAC_VIOLATIONS": figure("rbac_denied"),
    "RATE_LIMIT_HITS": figure("rate_limit_hits"),
    "BLOCKED_REQUESTS": figure("blocked_requests"),
    "RATE_LIMIT_EFFECTIVENESS": figure("rate_limit_effectiveness"),
    "TLS_CERT_EXPIRY_DAYS": figure("tls_expiry"),
    "MTLS_SUCCESS_RATE": figure("mtls_success_rate"),
    "INSERT_AGENT_PERFORMANCE_SUMMARY": _baseline("agents", fig.AGENT_KPIS),
    "HYPERSYNC_OPS": figure("hypersync_operations"),
    "HYPERSYNC_SUCCESS_RATE": figure("hypersync_success_rate"),
    "HOT_RELOAD_LATENCY": figure("hot_reload_p95"),
    "AUTOML_RUNS": figure("automl_runs"),
    "REWARD_IMPROVEMENTS": computed(
        "KPI agent_reward over the window and the baseline", fig.against_baseline("agent_reward")
    ),
    "OPTUNA_TRIALS": figure("optuna_trials"),
    "NASH_CONVERGENCE_STATUS": computed("KPI nash_convergence", fig.nash_status),
    "AGENT_CONFLICTS": figure("agent_conflicts"),
    "CONFLICT_RESOLUTIONS": figure("conflict_resolutions"),
    "FRONTEND_AVAILABILITY": figure("frontend_availability"),
    "API_AVAILABILITY": figure("api_availability"),
    "DASHBOARD_AVAILABILITY": figure("dashboard_availability"),
    "PAGE_LOAD_P95": figure("page_load_p95"),
    "API_RESPONSE_P95": figure("latency_p95"),
    "WS_CONNECTION_SUCCESS": figure("websocket_uptime"),
    "SUPPORT_TICKETS": _said("customer", "support_tickets"),
    "ESCALATED_ISSUES": _said("customer", "escalated"),
    "CUSTOMER_SATISFACTION": _said("customer", "satisfaction"),
    "INSERT_ROLLBACK_PLAN": from_evidence(
        "links file, rollback_plan, and rollback file", ev.rollback_plan
    ),
    "ROLLBACK_TEST_STATUS": evidence("rollback", "successful", ev.rollback_status),
    "ROLLBACK_TIME_ESTIMATE": _said("rollback", "duration"),
    "DATA_MIGRATION_REVERSIBLE": evidence(
        "rollback",
        "data migration reversible",
        lambda facts: fv.yes_no(facts.data_migration_reversible),
    ),
    "INSERT_IMMEDIATE_ACTIONS": _story(tale.actions("immediate")),
    "INSERT_SHORT_TERM_ACTIONS": _story(tale.actions("short")),
    "INSERT_LONG_TERM_ACTIONS": _story(tale.actions("long")),
    "INSERT_WHAT_WENT_WELL": _story(tale.sentences("went_well", "went_well")),
    "INSERT_WHAT_COULD_BE_IMPROVED": _story(tale.sentences("to_improve", "to_improve")),
    "INSERT_PROCESS_IMPROVEMENTS": _story(tale.sentences("process_improvements", "process")),
    "INSERT_CERTIFICATION_CRITERIA": from_run(
        f"{CERTIFICATION}, criteria", fig.certification_criteria
    ),
    "FINAL_CERTIFICATION_STATUS": from_run(CERTIFICATION, fig.final_status),
    "INSERT_CERTIFICATION_JUSTIFICATION": _story(tale.sentences("justification")),
    **_SIGN_OFFS,
    "INSERT_DETAILED_TEST_RESULTS_LINK": _links("test_results", own=ev.own_results),
    "INSERT_DASHBOARD_SCREENSHOTS": _links("screenshot"),
    "INSERT_LOG_ANALYSIS_REPORTS": _links("log_analysis"),
    "INSERT_BENCHMARK_DATA": _links("benchmark"),
    "INSERT_SECURITY_SCAN_REPORTS": _links("security_scan"),
    "INSERT_CONFIG_SNAPSHOTS": _links("configuration", own=ev.own_parameters),
    "INSERT_MIGRATION_SCRIPTS": _links("migration"),
    "INSERT_RUNBOOK_REFERENCES": _links("runbook"),
    "PIPELINE_RUN_ID": from_evidence(
        "links file, pipeline.run; environment when a template is filled", ev.pipeline_run
    ),
    "ARTIFACT_LOCATION": from_evidence(
        "links file, pipeline.artifacts; environment when a template is filled",
        ev.artifact_location,
    ),
    "ARTIFACT_SHA256": from_run(f"{ev.PACKAGE}.sha256", ev.artifact_digest),
}
"""The way to each field's value."""


def _registry() -> dict[str, Field]:
    sections = read_yaml(Path(__file__).with_name("report_fields.yaml"))
    found = {
        name: Field(name, section, facts["about"], _UNITS[facts["unit"]], _FINDERS[name])
        for section, entries in sections.items()
        for name, facts in entries.items()
    }
    if found.keys() != _FINDERS.keys():
        raise KeyError(f"report_fields.yaml lacks {sorted(_FINDERS.keys() - found.keys())}")
    return found


FIELDS: dict[str, Field] = _registry()
"""Every field by its name, in the order of the report."""


def values(run: Run | Path | str, beside: Mapping[str, str] | None = None) -> dict[str, FieldValue]:
    """Return the value of every field in a run, or the reason why it has none.

    Parameters
    ----------
    run
        A run or its folder.
    beside
        The environment that the fields of the pipeline may be read from, when a finished run is
        looked at from outside. Without it, the values depend on the run alone.

    Raises
    ------
    ParametersError
        If the folder holds no run.
    """
    known = Known(run if isinstance(run, Run) else Run(run), beside)
    return {name: field.value(known) for name, field in FIELDS.items()}
