"""`make k8s-up|status|forward|down`: Sentinel in a cluster of Kind on this machine; docs/kubernetes.md is the walk.

Also what an update needs in any cluster that kubectl points to: with `--cluster here`, nothing of Kind is asked.
"""

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

OVERLAYS = Path(__file__).with_name("overlays")
NAME = NAMESPACE = "sentinel"
IMAGE = "sentinel-serving:0.1.0"
"""What the manifests name."""
METRICS_SERVER = "https://github.com/kubernetes-sigs/metrics-server/releases/download/v0.8.0/components.yaml"
_PATIENCE_S, _PAUSE_S = 600, 2.0
Object = dict[str, Any]


class Refused(Exception):
    """A program is missing or has failed; the text says what to do."""


def run(*command: str, given: str | None = None) -> str:
    """What a program prints. Raises Refused with what it says where it fails."""
    if shutil.which(command[0]) is None:
        raise Refused(f"there is no {command[0]} on the PATH; docs/kubernetes.md says what is needed")
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def kubectl(*arguments: str, given: str | None = None) -> str:
    """The same of kubectl, in Sentinel's namespace."""
    return run("kubectl", "--namespace", NAMESPACE, *arguments, given=given)


def objects(*arguments: str) -> list[Object]:
    """What kubectl finds."""
    found: list[Object] = json.loads(kubectl("get", *arguments, "--output", "json"))["items"]
    return found


def until(what: Callable[[], bool], told: str) -> None:
    """Wait for it. Raises Refused, with `told`, after ten minutes."""
    end = time.monotonic() + _PATIENCE_S
    while not what():
        if time.monotonic() > end:
            raise Refused(f"{told} after {_PATIENCE_S} s; `make k8s-status` shows what stands in the way")
        time.sleep(_PAUSE_S)


def engine() -> str:
    """What has the images of this machine. Raises Refused."""
    found = next((one for one in ("docker", "podman") if shutil.which(one)), None)
    if found is None:
        raise Refused("there is neither docker nor podman on the PATH")
    if found == "podman":
        os.environ.setdefault("KIND_EXPERIMENTAL_PROVIDER", "podman")
    return found


def make_cluster(image: str) -> None:
    """A cluster of Kind with the metrics server and the image, each where it is not there yet."""
    program = engine()
    if NAME not in run("kind", "get", "clusters").split():
        run("kind", "create", "cluster", "--name", NAME, "--wait", "5m")
    run("kubectl", "apply", "--filename", METRICS_SERVER)
    insecure = [{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--kubelet-insecure-tls"}]
    patch = ("patch", "deployment", "metrics-server", "--type", "json", "--patch", json.dumps(insecure))
    if "--kubelet-insecure-tls" not in run(
        "kubectl", "--namespace", "kube-system", "get", "deployment", "metrics-server", "-o", "json"
    ):
        run("kubectl", "--namespace", "kube-system", *patch)  # Kind's certificates are its own
    with tempfile.TemporaryDirectory() as folder:
        archive = f"{folder}/image.tar"
        run(program, "tag", image, f"docker.io/library/{IMAGE}")
        run(program, "save", "--output", archive, f"docker.io/library/{IMAGE}")
        run("kind", "load", "image-archive", archive, "--name", NAME)


def make_secret() -> None:
    """The namespace, and a secret with new keys where there is none. They are nowhere else: nothing prints them."""
    run("kubectl", "apply", "--filename", str(OVERLAYS.parent / "base" / "namespace.yaml"))
    if any(one["metadata"]["name"] == NAME for one in objects("secrets")):
        return
    made = {name: secrets.token_hex(32) for name in ("admin-key", "hash-key", "fronts-key")}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME}, "stringData": made}
    kubectl("create", "--filename", "-", given=json.dumps(secret))


def apply(size: str) -> None:
    """Bring the cluster to what the files say. A job cannot be changed, so the one of before goes."""
    kubectl("delete", "job", "sentinel-migrate", "--ignore-not-found")
    run("kubectl", "apply", "--kustomize", str(OVERLAYS / size))


def replace_outdated() -> list[str]:
    """Delete servers of before, one that stands by first; the next one only once the new one is up again.

    The names in their order. Whoever decides hands over as it ends.
    """
    (stateful,) = objects("statefulsets")
    if stateful["spec"]["updateStrategy"]["type"] != "OnDelete":
        return []
    wanted = stateful["status"].get("updateRevision")
    found = servers()
    outdated = [one for one in found if one["metadata"]["labels"].get("controller-revision-hash") != wanted]
    replaced = []
    for one in sorted(outdated, key=is_ready):
        name, uid = one["metadata"]["name"], one["metadata"]["uid"]
        kubectl("delete", "pod", name)
        until(lambda name=name, uid=uid: _is_back(name, uid), f"{name} neither decides nor stands by")  # type: ignore[misc]
        replaced.append(name)
    return replaced


