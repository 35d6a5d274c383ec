{{- define "sessiond.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains "sessiond" .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-sessiond" (.Release.Name | trunc 43 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "sessiond.selector" -}}
app.kubernetes.io/name: sessiond
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "sessiond.labels" -}}
{{ include "sessiond.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
{{- end -}}

{{- define "sessiond.serviceAccount" -}}
{{- .Values.serviceAccount.existingName | default (include "sessiond.fullname" .) -}}
{{- end -}}

{{- define "sessiond.image" -}}
{{- $repository := required "image.repository: where your build of sessiond's image is" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* Nine tenths of a quantity of memory, in bytes, as GOMEMLIMIT wants it. */}}
{{- define "sessiond.memoryLimit" -}}
{{- $quantity := toString . -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $number := regexFind "^[0-9]+([.][0-9]+)?" $quantity -}}
{{- $unit := trimPrefix $number $quantity -}}
{{- if or (eq $number "") (not (hasKey $units $unit)) -}}
{{- fail (printf "resources.limits.memory: %q: write it as 1Gi or 1536Mi" $quantity) -}}
{{- end -}}
{{- printf "%dB" (mulf (float64 $number) (get $units $unit) 0.9 | floor | int64) -}}
{{- end -}}

{{- define "sessiond.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* What says where sessions and keys are. */}}
{{- define "sessiond.storeEnv" -}}
{{- if .Values.store.existingSecret -}}
- name: SESSIOND_STORE_URL
  valueFrom:
    secretKeyRef: {name: {{ .Values.store.existingSecret }}, key: {{ .Values.store.key | quote }}}
{{- else -}}
# Below the mount: the root of a volume may hold lost+found.
- {name: SESSIOND_STORE_URL, value: "pebble:///var/lib/sessiond/store"}
{{- end }}
- {name: SESSIOND_ENCRYPTION_KEYSET_FILE, value: /run/sessiond/keyset/keyset.json}
{{- end }}
