"""Faults planted in what would be applied, and what has to be said of each."""

from collections.abc import Callable
from typing import Any

Objects = list[dict[str, Any]]


def one_of(objects: Objects, kind: str, name: str) -> dict[str, Any]:
    (found,) = [one for one in objects if one["kind"] == kind and one["metadata"]["name"].startswith(name)]
    return found


def pod(objects: Objects, name: str = "sentinel", kind: str = "StatefulSet") -> dict[str, Any]:
    return next(one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name))["spec"]["template"][
        "spec"
    ]


def server(objects: Objects) -> dict[str, Any]:
    return pod(objects)["containers"][0]


def stateful(objects: Objects) -> dict[str, Any]:
    return one_of(objects, "StatefulSet", "sentinel")["spec"]


def autoscaler(objects: Objects) -> dict[str, Any]:
    return one_of(objects, "HorizontalPodAutoscaler", "sentinel-fronts")["spec"]


def cpu(objects: Objects) -> dict[str, Any]:
    return autoscaler(objects)["metrics"][0]["resource"]


def named(objects: Objects, kind: str, name: str) -> dict[str, Any]:
    return next(one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name))


def fronts(objects: Objects) -> dict[str, Any]:
    return named(objects, "Deployment", "sentinel-fronts")["spec"]


def without(one: dict[str, Any], *path: str) -> None:
    *steps, last = path
    for step in steps:
        one = one[step]
    del one[last]


