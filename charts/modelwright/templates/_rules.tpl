{{/*
What the operator may do where it works. Every line is there because a plan or `modelwright.kube` needs it, and
`modelwright.kube.resources` says the same: server-side apply is create and patch; deletes carry a UID; other people's
Secrets can be neither listed nor watched.
*/}}
{{- define "modelwright.rules" -}}
- apiGroups: [modelwright.dev]
  resources: [trainingjobs, tuningsweeps, modeldeployments, driftpolicies]
  verbs: [get, list, watch]
# Sweeps and drift policies create TrainingJobs; jobs and sweeps are deleted when their time is over.
- apiGroups: [modelwright.dev]
  resources: [trainingjobs]
  verbs: [create, patch, delete]
- apiGroups: [modelwright.dev]
  resources: [tuningsweeps]
  verbs: [delete]
- apiGroups: [modelwright.dev]
  resources: [trainingjobs/status, tuningsweeps/status, modeldeployments/status, driftpolicies/status]
  verbs: [patch]
# Owner references that block deletion need this where the cluster checks them (OpenShift does).
- apiGroups: [modelwright.dev]
  resources: [trainingjobs/finalizers, tuningsweeps/finalizers, modeldeployments/finalizers, driftpolicies/finalizers]
  verbs: [update]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
# Where KubeRay is installed, for jobs that want it.
- apiGroups: [ray.io]
  resources: [rayjobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
# Pods that outlive their Job, or a node that is gone, are deleted.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, delete]
{{- if eq .Values.gangScheduling "Auto" }}
# A gang's PodGroup goes with its Job. A cluster that serves none has nothing under this name.
- apiGroups: [scheduling.k8s.io]
  resources: [podgroups]
  verbs: [list, watch, create, patch]
{{- end }}
# Storage credentials are read by their name; a gang of Ray gets a token of its own, which goes with its owner.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create]
# Those of Jobs say which pods these may not make.
- apiGroups: [""]
  resources: [events]
  verbs: [list, create]
{{- end -}}
