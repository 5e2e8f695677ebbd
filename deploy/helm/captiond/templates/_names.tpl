{{- define "captiond.name" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "captiond.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "captiond.labels" -}}
{{ include "captiond.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "captiond.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "captiond.name" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "captiond.secret" -}}
{{- if .Values.existingSecret -}}
{{- .Values.existingSecret -}}
{{- else if .Values.secrets -}}
{{- include "captiond.name" . -}}
{{- end -}}
{{- end -}}

{{/* The configuration with what the chart sets: pods are asked by their own address, and write where a volume is. */}}
{{- define "captiond.config" -}}
{{- $ours := dict "http" (dict "listen" "0.0.0.0:8480") "state_dir" "/var/lib/captiond" -}}
{{- toYaml (merge $ours (deepCopy .Values.config)) -}}
{{- end -}}

{{/* Whole seconds of timeouts.drain_s, 60 where the configuration does not say. */}}
{{- define "captiond.drainSeconds" -}}
{{- $timeouts := default (dict) .Values.config.timeouts -}}
{{- ceil (default 60 $timeouts.drain_s) -}}
{{- end -}}
