# What has to hold of everything that is applied together. `input.objects` is the list of all objects of one size.
package sentinel

import rego.v1

workloads := [one | some one in input.objects; one.kind in {"Deployment", "StatefulSet", "Job"}]

kept_running := [one | some one in workloads; one.kind != "Job"]

named(one) := sprintf("%s %s", [one.kind, one.metadata.name])

pod(one) := one.spec.template.spec

containers(one) := array.concat(object.get(pod(one), "initContainers", []), pod(one).containers)

component(one) := one.spec.template.metadata.labels["app.kubernetes.io/component"]

decides(one) if component(one) in {"server", "front"}

may_have_many(one) if one.metadata.name in scaled

may_have_many(one) if object.get(one.spec, "replicas", 1) > 1

scaled contains one.spec.scaleTargetRef.name if {
	some one in input.objects
	one.kind == "HorizontalPodAutoscaler"
}

deny contains msg if {
	some one in workloads
	some container in containers(one)
	not regex.match(`^[^@]+(:[A-Za-z0-9_][A-Za-z0-9_.-]*|@sha256:[0-9a-f]{64})$`, container.image)
	msg := sprintf("%s: the image %s of %s names no version", [named(one), container.image, container.name])
}

deny contains msg if {
	some one in workloads
	some container in containers(one)
	endswith(container.image, ":latest")
	msg := sprintf("%s: the image of %s may be another one tomorrow: name its version", [named(one), container.name])
}

deny contains msg if {
	some one in workloads
	some resource in ["cpu", "memory"]
	some container in containers(one)
	not container.resources.requests[resource]
	msg := sprintf("%s: %s asks for no %s", [named(one), container.name, resource])
}

deny contains msg if {
	some one in workloads
	some container in containers(one)
	object.get(container, ["resources", "limits", "memory"], "none") != object.get(container, ["resources", "requests", "memory"], "")
	msg := sprintf("%s: the memory of %s is not what it asks for, so it may be killed for what others take", [named(one), container.name])
}

deny contains msg if {
	some one in workloads
	decides(one)
	some container in pod(one).containers
	container.resources.limits.cpu
	msg := sprintf("%s: %s decides, and a limit of processor time stops it for longer than its deadline", [named(one), container.name])
}

deny contains msg if {
	some one in kept_running
	some probe in ["startupProbe", "livenessProbe", "readinessProbe"]
	some container in pod(one).containers
	not container[probe]
	msg := sprintf("%s: %s has no %s", [named(one), container.name, probe])
}

deny contains msg if {
	some one in kept_running
	some probe in ["startupProbe", "livenessProbe"]
	some container in pod(one).containers
	path := container[probe].httpGet.path
	path != "/health/live"
	msg := sprintf("%s: the %s of %s asks for %s, which a standby and a server without its disk or model do not give: it would be killed over and over", [named(one), probe, container.name, path])
}

deny contains msg if {
	some one in kept_running
	decides(one)
	some container in pod(one).containers
	container.readinessProbe.httpGet.path != "/health/ready"
	msg := sprintf("%s: %s would get transactions that it cannot decide", [named(one), container.name])
}

deny contains msg if {
	some one in kept_running
	decides(one)
	object.get(pod(one), "terminationGracePeriodSeconds", 30) < 30 + (object.get(pod(one).containers[0], ["lifecycle", "preStop", "sleep", "seconds"], 0))
	msg := sprintf("%s: is killed before it has answered and saved its state (10 + 15 s, and what it sleeps before)", [named(one)])
}

deny contains msg if {
	some one in workloads
	pod(one).enableServiceLinks != false
	msg := sprintf("%s: a service's name would become settings (sentinel-console sets SENTINEL_CONSOLE_PORT)", [named(one)])
}

deny contains msg if {
	some one in workloads
	not "enableServiceLinks" in object.keys(pod(one))
	msg := sprintf("%s: a service's name would become settings: enableServiceLinks: false", [named(one)])
}

deny contains msg if {
	some one in kept_running
	may_have_many(one)
	not pod(one).topologySpreadConstraints
	msg := sprintf("%s: nothing keeps its pods from one machine", [named(one)])
}

deny contains msg if {
	some one in kept_running
	one.kind == "StatefulSet"
	object.get(one.spec, "replicas", 1) > 1
	object.get(one.spec, ["updateStrategy", "type"], "RollingUpdate") != "OnDelete"
	msg := sprintf("%s: one that stands by is never ready, so an update that waits for readiness never ends", [named(one)])
}

deny contains msg if {
	some one in kept_running
	one.kind == "StatefulSet"
	object.get(one.spec, "podManagementPolicy", "OrderedReady") != "Parallel"
	msg := sprintf("%s: the second pod would wait until the first is ready, which it may never be", [named(one)])
}
