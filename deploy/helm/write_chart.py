"""Writes the Helm chart from what Kustomize builds: `python deploy/helm/write_chart.py`.

The overlays are the one source. Each size is a template; what differs from one installation to another becomes a value.
Needs kubectl or kustomize.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "sentinel"
OVERLAYS = Path(__file__).parents[1] / "k8s" / "overlays"
SIZES = ("embedded", "owner-standby", "wide")
NAMESPACE = "sentinel"
_SUFFIX = re.compile(r"^(sentinel-[a-z-]+?)-[0-9a-z]{10}$")
_MARK = re.compile(r"""(['"]?)<<(.*?)>>\1""")
Object = dict[str, Any]


class NoBuilder(Exception):
    """Neither kubectl nor kustomize is there, or it refused."""


def builder() -> list[str]:
    """The command that builds a folder of Kustomize's. Raises NoBuilder."""
    if kubectl := shutil.which("kubectl"):
        return [kubectl, "kustomize"]
    if kustomize := shutil.which("kustomize"):
        return [kustomize, "build"]
    raise NoBuilder("neither kubectl nor kustomize is on the PATH: install one of them")


def built(folder: Path) -> list[Object]:
    """The objects that a folder stands for. Raises NoBuilder."""
    done = subprocess.run([*builder(), str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoBuilder(f"{folder} cannot be built: {done.stderr.strip()}")
    return list(yaml.safe_load_all(done.stdout))


def template_of(size: str, objects: list[Object]) -> str:
    """What Helm makes the objects of, for this size."""
    kept = [_opened(one) for one in objects if one["kind"] != "Namespace"]
    body = yaml.safe_dump_all(kept, sort_keys=False, width=10_000, allow_unicode=True)
    text = _MARK.sub(lambda found: "{{ " + found[2].replace("''", "'") + " }}", body)
    return f'{{{{- if eq .Values.size "{size}" }}}}\n{text}{{{{- end }}}}\n'


def _opened(one: Object) -> Object:
    """With values in place of what an installation chooses; `<<...>>` marks what becomes `{{ ... }}`."""
    one = _renamed(one)
    one["metadata"]["namespace"] = "<<.Release.Namespace>>"
    spec = one.get("spec", {})
    if one["kind"] == "ConfigMap" and one["metadata"]["name"] == "sentinel-settings":
        given = " ".join(f'"{name}" "{value}"' for name, value in one["data"].items())
        in_namespace = f'replace ".{NAMESPACE}" (printf ".%s" .Release.Namespace) | fromJson'
        one["data"] = f"<<merge (deepCopy .Values.settings) (dict {given} | toJson | {in_namespace}) | toJson>>"
    if one["kind"] == "Job":
        one["metadata"]["name"] += "-<<.Release.Revision>>"
    if one["kind"] == "HorizontalPodAutoscaler":
        spec |= {"minReplicas": "<<.Values.fronts.least>>", "maxReplicas": "<<.Values.fronts.most>>"}
    for claim in spec.get("volumeClaimTemplates", []):
        claim["spec"]["resources"]["requests"]["storage"] = "<<.Values.storage | quote>>"
    if one["kind"] == "NetworkPolicy":
        for to in (to for rule in spec.get("egress", []) for to in rule["to"] if "ipBlock" in to):
            to["ipBlock"]["cidr"] = "<<.Values.dataNetwork | quote>>"
    if "template" in spec:
        _open_pod(spec["template"])
    return one


def _open_pod(template: Object) -> None:
    note = {"checksum/settings": "<<.Values.settings | toJson | sha256sum>>"}
    template["metadata"]["annotations"] = note
    pod = template["spec"]
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        container["image"] = "<<.Values.image | quote>>"


def _renamed(value: Any) -> Any:
    """Without the hashes that Kustomize adds to the names of config maps; Helm has an annotation for that."""
    if isinstance(value, dict):
        return {name: _renamed(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_renamed(inner) for inner in value]
    if isinstance(value, str) and (found := _SUFFIX.match(value)) and any(c.isdigit() for c in value[-10:]):
        return found[1]
    return value


def written() -> dict[Path, str]:
    """The templates, by where they are. Raises NoBuilder."""
    return {FOLDER / "templates" / f"{size}.yaml": template_of(size, built(OVERLAYS / size)) for size in SIZES}


if __name__ == "__main__":
    try:
        files = written()
    except NoBuilder as problem:
        sys.exit(f"error: {problem}")
    (FOLDER / "templates").mkdir(exist_ok=True)
    for path, text in files.items():
        path.write_text(text)
