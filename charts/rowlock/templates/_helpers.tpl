{{/* Name of the chart, as a label holds it. */}}
{{- define "rowlock.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* What names of objects begin with: 50 characters, so that "-coordinator" fits into the 63 of a Service. */}}
{{- define "rowlock.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- default $full .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* Name of the Deployment, of the Lease and of what belongs to them. */}}
{{- define "rowlock.operator" -}}
{{- include "rowlock.fullname" . }}-operator
{{- end }}

{{/* Name of the Service at which launchers reach the leader, and of the EndpointSlice that the leader writes. */}}
{{- define "rowlock.coordinator" -}}
{{- include "rowlock.fullname" . }}-coordinator
{{- end }}

{{- define "rowlock.metrics" -}}
{{- include "rowlock.fullname" . }}-metrics
{{- end }}

{{- define "rowlock.serviceAccount" -}}
{{- default (ternary (include "rowlock.operator" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{/* The operator's image. Digest goes before tag, and neither is dropped: with both, the tag is for people. */}}
{{- define "rowlock.image" -}}
{{- $tag := .Values.image.tag }}
{{- if not (or $tag .Values.image.digest) }}
{{- $tag = .Chart.AppVersion }}
{{- end }}
{{- .Values.image.repository }}{{ with $tag }}:{{ . }}{{ end }}{{ with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* What selects the operator's pods. It never changes: a Deployment's selector cannot. */}}
{{- define "rowlock.selectorLabels" -}}
app.kubernetes.io/name: {{ include "rowlock.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{/*
Labels of an object of the given component (a list of the context and the component's name), as a map. Of two with one
key the later wins: users may rename what this chart calls itself part of, but not what selects pods.
*/}}
{{- define "rowlock.labelsOf" -}}
{{- $ := first . }}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/version" $.Chart.AppVersion
  "app.kubernetes.io/managed-by" $.Release.Service
  "app.kubernetes.io/part-of" "rowlock"
}}
{{- $selected := include "rowlock.selectorLabels" $ | fromYaml }}
{{- $component := dict "app.kubernetes.io/component" (last .) }}
{{- toYaml (mergeOverwrite $own $.Values.commonLabels $selected $component) }}
{{- end }}

{{/* Labels of an object that belongs to the operator. */}}
{{- define "rowlock.labels" -}}
{{- include "rowlock.labelsOf" (list . "operator") }}
{{- end }}

{{/*
What the operator may do where its jobs are; rowlock_operator/kube/permissions.py says why, and the tests hold the two equal.
*/}}
{{- define "rowlock.jobRules" -}}
- apiGroups: [rowlock.dev]
  resources: [distributedtrainingjobs]
  verbs: [get, list, watch, delete]
- apiGroups: [rowlock.dev]
  resources: [distributedtrainingjobs/status]
  verbs: [patch]
- apiGroups: [rowlock.dev]
  resources: [distributedtrainingjobs/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, delete]
- apiGroups: [""]
  resources: [services, persistentvolumeclaims]
  verbs: [get, list, watch, create]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create]
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- if .Values.jobs.isolate }}
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, create]
{{- end }}
{{- end }}

{{/* The operator's ServiceAccount, as the subject of a binding. */}}
{{- define "rowlock.subjects" -}}
- kind: ServiceAccount
  name: {{ include "rowlock.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}
