"""What the notebooks show of a run: its data as tables, charts and the banner.

No figure is computed here. A view takes figures from the library, chooses which to show, and hands
them to `display` and `charts`; so a notebook cell is one call.
"""

from tars_ga_lib.views.common import (
    ALL,
    KEY_KPIS,
    Facts,
    colours,
    incident_spans,
    place,
)
from tars_ga_lib.views.decision import (
    banner,
    check_note,
    criteria_table,
    evidence_table,
    notices,
    sign_off_table,
    waiver_table,
)
from tars_ga_lib.views.drift import (
    action_table,
    alarm_table,
    baseline_table,
    change_text,
    drift_chart,
    drift_table,
    evaluation_table,
    incident_table,
    overlay,
    worst_overlays,
)
from tars_ga_lib.views.fields import field_table, fields_summary
from tars_ga_lib.views.happenings import alerts_table, coverage_chart, timeline
from tars_ga_lib.views.levels import (
    by_region,
    cost_note,
    delta_chart,
    figure_table,
    kpi_chart,
    kpi_table,
    kpi_value,
    latency_chart,
    main_kpis,
    region_table,
    service_table,
)
from tars_ga_lib.views.regions import delta_table, heatmap, share_table, shift_table
from tars_ga_lib.views.slo import (
    budget_chart,
    burn_alert_table,
    slo_table,
)
from tars_ga_lib.views.sources import changes_since_previous, collection_table, provenance_table
from tars_ga_lib.views.story import justification, lessons, outcomes, plan_table, timeline_table
from tars_ga_lib.views.system import (
    checks_frame,
    downtime_chart,
    measured_table,
    progress,
    validation_failures,
    validation_summary,
    validation_table,
    websocket_table,
)
from tars_ga_lib.wording import limit_text, value_text, why

__all__ = [
    "ALL",
    "KEY_KPIS",
    "Facts",
    "action_table",
    "alarm_table",
    "alerts_table",
    "banner",
    "baseline_table",
    "budget_chart",
    "burn_alert_table",
    "by_region",
    "change_text",
    "changes_since_previous",
    "check_note",
    "checks_frame",
    "collection_table",
    "colours",
    "cost_note",
    "coverage_chart",
    "criteria_table",
    "delta_chart",
    "delta_table",
    "downtime_chart",
    "drift_chart",
    "drift_table",
    "evaluation_table",
    "evidence_table",
    "field_table",
    "fields_summary",
    "figure_table",
    "heatmap",
    "incident_spans",
    "incident_table",
    "justification",
    "kpi_chart",
    "kpi_table",
    "kpi_value",
    "latency_chart",
    "lessons",
    "limit_text",
    "main_kpis",
    "measured_table",
    "notices",
    "outcomes",
    "overlay",
    "place",
    "plan_table",
    "progress",
    "provenance_table",
    "region_table",
    "service_table",
    "share_table",
    "shift_table",
    "sign_off_table",
    "slo_table",
    "timeline",
    "timeline_table",
    "validation_failures",
    "validation_summary",
    "validation_table",
    "value_text",
    "waiver_table",
    "websocket_table",
    "why",
    "worst_overlays",
]
