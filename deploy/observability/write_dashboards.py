"""The dashboards of Grafana, written from a list of panels: `python deploy/observability/write_dashboards.py`.

A panel is a title, a unit, and what it draws: expressions of Prometheus with the words of their legend. A test checks
that the files are what this writes, and that every metric is drawn.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent / "dashboards"
WIDTH, HEIGHT, COLUMNS = 8, 7, 3
DECISIONS = {"approve": "green", "challenge": "blue", "review": "orange", "block": "red"}
"""The colours that the console has, too."""


class Panel(NamedTuple):
    """What one panel draws; `unit` is a unit of Grafana's."""

    title: str
    unit: str
    draws: dict[str, str]


def rate(metric: str, by: str = "", where: str = "") -> str:
    """A counter by the second, summed over processes, and by a label where one is given."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{where}}}[$__rate_interval]))"


def share(part: str, of: str) -> str:
    """One expression by another."""
    return f"{part} / {of}"


def quantile(at: float, metric: str, by: str = "") -> str:
    """A quantile of a histogram."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({at}, sum by ({labels}) (rate({metric}_bucket[$__rate_interval])))"


LATENCY = "sentinel_latency_microseconds"
REQUESTS = rate("sentinel_requests_total")
DASHBOARDS = {
    "overview": (
        "Sentinel: overview",
        [
            Panel("Decisions a second", "ops", {"{{action}}": rate("sentinel_actions_total", "action")}),
            Panel(
                "From arrival to decision", "µs", {f"p{round(q * 100)}": quantile(q, LATENCY) for q in (0.5, 0.9, 0.99)}
            ),
            Panel(
                "Share decided without the model, and not at all",
                "percentunit",
                {
                    "without the model": share(rate("sentinel_on_fault_decisions_total"), REQUESTS),
                    "no decision": share(rate("sentinel_errors_total"), REQUESTS),
                },
            ),
            Panel("Why not the model", "ops", {"{{reason}}": rate("sentinel_shed_decisions_total", "reason")}),
            Panel(
                "What decided in its place", "ops", {"{{answer}}": rate("sentinel_on_fault_decisions_total", "answer")}
            ),
            Panel(
                "Blocked and to be reviewed",
                "percentunit",
                {
                    action: share(rate("sentinel_actions_total", where=f'action="{action}"'), REQUESTS)
                    for action in ("block", "review", "challenge")
                },
            ),
            Panel("Circuit breaker: 0 closed, 1 half open, 2 open", "none", {"{{instance}}": "sentinel_breaker_state"}),
            Panel("It opened", "none", {"{{instance}}": "increase(sentinel_breaker_openings_total[1h])"}),
            Panel("Requests not let in", "ops", {"{{reason}}": rate("sentinel_requests_refused_total", "reason")}),
        ],
    ),
    "owner": (
        "Sentinel: the process that owns the log",
        [
            Panel(
                "Parts of a decision, p99",
                "µs",
                {"{{stage}}": quantile(0.99, "sentinel_stage_latency_microseconds", "stage")},
            ),
            Panel("Transactions that wait", "none", {"{{instance}}": "sentinel_queue_length"}),
            Panel(
                "Rows a batch, p50 and p99",
                "none",
                {f"p{round(q * 100)}": quantile(q, "sentinel_batch_size") for q in (0.5, 0.99)},
            ),
            Panel(
                "Batches made durable a second", "ops", {"{{instance}}": rate("sentinel_log_writes_total", "instance")}
            ),
            Panel("The log can be written", "bool", {"{{instance}}": "sentinel_log_writable"}),
            Panel("Longest turn of the event loop so far", "s", {"{{instance}}": "sentinel_longest_turn_seconds"}),
            Panel(
                "Size of the log",
                "bytes",
                {"{{instance}}": "sentinel_log_bytes"},
            ),
            Panel(
                "Segments, and who holds old ones",
                "none",
                {"segments": "sentinel_log_segments", "held by": "sentinel_log_held_by"},
            ),
            Panel(
                "Age of the oldest segment, since the last was removed",
                "s",
                {"oldest": "time() - sentinel_log_oldest_seconds", "pruned": "time() - sentinel_log_pruned_seconds"},
            ),
            Panel("Keys that features remember", "none", {"{{instance}}": "sentinel_state_keys"}),
            Panel("Memory of the features' state", "bytes", {"{{instance}}": "sentinel_state_bytes"}),
            Panel("Keys forgotten a second", "ops", {"{{instance}}": "deriv(sentinel_state_keys_forgotten[10m])"}),
            Panel(
                "Entries that followers are behind",
                "none",
                {
                    "view": "sentinel_view_lag",
                    "snapshots": "sentinel_snapshot_lag",
                    "reasons": "sentinel_reasons_lag",
                    "archive": "sentinel_archive_lag",
                    "Redis": "sentinel_online_lag",
                },
            ),
            Panel("The archive takes what is new", "bool", {"{{instance}}": "sentinel_archive_ok"}),
            Panel("The snapshotter was started again", "none", {"{{instance}}": "sentinel_snapshotter_restarts"}),
            Panel("Answers of the cache", "ops", {"{{result}}": rate("sentinel_cache_total", "result")}),
            Panel("Entries of the cache", "none", {"{{instance}}": "sentinel_cache_size"}),
            Panel(
                "Rows of reference tables, and how old the newest is",
                "none",
                {
                    "{{table}}": "sentinel_table_versions",
                    "{{table}}, age in s": "time() - sentinel_table_changed_seconds",
                },
            ),
        ],
    ),
    "streams": (
        "Sentinel: streams and fronts",
        [
            Panel("Messages that are not decided yet", "none", {"{{instance}}": "sentinel_stream_lag"}),
            Panel("The oldest of them has waited", "s", {"{{instance}}": "sentinel_stream_lag_seconds"}),
            Panel("Messages cannot be taken", "bool", {"{{instance}}": "sentinel_stream_stuck"}),
            Panel("Fronts that have profiles", "bool", {"{{instance}}": "sentinel_profiles_available"}),
            Panel("Age of the profiles", "s", {"{{instance}}": "sentinel_profiles_age_seconds"}),
            Panel("Revision that each front decides by", "none", {"{{instance}}": "sentinel_deployment_revision"}),
            Panel("How long ago that was in force", "s", {"{{instance}}": "sentinel_deployment_known_seconds"}),
            Panel(
                "Answers that no front has sealed",
                "none",
                {"{{instance}}": "increase(sentinel_fronts_refused_total[1h])"},
            ),
            Panel("Context events told", "none", {"{{event}}": "sentinel_events_told"}),
        ],
    ),
    "models": (
        "Sentinel: models and rules",
        [
            Panel("Models that are loaded", "none", {"{{role}} {{version}}": "sentinel_model_info"}),
            Panel("Changes of the champion", "none", {"{{instance}}": "increase(sentinel_model_swaps_total[1d])"}),
            Panel("Drift", "bool", {"{{instance}}": "sentinel_drift_detected"}),
            Panel("Features that differ", "none", {"{{instance}}": "sentinel_drifted_features"}),
            Panel("Scores by variant", "ops", {"{{variant}}": rate("sentinel_variant_predictions_total", "variant")}),
            Panel(
                "Share blocked by variant",
                "percentunit",
                {
                    "{{variant}}": share(
                        rate("sentinel_variant_blocks_total", "variant"),
                        rate("sentinel_variant_predictions_total", "variant"),
                    )
                },
            ),
            Panel("Vectors of the experiment", "none", {"{{variant}} {{what}}": "sentinel_experiment_vectors"}),
            Panel("The shadow", "ops", {"{{result}}": rate("sentinel_shadow_total", "result")}),
            Panel("Approved to learn what they are", "ops", {"held out": rate("sentinel_held_out_total")}),
            Panel("Rules that held", "none", {"{{rule}} ({{state}})": "sentinel_rule_hits"}),
            Panel("Rules that became shadows by themselves", "none", {"{{instance}}": "sentinel_rules_demoted"}),
            Panel("The draft in force", "none", {"{{instance}}": "sentinel_rules_draft"}),
            Panel("A model is trained", "bool", {"{{instance}}": "sentinel_retraining_running"}),
            Panel("How retrainings ended", "none", {"{{ended}}": "sentinel_retrainings"}),
            Panel(
                "Decisions of models that are gone, without reasons",
                "none",
                {"{{instance}}": "sentinel_reasons_left_out"},
            ),
        ],
    ),
    "outcomes": (
        "Sentinel: what turned out to be true",
        [
            Panel("Outcomes told", "none", {"{{source}}, {{says}}": "sentinel_outcomes_told"}),
            Panel(
                "Frauds told, this minute and as usual",
                "none",
                {
                    "{{source}}": "sentinel_outcome_frauds_this_minute",
                    "{{source}}, usual": "sentinel_outcome_frauds_usual",
                },
            ),
            Panel("Far more than usual", "bool", {"{{source}}": "sentinel_outcome_fraud_burst"}),
        ],
    ),
}
NOT_DRAWN = {
    "sentinel_decisions": "the same as sentinel_actions, in the words of /predict",
    "sentinel_log_first_position": "a position: it tells nothing as a line",
    "sentinel_log_set_aside": "of interest once, after a change of the schema; /health names it",
}
"""Metrics that need no panel, and why."""