def servers() -> list[Object]:
    """The pods of the server."""
    return objects("pods", "--selector", "app.kubernetes.io/component=server")


def is_ready(pod: Object) -> bool:
    """Whether it decides."""
    conditions = pod["status"].get("conditions", [])
    return any((one["type"], one["status"]) == ("Ready", "True") for one in conditions)


def _is_back(name: str, uid: str) -> bool:
    found = [one for one in servers() if one["metadata"]["name"] == name and one["metadata"]["uid"] != uid]
    return bool(found) and (is_ready(found[0]) or reason(found[0]) == "standby")


def reason(pod: Object) -> str | None:
    """Why a pod is not ready, in Sentinel's word: `standby`, `model`, `loading`; None while it does not say."""
    address = pod["status"].get("podIP")
    health = f"http://{address}:8000/health/ready"
    asked = ("exec", pod["metadata"]["name"], "--container", "server", "--", "python", "-c", _ASK, health)
    try:
        said: str | None = json.loads(kubectl(*asked))["reason"]
    except (Refused, ValueError, KeyError):
        return None
    return said


_ASK = """
import sys, urllib.error, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())
except urllib.error.HTTPError as error:
    print(error.read().decode())
"""


def up(given: argparse.Namespace) -> None:
    """Cluster, secret, objects, and new servers for old ones."""
    if given.cluster == "kind":
        make_cluster(given.image)
        make_secret()
    apply(given.size)
    for name in replace_outdated():
        sys.stderr.write(f"replaced {name}\n")
    sys.stderr.write("applied; `make k8s-status` says what runs\n")


def status(given: argparse.Namespace) -> None:
    """Each pod with whether it is ready, and for the server why not."""
    rows = []
    for one in objects("pods"):
        part, ready = one["metadata"].get("labels", {}).get("app.kubernetes.io/component", ""), is_ready(one)
        why = None if ready or part != "server" else reason(one)
        facts = {"pod": one["metadata"]["name"], "part": part, "phase": one["status"]["phase"]}
        rows.append({**facts, "ready": ready, "reason": why})
    if given.json:
        sys.stdout.write(json.dumps(rows) + "\n")
        return
    for row in rows:
        state = "ready" if row["ready"] else row["reason"] or "not ready"
        sys.stdout.write(f"{row['pod']:<40} {row['part']:<10} {row['phase']:<10} {state}\n")


def forward(_given: argparse.Namespace) -> None:
    """The console at 127.0.0.1:8080, and the server at 127.0.0.1:8000, until Ctrl-C."""
    command = ("kubectl", "--namespace", NAMESPACE, "port-forward")
    parts = [("deployment/sentinel-console", "8080:8080"), ("statefulset/sentinel", "8000:8000")]
    running = [subprocess.Popen([*command, *part]) for part in parts]
    try:
        for one in running:
            one.wait()
    except KeyboardInterrupt:
        for one in running:
            one.terminate()


def down(given: argparse.Namespace) -> None:
    """Delete the cluster, with all that is in it."""
    if not given.yes and input(f"Delete the cluster {NAME} of Kind and every decision in it? [y/N] ").lower() != "y":
        raise Refused("nothing was deleted")
    engine()
    run("kind", "delete", "cluster", "--name", NAME)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python deploy/k8s/cluster.py", description=__doc__)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("up", help=up.__doc__)
    one.add_argument("--size", choices=sorted(path.name for path in OVERLAYS.iterdir()), default="embedded")
    one.add_argument("--image", default="localhost/sentinel:serving", help="of docker or podman here, for Kind")
    one.add_argument("--cluster", choices=("kind", "here"), default="kind", help="`here`: what kubectl points to")
    one.set_defaults(do=up)
    one = commands.add_parser("status", help=status.__doc__)
    one.add_argument("--json", action="store_true")
    one.set_defaults(do=status)
    commands.add_parser("forward", help=forward.__doc__).set_defaults(do=forward)
    one = commands.add_parser("down", help=down.__doc__)
    one.add_argument("--yes", action="store_true", help="do not ask")
    one.set_defaults(do=down)
    given = parser.parse_args(arguments)
    try:
        given.do(given)
    except Refused as problem:
        sys.stderr.write(f"error: {problem}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
