"""The model card: eleven sections from the manifest, the rest left to people, and nothing personal."""

import re
import shutil
from html.parser import HTMLParser

import msgspec
import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.events.files import history_of_frame
from sentinel.model.bundle import read_manifest
from sentinel.model.card_pages import HTML_FILE, MARKDOWN_FILE, card_html, card_markdown
from sentinel.model.model_card import ASKED, Table, card_of
from sentinel.model.registry import Registry
from sentinel.train.pipeline import train


@pytest.fixture
def folder(shop_home):
    return shop_home / "models" / "v1"


@pytest.fixture
def manifest(folder):
    return read_manifest(folder)


def cells(section):
    return [cell for part in section.parts if isinstance(part, Table) for row in part.rows for cell in row]


def test_it_has_the_eleven_sections_in_their_order(manifest):
    assert [section.title for section in card_of(manifest)] == [
        "1. Identification", "2. Business and risk context", "3. Data", "4. Features", "5. Methodology",
        "6. Offline performance", "7. Online performance", "8. Ethics and fairness", "9. Monitoring and incidents",
        "10. Limitations", "11. Approvals",
    ]  # fmt: skip


def test_what_the_run_knows_is_in_it(manifest):
    by_title = {section.title.partition(". ")[2]: section for section in card_of(manifest)}
    assert {manifest.version, manifest.detector, manifest.plan_sha256} <= set(cells(by_title["Identification"]))
    assert manifest.history.sha256 in cells(by_title["Data"])
    assert set(manifest.plan.names) <= set(cells(by_title["Features"]))
    assert {"seed", "trees_used"} <= set(cells(by_title["Methodology"]))
    offline = by_title["Offline performance"]
    assert f"{manifest.metrics['average_precision']['value']:.4f}" in cells(offline)
    assert {"review", "block"} <= set(cells(offline))
    assert f"{manifest.thresholds['review']:g}" in cells(by_title["Business and risk context"])


def test_approvals_are_left_to_people(manifest):
    approvals = card_of(manifest)[-1]
    (table,) = [part for part in approvals.parts if isinstance(part, Table)]
    assert table.rows == tuple((role, "", "", "") for role in ("Model risk", "Compliance", "ML engineering"))
    assert sum(part.startswith(ASKED) for one in card_of(manifest) for part in one.parts if isinstance(part, str)) == 7


class Heads(HTMLParser):
    """What is open, and all text."""

    def __init__(self):
        super().__init__()
        self.open, self.heads, self.text = [], [], []

    def handle_starttag(self, tag, _attrs):
        assert tag not in ("script", "img", "link", "iframe")
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if self.open and self.open[-1] == "h2":
            self.heads.append(data)


def test_the_page_needs_nothing_else_and_says_the_same(manifest):
    page = Heads()
    page.feed(card_html(manifest))
    assert page.open == []
    assert page.heads == [section.title for section in card_of(manifest)]
    assert all(cell in page.text for section in card_of(manifest) for cell in cells(section) if cell)


def test_names_of_others_are_text_in_both_forms(manifest):
    evil = msgspec.structs.replace(manifest, detector="<script>alert(1)</script> | [a](http://x) **b**")
    assert "<script>" not in card_html(evil)
    said = card_markdown(evil)
    assert "<script>" not in said.replace("\\<", "")
    assert not re.search(r"(?<!\\)\[a", said)
    rows = [line for line in said.splitlines() if "alert" in line and line.startswith("| Detector")]
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 3


def test_it_is_written_beside_the_bundle_and_printed(folder, manifest, tmp_path):
    assert (folder / MARKDOWN_FILE).read_text() == card_markdown(manifest)
    assert (folder / HTML_FILE).read_text() == card_html(manifest)
    home, page = folder.parent.parent, tmp_path / "card.html"
    done = CliRunner().invoke(app, ["models", "card", "v1", "--home", str(home)])
    assert done.stdout == card_markdown(manifest)
    done = CliRunner().invoke(app, ["models", "card", "v1", "--home", str(home), "--html", str(page)])
    assert (done.exit_code, done.stdout, page.read_text()) == (0, "", card_html(manifest))
    for arguments, said in (
        (["v9"], "no model 'v9'"),
        (["v1", "--html", str(tmp_path / "no" / "x")], "cannot be written"),
    ):
        done = CliRunner().invoke(app, ["models", "card", *arguments, "--home", str(home)])
        assert done.exit_code == 1
        assert said in " ".join(done.stderr.split())


def test_people_may_write_into_the_card_beside_a_bundle_and_it_is_still_loaded(shop_home, tmp_path):
    home = shutil.copytree(shop_home, tmp_path / "home")
    with (home / "models" / "v1" / MARKDOWN_FILE).open("a") as card:
        card.write("approved, Ann\n")
    done = CliRunner().invoke(app, ["models", "list", "--home", str(home)])
    assert "broken" not in done.stderr


def test_nothing_of_a_person_is_in_manifest_or_card(make_shop_frame, shop_detector, tmp_path, monkeypatch):
    """Ids, cards, shops, and who ran it and where: each can be told apart from any word of ours."""
    from sentinel.detectors import load_detector

    detector = load_detector(shop_detector)
    frame = make_shop_frame(6000)
    monkeypatch.setenv("GITHUB_ACTOR", "ann-the-trainer")
    train(detector, history_of_frame(frame, detector.schema), Registry(tmp_path / "models"), lambda *_: None)
    personal = {
        "ann-the-trainer", str(tmp_path), *frame["transaction_id"], *frame["card"], *frame["shop"],
    }  # fmt: skip
    for name in ("manifest.json", MARKDOWN_FILE, HTML_FILE, "reference.json"):
        text = (tmp_path / "models" / "v1" / name).read_text()
        words = set(re.findall(r"[\w/.-]+", text))
        assert not words & personal, name
        assert str(tmp_path) not in text
