"""The server of the size `embedded` as one pod for `podman play kube`: python deploy/k8s/one_pod.py IMAGE PORT.

Podman knows no StatefulSet. What differs besides: the machine's network, and a port that may be free there.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "helm"))
from write_chart import OVERLAYS, built


def documents_of(objects: list[dict[str, Any]], image: str, port: int) -> list[dict[str, Any]]:
    """Settings, claim and pod."""
    (stateful,) = [one for one in objects if one["kind"] == "StatefulSet"]
    (settings,) = [one for one in objects if one["kind"] == "ConfigMap"]
    template, (claim,) = stateful["spec"]["template"], stateful["spec"]["volumeClaimTemplates"]
    name = f"{claim['metadata']['name']}-{stateful['metadata']['name']}-0"
    pod = template["spec"] | {"hostNetwork": True}
    pod["volumes"] = [*pod["volumes"], {"name": "home", "persistentVolumeClaim": {"claimName": name}}]
    for container in pod["containers"]:
        del container["ports"]
        container |= {"image": image, "imagePullPolicy": "Never"}
        container["env"] = [*container["env"], {"name": "SENTINEL_PORT", "value": str(port)}]
    del settings["metadata"]["namespace"]
    return [
        settings,
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": claim["spec"]},
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "sentinel-0", "labels": template["metadata"]["labels"]},
            "spec": pod,
        },
    ]


if __name__ == "__main__":
    _, image, port = sys.argv
    sys.stdout.write(yaml.safe_dump_all(documents_of(built(OVERLAYS / "embedded"), image, int(port))))