PLANTED: dict[str, tuple[Callable[[Objects], Any], str]] = {
    "an image without a version": (lambda o: server(o).update(image="sentinel-serving"), "names no version"),
    "the newest image": (lambda o: server(o).update(image="sentinel-serving:latest"), "may be another one tomorrow"),
    "no request": (lambda o: without(server(o), "resources", "requests", "cpu"), "asks for no cpu"),
    "no limit of memory": (lambda o: without(server(o), "resources", "limits"), "is not what it asks for"),
    "less memory asked for than used": (
        lambda o: server(o)["resources"]["limits"].update(memory="8Gi"), "the memory of server is not what it asks for"),
    "a limit of processor time": (lambda o: server(o)["resources"]["limits"].update(cpu="2"), "stops it for longer than its deadline"),
    "no probe": (lambda o: without(server(o), "livenessProbe"), "server has no livenessProbe"),
    "a standby killed by its probe": (
        lambda o: server(o)["startupProbe"]["httpGet"].update(path="/health/startup"), "killed over and over"),
    "a server killed for a full disk": (
        lambda o: server(o)["livenessProbe"]["httpGet"].update(path="/health/ready"), "killed over and over"),
    "a standby that is asked": (
        lambda o: server(o)["readinessProbe"]["httpGet"].update(path="/health/live"), "would get transactions that it cannot decide"),
    "no time to end": (lambda o: pod(o).update(terminationGracePeriodSeconds=20), "killed before it has answered"),
    "no time to end after the sleep": (
        lambda o: fronts(o)["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"].update(seconds=30),
        "killed before it has answered"),
    "settings from names of services": (lambda o: pod(o).update(enableServiceLinks=True), "would become settings (sentinel-console"),
    "settings from names of services by default": (lambda o: without(pod(o), "enableServiceLinks"), "would become settings: enable"),
    "owner and standby on one machine": (lambda o: without(pod(o), "topologySpreadConstraints"), "nothing keeps its pods from one machine"),
    "fronts on one machine": (
        lambda o: without(fronts(o)["template"]["spec"], "topologySpreadConstraints"), "Deployment sentinel-fronts: nothing keeps"),
    "an update that never ends": (lambda o: stateful(o).update(updateStrategy={"type": "RollingUpdate"}), "never ends"),
    "a second pod that waits for ever": (lambda o: without(stateful(o), "podManagementPolicy"), "would wait until the first is ready"),
    "root": (lambda o: without(pod(o), "securityContext", "runAsNonRoot"), "may run as root"),
    "all system calls": (lambda o: without(pod(o), "securityContext", "seccompProfile"), "may call all of the kernel"),
    "new privileges": (lambda o: without(server(o), "securityContext", "allowPrivilegeEscalation"), "may gain privileges"),
    "new privileges in an init container": (
        lambda o: pod(o)["initContainers"][0]["securityContext"].update(allowPrivilegeEscalation=True), "keys may gain privileges"),
    "capabilities": (lambda o: server(o)["securityContext"].update(capabilities={"drop": ["NET_RAW"]}), "keeps capabilities"),
    "a root that can be written": (lambda o: without(server(o), "securityContext", "readOnlyRootFilesystem"), "may write to its own program"),
    "the machine's network": (lambda o: pod(o).update(hostNetwork=True), "shares hostNetwork"),
    "the machine's files": (
        lambda o: pod(o)["volumes"].append({"name": "host", "hostPath": {"path": "/etc"}}), "mounts the machine's /etc"),
    "a token of the cluster": (lambda o: without(pod(o), "automountServiceAccountToken"), "has a token of the cluster"),
    "files opened to the group": (lambda o: without(pod(o), "securityContext", "fsGroupChangePolicy"), "keys.json is refused then"),
    "a secret among the files": (
        lambda o: o.append({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "stringData": {"key": "x"}}),
        "secrets are made in the cluster"),
    "a password written down": (
        lambda o: server(o)["env"].append({"name": "SENTINEL_DATABASE_URL", "value": "postgresql://a:b@c/d"}), "is written down"),
    "a key among the settings": (
        lambda o: one_of(o, "ConfigMap", "sentinel-settings")["data"].update(SENTINEL_ADMIN_KEY="0123456789abcdef"), "is no secret there"),
    "nothing closed": (lambda o: o.remove(named(o, "NetworkPolicy", "sentinel-nothing")), "no NetworkPolicy closes"),
    "what closes all opens all": (
        lambda o: named(o, "NetworkPolicy", "sentinel-nothing")["spec"].update(egress=[{"ports": [{"port": 443}]}]),
        "no NetworkPolicy closes"),
    "all ports": (
        lambda o: without(named(o, "NetworkPolicy", "sentinel-data")["spec"]["egress"][0], "ports"), "opens all ports"),
    "the machine's credentials": (
        lambda o: without(named(o, "NetworkPolicy", "sentinel-data")["spec"]["egress"][0]["to"][0], "ipBlock", "except"),
        "hands out the machine's credentials"),
    "a port on every machine": (lambda o: named(o, "Service", "sentinel")["spec"].update(type="NodePort"), "without TLS"),
    "a namespace that takes anything": (
        lambda o: without(named(o, "Namespace", "sentinel"), "metadata", "labels", "pod-security.kubernetes.io/enforce"),
        "takes pods that are not restricted"),
    "a target of the wrong type": (
        lambda o: cpu(o).update(name="memory", target={"type": "Utilization", "averageValue": "500Mi"}),
        "a target of the type Utilization has no averageUtilization"),
    "a target of two types": (
        lambda o: cpu(o).update(target={"type": "Utilization", "averageUtilization": 60, "averageValue": "500m"}),
        "gives averageValue, which does not count"),
    "a target that the metric has not": (
        lambda o: autoscaler(o)["metrics"][1]["pods"].update(target={"type": "Value", "value": "50"}),
        "a metric of the type Pods has no target of the type Value"),
    "scaling by memory": (
        lambda o: cpu(o).update(name="memory", target={"type": "Utilization", "averageUtilization": 80}), "memory does not fall"),
    "one front": (lambda o: autoscaler(o).update(minReplicas=1), "one pod that ends is all there is"),
    "scaling what is not there": (lambda o: autoscaler(o)["scaleTargetRef"].update(name="sentinel-front"), "what it scales is not there"),
    "scaling what owns the log": (
        lambda o: autoscaler(o)["scaleTargetRef"].update(kind="StatefulSet", name="sentinel"), "more of them would stand by"),
    "a number that each apply puts back": (lambda o: fronts(o).update(replicas=3), "each apply would put its number back"),
    "no budget": (lambda o: o.remove(named(o, "PodDisruptionBudget", "sentinel-fronts")), "needs one PodDisruptionBudget"),
    "a budget of nothing": (
        lambda o: named(o, "PodDisruptionBudget", "sentinel")["spec"]["selector"].update(matchLabels={"app": "sentinel"}),
        "PodDisruptionBudget sentinel: no pod has its labels"),
    "a service of nothing": (
        lambda o: named(o, "Service", "sentinel-fronts")["spec"].update(selector={"app": "sentinel"}),
        "Service sentinel-fronts: no pod has its labels"),
}  # fmt: skip
"""Each in the size `wide`: how it is planted, and words that the rule which finds it says."""
