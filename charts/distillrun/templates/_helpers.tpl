{{/* Names: "distillrun-operator", or "<release>-distillrun-operator" when the release is called something else. */}}
{{- define "distillrun.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 54 | trimSuffix "-" -}}
{{- end -}}

{{- define "distillrun.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "distillrun.name" . -}}
{{- if contains $name .Release.Name -}}
{{- printf "%s-operator" (.Release.Name | trunc 54 | trimSuffix "-") -}}
{{- else -}}
{{- printf "%s-operator" (printf "%s-%s" .Release.Name $name | trunc 54 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "distillrun.selectorLabels" -}}
app.kubernetes.io/name: {{ include "distillrun.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "distillrun.labels" -}}
{{ include "distillrun.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "distillrun.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "distillrun.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.create is false: name an existing ServiceAccount in serviceAccount.name" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "distillrun.leaseName" -}}
{{- default (include "distillrun.fullname" .) .Values.leaderElection.leaseName -}}
{{- end -}}

{{/* An image reference; the argument is (dict "root" $ "image" .Values.images.x). */}}
{{- define "distillrun.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .root.Chart.AppVersion .image.tag) -}}
{{- end -}}
{{- end -}}

{{/* What the operator may do where runs live. Nothing on Secrets, nodes or roles, and no exec into pods. */}}
{{- define "distillrun.rules" -}}
{{ .Files.Get "files/rules.yaml" }}
{{- end -}}
