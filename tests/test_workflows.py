"""The workflows name every action by its commit, and no job may do more than it needs."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[1] / ".github" / "workflows"
BUILT = FOLDER.parents[1] / ".services" / "actionlint"
ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.7"
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


@pytest.fixture(scope="module")
def actionlint():
    """The program; built through Go's proxy where SENTINEL_TEST_REQUIRE names it, a minute and a half of processor time."""
    found = shutil.which("actionlint", path=f"{BUILT}{os.pathsep}{os.environ['PATH']}")
    if found is not None:
        return found
    if "actionlint" not in os.environ.get("SENTINEL_TEST_REQUIRE", "").replace(",", " ").split():
        pytest.skip("there is no actionlint here; SENTINEL_TEST_REQUIRE=actionlint builds it")
    subprocess.run(["go", "install", ACTIONLINT], env={**os.environ, "GOBIN": str(BUILT)}, check=True, timeout=280)
    return str(BUILT / "actionlint")


def test_the_workflows_are_what_the_runner_understands(actionlint):
    looked = subprocess.run([actionlint, *FOLDER.glob("*.yml")], capture_output=True, text=True, timeout=120)
    assert (looked.returncode, looked.stdout) == (0, "")


def test_a_planted_fault_is_found(actionlint, tmp_path):
    planted = tmp_path / "planted.yml"
    planted.write_text((FOLDER / "ci.yml").read_text().replace("runs-on: ubuntu-24.04", "runs-on: ubuntu-24.99"))
    looked = subprocess.run([actionlint, planted], capture_output=True, text=True, timeout=120)
    assert looked.returncode == 1
    assert "ubuntu-24.99" in looked.stdout
