# Autoscalers and disruption budgets: what a schema takes and a cluster does not act on.
package sentinel

import rego.v1

autoscalers := [one | some one in input.objects; one.kind == "HorizontalPodAutoscaler"]

budgets := [one | some one in input.objects; one.kind == "PodDisruptionBudget"]

target(metric) := metric[lower_first(metric.type)].target

lower_first(type) := {"Resource": "resource", "Pods": "pods", "Object": "object", "External": "external", "ContainerResource": "containerResource"}[type]

needed := {"Utilization": "averageUtilization", "AverageValue": "averageValue", "Value": "value"}

allowed := {
	"Resource": {"Utilization", "AverageValue"},
	"ContainerResource": {"Utilization", "AverageValue"},
	"Pods": {"AverageValue"},
	"Object": {"Value", "AverageValue"},
	"External": {"Value", "AverageValue"},
}

deny contains msg if {
	some one in autoscalers
	some metric in one.spec.metrics
	not target(metric)[needed[target(metric).type]]
	msg := sprintf("%s: a target of the type %s has no %s", [named(one), target(metric).type, needed[target(metric).type]])
}

deny contains msg if {
	some one in autoscalers
	some metric in one.spec.metrics
	some type, field in needed
	type != target(metric).type
	target(metric)[field]
	msg := sprintf("%s: a target of the type %s gives %s, which does not count", [named(one), target(metric).type, field])
}

deny contains msg if {
	some one in autoscalers
	some metric in one.spec.metrics
	not target(metric).type in allowed[metric.type]
	msg := sprintf("%s: a metric of the type %s has no target of the type %s", [named(one), metric.type, target(metric).type])
}

deny contains msg if {
	some one in autoscalers
	some metric in one.spec.metrics
	metric.type == "Resource"
	metric.resource.name == "memory"
	msg := sprintf("%s: memory does not fall when there are more pods, so there would be ever more", [named(one)])
}

deny contains msg if {
	some one in autoscalers
	one.spec.minReplicas < 2
	msg := sprintf("%s: one pod that ends is all there is", [named(one)])
}

deny contains msg if {
	some one in autoscalers
	count([found | some found in workloads; found.kind == one.spec.scaleTargetRef.kind; found.metadata.name == one.spec.scaleTargetRef.name]) == 0
	msg := sprintf("%s: what it scales is not there", [named(one)])
}

deny contains msg if {
	some one in autoscalers
	one.spec.scaleTargetRef.kind != "Deployment"
	msg := sprintf("%s: one process owns the log: more of them would stand by", [named(one)])
}

deny contains msg if {
	some one in workloads
	one.metadata.name in scaled
	"replicas" in object.keys(one.spec)
	msg := sprintf("%s: each apply would put its number back, which the autoscaler keeps", [named(one)])
}

deny contains msg if {
	some one in kept_running
	decides(one)
	count([budget | some budget in budgets; chosen(budget.spec.selector.matchLabels, one)]) != 1
	msg := sprintf("%s: needs one PodDisruptionBudget", [named(one)])
}

deny contains msg if {
	some budget in budgets
	count([one | some one in kept_running; chosen(budget.spec.selector.matchLabels, one)]) == 0
	msg := sprintf("%s: no pod has its labels", [named(budget)])
}

deny contains msg if {
	some one in input.objects
	one.kind == "Service"
	count([found | some found in kept_running; chosen(one.spec.selector, found)]) == 0
	msg := sprintf("%s: no pod has its labels", [named(one)])
}

chosen(labels, one) if {
	count(labels) > 0
	every name, value in labels {
		one.spec.template.metadata.labels[name] == value
	}
}
