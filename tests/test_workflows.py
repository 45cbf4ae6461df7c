"""The workflows name every action by its commit, and no job may do more than it needs."""

import re
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[1] / ".github" / "workflows"
MAY_WRITE = {
    "image": {"packages", "id-token", "attestations"},
    "pypi": {"id-token"},
    "github": {"contents", "id-token", "attestations"},
}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yml")), ids=lambda path: path.name)
def test_an_action_is_a_commit_that_nobody_can_move(path):
    used = re.findall(r"uses: (.*)", path.read_text())
    assert used
    assert [one for one in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one)] == []


def test_only_what_publishes_may_write():
    release = yaml.safe_load((FOLDER / "release.yml").read_text())
    assert release["permissions"] == {}
    for name, job in release["jobs"].items():
        may = {what for what, how in job["permissions"].items() if how == "write"}
        assert may == MAY_WRITE.get(name, set()), name


def test_nothing_is_published_that_was_not_tested():
    jobs = yaml.safe_load((FOLDER / "release.yml").read_text())["jobs"]
    assert {"build", "test"} <= set(jobs["image"]["needs"])
    assert {"build", "test", "image"} <= set(jobs["pypi"]["needs"])
    assert jobs["github"]["needs"] == "pypi"
