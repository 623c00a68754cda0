{{- define "twinhull.name" -}}
{{- default .Release.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "twinhull.serviceAccount" -}}
{{- default (include "twinhull.name" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "twinhull.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}

{{- define "twinhull.selector" -}}
app.kubernetes.io/name: twinhull-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "twinhull.labels" -}}
{{ include "twinhull.selector" . }}
app.kubernetes.io/part-of: twinhull
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "twinhull.consoleNames" -}}
{{- $service := printf "%s-console" (include "twinhull.name" .) -}}
{{- $own := list $service (printf "%s.%s" $service .Release.Namespace) (printf "%s.%s.svc" $service .Release.Namespace) -}}
{{- join " " (concat $own .Values.console.names) -}}
{{- end -}}

{{/* What the console's roles for people allow: looking, and orders but for the one that may lose data. */}}
{{- define "twinhull.viewRules" -}}
- apiGroups: [twinhull.dev]
  resources: [mirrormodules, farmmodules]
  verbs: [get, list, watch]
{{- end -}}

{{- define "twinhull.orderRules" -}}
- apiGroups: [twinhull.dev]
  resources: [mirrormodules]
  verbs: [switchover, start, stop, restart, resync, verify, repair, hold, resume]
- apiGroups: [twinhull.dev]
  resources: [farmmodules]
  verbs: [drain, resume, start, stop, restart]
{{- end -}}

{{/* What the operator may do to the objects of modules, in a namespace or in all. */}}
{{- define "twinhull.moduleRules" -}}
- apiGroups: [twinhull.dev]
  resources: [mirrormodules, farmmodules]
  verbs: [get, list, watch]
- apiGroups: [twinhull.dev]
  resources: [mirrormodules/status, farmmodules/status]
  verbs: [patch]
- apiGroups: [apps]
  resources: [daemonsets]
  verbs: [get, create, patch]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, create, patch, delete]
# Certificates are made, read and renewed; never listed or deleted.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch]
- apiGroups: [""]
  resources: [services]
  verbs: [get, create, patch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, create, patch, delete]
# An EndpointSlice with addresses outside the pod network (the virtual IPs) needs this where the admission plugin for it
# is on.
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices/restricted]
  verbs: [create]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, delete]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end -}}
