"""The report: one file that needs nothing else, says what was measured, and names nobody."""

import html.parser
import itertools
import re

import msgspec
import numpy as np
import pytest

from sentinel.detectors import load_detector
from sentinel.events.files import history_of_frame
from sentinel.inspect.charts import CALM
from sentinel.model.bundle import load_bundle, read_explainer
from sentinel.train.report.curves import Axis, Curve, Mark, plot, swarm
from sentinel.train.report.page import report_of
from sentinel.train.rows.measured import measure

SECTIONS = (
    "Ranking and calibration", "Cost and capacity", "Scores", "Thresholds", "Segments", "Drift", "Importance", "Worst misses",
)  # fmt: skip


@pytest.fixture(scope="module")
def bundle(shop_home):
    return load_bundle(shop_home / "models" / "v1")


@pytest.fixture(scope="module")
def measured(bundle, shop_detector, shop_history):
    detector = load_detector(shop_detector)
    return measure(bundle, detector, history_of_frame(shop_history, detector.schema), lambda *_: None)


@pytest.fixture(scope="module")
def page(bundle, measured, shop_home):
    return report_of(bundle, measured, read_explainer(shop_home / "models" / "v1"))


class _Balance(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        self.open += [] if tag == "meta" else [(tag, len(attrs))]

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag


def test_it_is_whole_and_needs_nothing_from_elsewhere(page):
    assert [one for one in SECTIONS if f"<h2>{one}</h2>" not in page] == []
    assert re.findall(r"https?:|<script|<link|@import|url\(|\bsrc=", page) == []
    balance = _Balance()
    balance.feed(page)
    assert balance.open == []
    assert "nan" not in re.sub(r"[a-z_]*nan[a-z_]+|[a-z_]+nan", "", page.lower())
    assert page.count("<svg") > 6


def test_it_says_what_the_manifest_says(page, bundle):
    metrics = bundle.manifest.metrics
    one = metrics["average_precision"]
    assert f"<b>{one['value']:.3f}</b><span>average precision, 95 %: {one['low']:.3f} to {one['high']:.3f}" in page
    (passed, alarms), (missed, caught) = metrics["review"]["confusion"]
    cells = "".join(f'<td class="n">{count:,}</td>' for count in (passed, alarms, missed, caught))
    assert f"{cells}</tr>" in page
    assert [name for name in bundle.manifest.plan.names if name not in page] == []


def test_it_names_nobody(page, measured):
    for column in ("transaction_id", "card", "shop"):
        assert [one for one in measured.frame[column].unique() if f">{one}<" in page or f" {one} " in page] == []


def test_a_model_that_cannot_be_explained_has_a_report_without_that(bundle, measured):
    page = report_of(bundle, measured, "this model cannot say <why>")
    assert "this model cannot say &lt;why&gt;" in page
    assert "Each dot is a row" not in page


def test_a_model_that_says_one_thing_has_a_report_too(bundle, measured, shop_home):
    flat = measured._replace(scores=np.full(len(measured.scores), 0.25, np.float32))
    page = report_of(bundle, flat, read_explainer(shop_home / "models" / "v1"))
    assert all(f"<h2>{one}</h2>" in page for one in SECTIONS)
    zero = measured._replace(scores=np.zeros(len(measured.scores), np.float32))
    assert "<h2>Worst misses</h2>" in report_of(bundle, zero, "no")


def test_words_of_others_are_no_markup(bundle, measured):
    renamed = msgspec.structs.replace(bundle.manifest, detector="<b>shop</b>")
    other = load_bundle_with(bundle, renamed)
    assert "<b>shop</b>" not in report_of(other, measured, "no")


def load_bundle_with(bundle, manifest):
    from sentinel.model.bundle import Bundle

    return Bundle(manifest, bundle.scorer, bundle.reference, bundle._state)


def test_a_curve_stays_inside_its_axes_and_a_long_one_keeps_its_bends():
    x = np.linspace(-5, 50_000, 100_000)
    y = np.where(x < 100, 1.0, 0.0)
    drawn = plot([Curve("c", x, y)], Axis("x", 1, 10_000, is_log=True), Axis("y", 0, 1), [Mark("here", 1e9, -3)])
    points = [tuple(map(float, one.split(","))) for one in re.search(r'points="([^"]+)"', drawn)[1].split()]
    assert len(points) <= 252
    assert all(52 <= a <= 416 and 24 <= b <= 252 for a, b in points)
    drops = [b - a for (a, one), (b, other) in itertools.pairwise(points) if other - one > 100]
    assert len(drops) == 1
    assert drops[0] < 3


def test_a_swarm_has_a_dot_for_each_value():
    drawn = swarm(["a", "<b>"], [np.array([1.0, -2.0]), np.zeros(3)], [[CALM] * 2, [CALM] * 3], "x")
    assert drawn.count("<circle") == 5
    assert "&lt;b&gt;" in drawn
