"""`make k8s-up` and `k8s-status`: what is asked of kubectl, in which order. Its answers are kept here, as no cluster is."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "k8s" / "cluster.py"

KUBECTL = r"""#!{python}
import json, sys
from pathlib import Path

here, asked = Path(__file__).parent, [one for one in sys.argv[1:] if one not in ("--namespace", "sentinel")]
with (here / "asked").open("a") as file:
    file.write(" ".join(asked) + "\n")
state = json.loads((here / "state").read_text())
if asked[0] == "get":
    kinds = {{"pods": list(state["pods"].values()), "statefulsets": [state["stateful"]], "secrets": state["secrets"]}}
    print(json.dumps({{"items": kinds[asked[1]]}}))
elif asked[:2] == ["delete", "pod"]:
    pods = state["pods"]
    pods[asked[2]]["metadata"] |= {{"uid": "new", "labels": pods[asked[2]]["metadata"]["labels"] | {{"controller-revision-hash": "r2"}}}}
    was_ready = pods[asked[2]]["status"]["conditions"][0]["status"]
    pods[asked[2]]["status"]["conditions"][0]["status"] = "False"
    if was_ready == "True":
        other = next(name for name in pods if name != asked[2])
        pods[other]["status"]["conditions"][0]["status"] = "True"
    (here / "state").write_text(json.dumps(state))
elif asked[0] == "exec":
    print(json.dumps({{"ready": False, "reason": "standby"}}))
elif asked[0] == "create":
    (here / "created").write_text(sys.stdin.read())
elif asked[0] == "apply" and state.get("fails"):
    sys.exit("error: the server is not there")
"""


def pod(name, ready):
    return {
        "metadata": {
            "name": name, "uid": f"old-{name}",
            "labels": {"app.kubernetes.io/component": "server", "controller-revision-hash": "r1"},
        },
        "status": {"phase": "Running", "podIP": "10.0.0.9", "conditions": [{"type": "Ready", "status": str(ready)}]},
    }  # fmt: skip


@pytest.fixture
def kubectl(tmp_path):
    """A program that answers as kubectl does of two servers, of which sentinel-0 owns the log."""
    path = tmp_path / "kubectl"
    path.write_text(KUBECTL.format(python=sys.executable))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    stateful = {"spec": {"updateStrategy": {"type": "OnDelete"}}, "status": {"updateRevision": "r2"}}
    pods = {"sentinel-0": pod("sentinel-0", True), "sentinel-1": pod("sentinel-1", False)}
    (tmp_path / "state").write_text(json.dumps({"pods": pods, "stateful": stateful, "secrets": []}))
    return tmp_path


def called(kubectl, *arguments):
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, timeout=120,
        env=os.environ | {"PATH": f"{kubectl}:/usr/bin:/bin"},
    )  # fmt: skip


def test_an_update_replaces_who_stands_by_and_then_the_owner(kubectl):
    done = called(kubectl, "up", "--size", "owner-standby", "--cluster", "here")
    assert done.returncode == 0, done.stderr
    asked = (kubectl / "asked").read_text().splitlines()
    assert asked[0] == "delete job sentinel-migrate --ignore-not-found"
    assert asked[1].startswith("apply --kustomize")
    assert asked[1].endswith("overlays/owner-standby")
    assert [one for one in asked if one.startswith("delete pod")] == ["delete pod sentinel-1", "delete pod sentinel-0"]
    assert not (kubectl / "created").exists()

    again = called(kubectl, "up", "--size", "owner-standby", "--cluster", "here")
    assert "replaced" not in again.stderr


def test_status_says_who_stands_by(kubectl):
    done = called(kubectl, "status", "--json")
    assert [(one["pod"], one["ready"], one["reason"]) for one in json.loads(done.stdout)] == [
        ("sentinel-0", True, None), ("sentinel-1", False, "standby"),
    ]  # fmt: skip
    assert "sentinel-1" in called(kubectl, "status").stdout


def test_what_fails_says_what(kubectl, tmp_path):
    state = json.loads((kubectl / "state").read_text())
    (kubectl / "state").write_text(json.dumps(state | {"fails": True}))
    done = called(kubectl, "up", "--cluster", "here")
    assert done.returncode == 1
    assert "the server is not there" in done.stderr
    (kubectl / "kubectl").unlink()
    empty = tmp_path / "empty"
    empty.mkdir()
    missing = subprocess.run(
        [sys.executable, SCRIPT, "status"], capture_output=True, text=True, timeout=60, env={"PATH": str(empty)}
    )
    assert missing.returncode == 1
    assert "there is no kubectl" in missing.stderr