def dashboard(name: str, title: str, panels: list[Panel]) -> dict[str, Any]:
    """As Grafana imports it."""
    return {
        "uid": f"sentinel-{name}", "title": title, "tags": ["sentinel"], "schemaVersion": 39, "version": 1,
        "timezone": "browser", "editable": True, "refresh": "10s", "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [{"name": "source", "type": "datasource", "query": "prometheus"}]},
        "panels": [_drawn(number, panel) for number, panel in enumerate(panels)],
    }  # fmt: skip


def _drawn(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, COLUMNS)
    colours = [
        {"matcher": {"id": "byName", "options": word}, "properties": [_fixed(colour)]}
        for word, colour in DECISIONS.items()
    ]
    return {
        "id": number + 1, "type": "timeseries", "title": panel.title,
        "datasource": {"type": "prometheus", "uid": "${source}"},
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": colours},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + n), "expr": expression, "legendFormat": legend}
            for n, (legend, expression) in enumerate(panel.draws.items())
        ],
    }  # fmt: skip


def _fixed(colour: str) -> dict[str, Any]:
    return {"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}


def written() -> dict[Path, str]:
    """The files and what is in them."""
    return {
        FOLDER / f"{name}.json": json.dumps(dashboard(name, title, panels), indent=1, ensure_ascii=False) + "\n"
        for name, (title, panels) in DASHBOARDS.items()
    }


if __name__ == "__main__":
    for path, text in written().items():
        path.write_text(text)
