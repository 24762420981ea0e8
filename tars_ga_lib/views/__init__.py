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
from tars_ga_lib.views.decision import banner, criteria_table, evidence_table, notices, waiver_table
from tars_ga_lib.views.drift import (
    action_table,
    alarm_table,
    baseline_table,
    change_text,
    drift_chart,
    drift_counts,
    drift_table,
    incident_table,
    overlay,
    worst_overlays,
)
from tars_ga_lib.views.happenings import alerts_table, coverage_chart, timeline
from tars_ga_lib.views.levels import (
    by_region,
    cost_note,
    delta_chart,
    kpi_chart,
    kpi_table,
    kpi_text,
    latency_chart,
    region_table,
    service_table,
)
from tars_ga_lib.views.regions import delta_table, heatmap, share_table, shift_table
from tars_ga_lib.views.sources import changes_since_previous, provenance_table
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
    "by_region",
    "change_text",
    "changes_since_previous",
    "collection_table",
    "colours",
    "cost_note",
    "coverage_chart",
    "criteria_table",
    "delta_chart",
    "delta_table",
    "drift_chart",
    "drift_counts",
    "drift_table",
    "evidence_table",
    "heatmap",
    "incident_spans",
    "incident_table",
    "kpi_chart",
    "kpi_table",
    "kpi_text",
    "latency_chart",
    "limit_text",
    "notices",
    "overlay",
    "place",
    "provenance_table",
    "region_table",
    "service_table",
    "share_table",
    "shift_table",
    "timeline",
    "value_text",
    "waiver_table",
    "why",
    "worst_overlays",
]
