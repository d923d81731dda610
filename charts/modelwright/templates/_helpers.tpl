{{- define "modelwright.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* `modelwright-operator` for a release called modelwright; otherwise the release's name goes first. */}}
{{- define "modelwright.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "modelwright.name" . -}}
{{- $owner := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- printf "%s-operator" ($owner | trunc 54 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "modelwright.selectorLabels" -}}
app.kubernetes.io/name: {{ include "modelwright.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "modelwright.labels" -}}
{{ include "modelwright.selectorLabels" . }}
app.kubernetes.io/part-of: modelwright
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "modelwright.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "modelwright.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* The reference of an image: a digest wins over a tag, and no tag means the version of this chart. */}}
{{- define "modelwright.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (.image.tag | default .appVersion) -}}
{{- end -}}
{{- end -}}

{{/* The Secret with the credentials of the default store; empty where pods have an identity of their own. */}}
{{- define "modelwright.storageSecretName" -}}
{{- if .Values.storage.secretName -}}
{{- .Values.storage.secretName -}}
{{- else if .Values.storage.credentials.accessKeyId -}}
modelwright-storage
{{- end -}}
{{- end -}}

{{- define "modelwright.alertsSecretName" -}}
{{- .Values.alerts.tokenSecretName | default (printf "%s-alerts" (include "modelwright.fullname" .)) -}}
{{- end -}}
