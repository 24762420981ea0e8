"""What the notebooks show of a run: its data as tables, charts and the banner.

No figure is computed here. A view takes figures from the library, chooses which to show, and hands
them to `display` and `charts`; so a notebook cell is one call.
"""

from tars_ga_lib.views.common import ALL, KEY_KPIS, colours, incident_spans
from tars_ga_lib.views.decision import (
    banner,
    certainty,
    check_note,
    criteria_table,
    evidence_table,
    glossary_table,
    identity,
    impact,
    notices,
    sign_off_table,
    todo_table,
)
from tars_ga_lib.views.drift import (
    action_table,
    alarm_table,
    baseline_table,
    drift_chart,
    drift_table,
    findings_table,
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
    kpi_chart,
    kpi_table,
    latency_chart,
    main_kpis,
    outage_chart,
    region_table,
    service_table,
)
from tars_ga_lib.views.regions import delta_table, heatmap, share_table, shift_table
from tars_ga_lib.views.slo import budget_chart, burn_alert_table, slo_table
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
