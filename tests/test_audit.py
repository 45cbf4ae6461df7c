"""The audit's own rules: which licences are permissive, and what the table says when nobody could be asked."""

import importlib.util
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
audit = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(audit)


@pytest.mark.parametrize(
    ("licence", "permissive"),
    [
        ("MIT", True),
        ("Apache-2.0 OR BSD-3-Clause", True),
        ("BSD-2-Clause AND Apache-2.0 WITH LLVM-exception", True),
        ("BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0", True),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only", False),
        ("MIT AND GPL-2.0-or-later", False),
        ("(MIT OR GPL-2.0-only) AND LGPL-3.0-only", False),
        ("License :: OSI Approved :: GNU General Public License v3 (GPLv3)", False),
        ("LicenseRef-Proprietary", False),
        ("", False),
    ],
)
def test_what_is_permissive(licence, permissive):
    assert audit.is_permissive(licence) == permissive


def test_a_package_that_says_nothing_or_also_something_else_is_named():
    def component(name, *ids):
        return {"name": name, "licenses": [{"license": {"id": one}} for one in ids]}

    components = [
        component("good", "MIT"),
        component("silent"),
        component("mixed", "MIT", "AGPL-3.0-only"),
        component("certifi", "MPL-2.0"),
    ]
    assert audit.forbidden(components) == ["silent (says nothing)", "mixed (MIT, AGPL-3.0-only)"]


@pytest.mark.parametrize("name", ["a.py", "a.md", "a.yaml", "deploy.conf"])
@pytest.mark.parametrize("sign", ["\u202e", "\u2066", "\u200b", "\ufeff", "\x1b", "\x08", "\xad"])
def test_a_character_that_deceives_is_found_in_any_text(tmp_path, name, sign):
    (tmp_path / name).write_text(f"one\ntwo {sign} three\n", encoding="utf-8")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\x1a\xff")
    (tmp_path / "plain.md").write_text("naïve, 50 µs…\n", encoding="utf-8")
    files = [tmp_path / one for one in (name, "picture.png", "plain.md", "gone")]
    assert audit._deceiving(files) == [f"{tmp_path / name}:2"]


def test_what_could_not_be_checked_is_not_held():
    def nobody():
        raise audit.NotChecked("no database")

    def broken():
        raise RuntimeError("it is wrong")

    assert audit.row_of("holes", nobody).result == "not checked"
    assert audit.row_of("holes", broken).result == "FAILED"
    assert audit.row_of("holes", lambda: "all well").result == "held"


def test_what_serves_is_installed_without_what_trains():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {audit._plain(one.partition(">")[0].partition(";")[0].strip()) for one in project["dependencies"]}
    training = audit.names_in(
        "\n".join(f"{one.partition('>')[0]}==1" for one in project["optional-dependencies"]["train"])
    )
    assert training == {
        "imbalanced-learn", "lightgbm", "matplotlib", "onnx", "optuna", "polars", "scikit-learn", "xgboost-cpu"
    }  # fmt: skip
    assert not training & needed
    brought = {
        audit._plain(one.split(">")[0].split(";")[0].split("[")[0].split("<")[0].split("=")[0].split("!")[0].strip())
        for name in needed
        for one in _needs(name)
    }
    assert not (training | {"scipy", "pandas", "pyarrow"}) & brought


def _needs(name):
    try:
        return [one for one in distribution(name).requires or () if "extra ==" not in one]
    except PackageNotFoundError:  # of another system
        return []
