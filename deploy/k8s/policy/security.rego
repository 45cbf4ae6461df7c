# The restricted profile of Kubernetes' pod security, and a read-only root; no secret among the files; nothing is reached
# that no policy names.
package sentinel

import rego.v1

deny contains msg if {
	some one in workloads
	not pod(one).securityContext.runAsNonRoot
	msg := sprintf("%s: may run as root", [named(one)])
}

deny contains msg if {
	some one in workloads
	object.get(pod(one), ["securityContext", "seccompProfile", "type"], "") != "RuntimeDefault"
	msg := sprintf("%s: may call all of the kernel: seccompProfile RuntimeDefault", [named(one)])
}

deny contains msg if {
	some one in workloads
	some container in containers(one)
	object.get(container, ["securityContext", "allowPrivilegeEscalation"], true)
	msg := sprintf("%s: %s may gain privileges", [named(one), container.name])
}

deny contains msg if {
	some one in workloads
	some container in containers(one)
	not "ALL" in object.get(container, ["securityContext", "capabilities", "drop"], [])
	msg := sprintf("%s: %s keeps capabilities", [named(one), container.name])
}

deny contains msg if {
	some one in workloads
	some container in containers(one)
	not object.get(container, ["securityContext", "readOnlyRootFilesystem"], false)
	msg := sprintf("%s: %s may write to its own program", [named(one), container.name])
}

deny contains msg if {
	some one in workloads
	some what in ["hostNetwork", "hostPID", "hostIPC"]
	object.get(pod(one), what, false)
	msg := sprintf("%s: shares %s with its machine", [named(one), what])
}

deny contains msg if {
	some one in workloads
	some volume in object.get(pod(one), "volumes", [])
	volume.hostPath
	msg := sprintf("%s: mounts the machine's %s", [named(one), volume.hostPath.path])
}

deny contains msg if {
	some one in workloads
	object.get(pod(one), "automountServiceAccountToken", true)
	msg := sprintf("%s: has a token of the cluster, and needs none", [named(one)])
}

deny contains msg if {
	some one in workloads
	pod(one).securityContext.fsGroup
	object.get(pod(one), ["securityContext", "fsGroupChangePolicy"], "Always") != "OnRootMismatch"
	msg := sprintf("%s: each start opens its files to the group, and keys.json is refused then", [named(one)])
}

deny contains msg if {
	some one in input.objects
	one.kind == "Secret"
	msg := sprintf("%s: secrets are made in the cluster, not kept among the files", [named(one)])
}

secret_name(name) if regex.match(`(PASSWORD|SECRET|TOKEN)$|_KEY$|_DATABASE_URL$|_REDIS_URL$|_SMTP_URL$`, name)

deny contains msg if {
	some one in workloads
	some container in containers(one)
	some variable in object.get(container, "env", [])
	secret_name(variable.name)
	not variable.valueFrom.secretKeyRef
	msg := sprintf("%s: %s of %s is written down: take it from a secret", [named(one), variable.name, container.name])
}

deny contains msg if {
	some one in input.objects
	one.kind == "ConfigMap"
	some name, _ in one.data
	secret_name(name)
	msg := sprintf("%s: %s is no secret there: take it from one", [named(one), name])
}

deny contains msg if {
	count([one | some one in input.objects; closes_all(one)]) == 0
	msg := "no NetworkPolicy closes what no other one opens"
}

closes_all(one) if {
	one.kind == "NetworkPolicy"
	one.spec.podSelector == {}
	{"Ingress", "Egress"} == {kind | some kind in one.spec.policyTypes}
	not one.spec.ingress
	not one.spec.egress
}

deny contains msg if {
	some one in input.objects
	one.kind == "NetworkPolicy"
	some way in ["ingress", "egress"]
	some rule in object.get(one.spec, way, [])
	not rule.ports
	msg := sprintf("%s: opens all ports", [named(one)])
}

deny contains msg if {
	some one in input.objects
	one.kind == "NetworkPolicy"
	some rule in object.get(one.spec, "egress", [])
	some to in rule.to
	to.ipBlock.cidr == "0.0.0.0/0"
	not "169.254.0.0/16" in object.get(to.ipBlock, "except", [])
	msg := sprintf("%s: reaches the address that hands out the machine's credentials", [named(one)])
}

deny contains msg if {
	some one in input.objects
	one.kind == "Service"
	object.get(one.spec, "type", "ClusterIP") != "ClusterIP"
	msg := sprintf("%s: is reached from outside without TLS: put an ingress in front", [named(one)])
}

deny contains msg if {
	some one in input.objects
	one.kind == "Namespace"
	object.get(one.metadata, ["labels", "pod-security.kubernetes.io/enforce"], "") != "restricted"
	msg := sprintf("%s: takes pods that are not restricted", [named(one)])
}
