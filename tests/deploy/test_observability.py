"""Dashboards and alerts: every metric is drawn or needs none, every alert leads to a section that is there."""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

import sentinel

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "observability"
SOURCE = Path(sentinel.__file__).parent
_METRIC = re.compile(r"sentinel_[a-z_]+")
_SUFFIXES = ("_total", "_bucket", "_count", "_sum")


@pytest.fixture(scope="module")
def dashboards():
    place = importlib.util.spec_from_file_location("write_dashboards", FOLDER / "write_dashboards.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


def alerts():
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def exported():
    """The names of all metrics: what is given to a family of metrics in the code."""
    found = set()
    for path in [*(SOURCE / "telemetry").rglob("*.py"), *(SOURCE / "transport").rglob("*.py")]:
        if "console" in path.parts:  # it reads them
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and _METRIC.fullmatch(node.value):
                found.add(node.value)
    return {name for name in found if not name.startswith(("sentinel_people", "sentinel_written"))}  # schemas


def named_in(text):
    found = set()
    for name in _METRIC.findall(text):
        base = next((name.removesuffix(end) for end in _SUFFIXES if name.endswith(end)), name)
        found |= {name, base}
    return found


def test_the_files_are_what_is_written(dashboards):
    for path, text in dashboards.written().items():
        assert path.read_text() == text, f"python {FOLDER / 'write_dashboards.py'} writes {path.name} anew"
    assert {path.name for path in dashboards.FOLDER.iterdir()} == {path.name for path in dashboards.written()}


def test_every_metric_is_drawn_or_needs_none(dashboards):
    drawn = named_in("".join(dashboards.written().values()))
    there = exported()
    assert len(there) > 40
    assert there - drawn - set(dashboards.NOT_DRAWN) == set()
    assert set(dashboards.NOT_DRAWN) <= there


def test_what_is_drawn_and_watched_is_exported(dashboards):
    texts = ["".join(dashboards.written().values()), (FOLDER / "alerts.yml").read_text()]
    for text in texts:
        queries = "\n".join(re.findall(r'(?:"expr": |expr: )(.*)', text))
        bases = {next((n.removesuffix(e) for e in _SUFFIXES if n.endswith(e)), n) for n in _METRIC.findall(queries)}
        assert bases - exported() == set()


def sections_of(page):
    """The anchors that the headings of a page have on the web."""
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text())
    return {re.sub(r"[^a-z0-9 -]", "", one.lower()).replace(" ", "-") for one in headings}


def test_every_alert_leads_to_a_section():
    there = sections_of(ROOT / "docs" / "troubleshooting.md")
    for rule in alerts():
        path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert path == "docs/troubleshooting.md"
        assert anchor in there, rule["alert"]
        assert rule["labels"]["severity"] in {"page", "ticket"}


def test_every_alert_has_a_test():
    tested = set(re.findall(r"alertname[=:] ?\"?(\w+)", (FOLDER / "alerts_test.yml").read_text()))
    assert {rule["alert"] for rule in alerts()} <= tested


@pytest.fixture(scope="module")
def promtool():
    found = shutil.which("promtool")
    if found is None:
        if "promtool" in os.environ.get("SENTINEL_TEST_REQUIRE", ""):
            pytest.fail("promtool is not installed: apt-get install prometheus")
        pytest.skip("promtool is not installed: apt-get install prometheus")
    return found


def run(promtool, *arguments, folder=FOLDER):
    return subprocess.run([promtool, *arguments], cwd=folder, capture_output=True, text=True, timeout=120)


def test_prometheus_takes_the_files(promtool):
    done = run(promtool, "check", "config", "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_reads_every_expression_that_is_drawn(promtool, dashboards, tmp_path):
    drawn = [one for _, panels in dashboards.DASHBOARDS.values() for panel in panels for one in panel.draws.values()]
    rules = [{"record": "drawn", "expr": one.replace("$__rate_interval", "5m")} for one in drawn]
    (tmp_path / "drawn.yml").write_text(yaml.safe_dump({"groups": [{"name": "drawn", "rules": rules}]}))
    done = run(promtool, "check", "rules", "--lint=none", "drawn.yml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_alerts_go_off_when_they_should_and_only_then(promtool):
    done = run(promtool, "test", "rules", "alerts_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("is_so", "would_be"),
    [("sentinel_breaker_state == 2", "sentinel_breaker_state == 3"), ("max by (job)", "min by (job)"),
     ("> 14.4 * 0.001", "> 144 * 0.001"), ("sentinel_drift_detected == 1", "sentinel_drift_detected == 0")],
)  # fmt: skip
def test_an_alert_that_is_wrong_is_found(promtool, tmp_path, is_so, would_be):
    text = (FOLDER / "alerts.yml").read_text()
    assert is_so in text
    (tmp_path / "alerts.yml").write_text(text.replace(is_so, would_be))
    shutil.copy(FOLDER / "alerts_test.yml", tmp_path)
    assert run(promtool, "test", "rules", "alerts_test.yml", folder=tmp_path).returncode != 0
