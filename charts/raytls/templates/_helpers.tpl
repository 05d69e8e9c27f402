{{/*
raytls.labels are the labels of every object. The pods' selectors hold none of them but the name.
*/}}
{{- define "raytls.labels" -}}
{{- $own := dict
  "app.kubernetes.io/name" "raytls"
  "app.kubernetes.io/version" (.Chart.AppVersion | replace "+" "_")
  "app.kubernetes.io/managed-by" .Release.Service
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") }}
{{- toYaml (merge $own .Values.commonLabels) }}
{{- end }}

{{/*
raytls.metadata is the metadata of an object, from a dict of root, name, and where they apply component, cluster (true for an object
without namespace), labels and annotations.
*/}}
{{- define "raytls.metadata" -}}
name: {{ .name }}
{{- if not .cluster }}
namespace: {{ .root.Release.Namespace }}
{{- end }}
labels:
  {{- $labels := include "raytls.labels" .root | fromYaml }}
  {{- with .component }}
  {{- $_ := set $labels "app.kubernetes.io/component" . }}
  {{- end }}
  {{- toYaml (merge $labels (.labels | default dict)) | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/*
raytls.selector are the labels by which the pods of a component are selected. They never change, for a Deployment's selector cannot.
*/}}
{{- define "raytls.selector" -}}
app.kubernetes.io/name: raytls
app.kubernetes.io/component: {{ . }}
{{- end }}

{{/*
raytls.kept are the annotations of objects that Argo CD, Helm and Flux keep when they leave Git or when the release is uninstalled.
*/}}
{{- define "raytls.kept" -}}
argocd.argoproj.io/sync-options: Prune=false,Delete=false
helm.sh/resource-policy: keep
kustomize.toolkit.fluxcd.io/prune: disabled
{{- end }}

{{/*
raytls.objects renders the objects of a file of files/, from a dict of root, text, and annotations of all objects. The files are plain
YAML: they name the default namespace and the controller's default account, and are right for others after this.
*/}}
{{- define "raytls.objects" -}}
{{- $root := .root }}
{{- $annotations := .annotations | default dict }}
{{- $text := .text | replace "raytls-system" $root.Release.Namespace }}
{{- $text = $text | replace "':raytls-controller'" (printf "':%s'" $root.Values.controller.serviceAccount.name) }}
{{- range splitList "\n---\n" (trimPrefix "---\n" $text) }}
{{- $object := fromYaml . }}
{{- if not $object.kind }}
{{- fail (printf "a file of the chart is no YAML of Kubernetes objects: %v" $object) }}
{{- end }}
{{- $metadata := $object.metadata }}
{{- $_ := set $metadata "labels" (merge (include "raytls.labels" $root | fromYaml) ($metadata.labels | default dict)) }}
{{- with merge (dict) $annotations ($metadata.annotations | default dict) $root.Values.commonAnnotations }}
{{- $_ := set $metadata "annotations" . }}
{{- end }}
{{- "\n---\n" }}{{ toYaml $object }}
{{- end }}
{{- end }}

{{/*
raytls.crd renders a CRD, from a dict of root and text. Whether tools keep it is decided here, whatever the file says.
*/}}
{{- define "raytls.crd" -}}
{{- $object := fromYaml .text }}
{{- $kept := include "raytls.kept" . | fromYaml }}
{{- range $key, $_ := $kept }}
{{- $_ := unset $object.metadata.annotations $key }}
{{- end }}
{{- include "raytls.objects" (dict "root" .root "text" (toYaml $object) "annotations" (ternary $kept dict .root.Values.crds.keep)) }}
{{- end }}

{{/*
raytls.check fails for values that the schema allows one by one and that do not work together.
*/}}
{{- define "raytls.check" -}}
{{- with .Values }}
{{- if and .webhook.enabled (eq .controller.serviceAccount.name .webhook.serviceAccount.name) }}
{{- fail "controller.serviceAccount.name and webhook.serviceAccount.name must differ: each process has rights of its own" }}
{{- end }}
{{- range $process := list "controller" "webhook" }}
{{- $ports := get $.Values $process | dig "ports" dict | values }}
{{- if ne (len $ports) (len (uniq $ports)) }}
{{- fail (printf "the ports of %s.ports must differ from each other" $process) }}
{{- end }}
{{- end }}
{{- $monitors := or .metrics.serviceMonitor.enabled .metrics.podMonitor.enabled .metrics.prometheusRule.enabled }}
{{- if and $monitors (not .metrics.enabled) }}
{{- fail "metrics.serviceMonitor, metrics.podMonitor and metrics.prometheusRule need metrics.enabled: without it there is nothing to scrape" }}
{{- end }}
{{- if and .metrics.serviceMonitor.enabled .metrics.podMonitor.enabled }}
{{- fail "enable metrics.serviceMonitor or metrics.podMonitor: with both, Prometheus scrapes every pod twice" }}
{{- end }}
{{- if and .metrics.podMonitor.enabled .metrics.secure (not .metrics.podMonitor.tokenSecret) }}
{{- fail "metrics.podMonitor.tokenSecret must name a Secret with a token, because metrics.secure is true" }}
{{- end }}
{{- end }}
{{- end }}

{{/*
raytls.image is the reference of the image.
*/}}
{{- define "raytls.image" -}}
{{- with .Values.image }}
{{- if .registry }}{{ .registry }}/{{ end }}{{ .repository }}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/*
raytls.args are the arguments of a process, from a dict of root and process. An option that has its default is left out.
*/}}
{{- define "raytls.args" -}}
{{- $values := .root.Values }}
{{- $own := get $values .process }}
{{- $args := list .process }}
{{- if not $values.metrics.enabled }}
{{- $args = append $args "--metrics-bind-address=0" }}
{{- else if ne (int $own.ports.metrics) 8443 }}
{{- $args = append $args (printf "--metrics-bind-address=:%d" (int $own.ports.metrics)) }}
{{- end }}
{{- if and $values.metrics.enabled (not $values.metrics.secure) }}
{{- $args = append $args "--metrics-insecure" }}
{{- end }}
{{- if ne (int $own.ports.probes) 8081 }}
{{- $args = append $args (printf "--health-probe-bind-address=:%d" (int $own.ports.probes)) }}
{{- end }}
{{- range $values.allowedInitImages }}
{{- $args = append $args (printf "--allowed-init-image=%s" .) }}
{{- end }}
{{- if ne (toString $values.log.level) "info" }}
{{- $args = append $args (printf "--zap-log-level=%v" $values.log.level) }}
{{- end }}
{{- if ne $values.log.format "json" }}
{{- $args = append $args (printf "--zap-encoder=%s" $values.log.format) }}
{{- end }}
{{- if eq .process "controller" }}
{{- with $values.clusterDomain }}
{{- $args = append $args (printf "--cluster-domain=%s" .) }}
{{- end }}
{{- with int $values.testing.minutesPerDay }}
{{- $args = append $args (printf "--testing-minutes-per-day=%d" .) }}
{{- end }}
{{- else }}
{{- if ne (int $own.ports.admission) 9443 }}
{{- $args = append $args (printf "--webhook-bind-address=:%d" (int $own.ports.admission)) }}
{{- end }}
{{- if $own.certManager.enabled }}
{{- $args = append $args "--webhook-cert-dir=/etc/raytls/webhook" }}
{{- end }}
{{- with $values.controller.serviceAccount.name }}
{{- if ne . "raytls-controller" }}
{{- $args = append $args (printf "--controller-username=system:serviceaccount:%s:%s" $.root.Release.Namespace .) }}
{{- end }}
{{- end }}
{{- end }}
{{- toYaml (concat $args $own.extraArgs) }}
{{- end }}

{{/*
raytls.ports lists the ports that a process serves, as name and number, from a dict of root and process.
*/}}
{{- define "raytls.ports" -}}
{{- $own := get .root.Values .process }}
{{- if .root.Values.metrics.enabled }}
- {name: metrics, port: {{ int $own.ports.metrics }}}
{{- end }}
- {name: probes, port: {{ int $own.ports.probes }}}
{{- if eq .process "webhook" }}
- {name: admission, port: {{ int $own.ports.admission }}}
{{- end }}
{{- end }}

{{/*
raytls.podSecurityContext is the pods' security context. OpenShift assigns user and group itself, and refuses others.
*/}}
{{- define "raytls.podSecurityContext" -}}
{{- if .Values.openshift }}
{{- toYaml (omit .Values.podSecurityContext "runAsUser" "runAsGroup" "fsGroup") }}
{{- else }}
{{- toYaml .Values.podSecurityContext }}
{{- end }}
{{- end }}

{{/*
raytls.process renders a process from a dict of root and process: its service account, Deployment and PodDisruptionBudget.
*/}}
{{- define "raytls.process" -}}
{{- $root := .root }}
{{- $process := .process }}
{{- $own := get $root.Values $process }}
{{- $name := printf "raytls-%s" $process }}
{{- if $own.serviceAccount.create }}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "raytls.metadata" (dict "root" $root "name" $own.serviceAccount.name "component" $process "annotations" $own.serviceAccount.annotations) | nindent 2 }}
---
{{- end }}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "raytls.metadata" (dict "root" $root "name" $name "component" $process) | nindent 2 }}
spec:
  replicas: {{ int $own.replicas }}
  {{- if $own.hostNetwork }}
  strategy:
    rollingUpdate:
      # A new pod cannot share a node with an old one, which has its ports.
      maxUnavailable: 1
  {{- else if eq $process "webhook" }}
  strategy:
    rollingUpdate:
      # A rollout starts a new pod before it ends an old one.
      maxUnavailable: 0
  {{- end }}
  selector:
    matchLabels:
      {{- include "raytls.selector" $process | nindent 6 }}
  template:
    metadata:
      labels:
        {{- toYaml (merge (include "raytls.selector" $process | fromYaml) $own.podLabels $root.Values.commonLabels) | nindent 8 }}
      annotations:
        {{- toYaml (merge (dict "kubectl.kubernetes.io/default-container" $process) $own.podAnnotations) | nindent 8 }}
    spec:
      serviceAccountName: {{ $own.serviceAccount.name }}
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets:
      {{- toYaml . | nindent 6 }}
      {{- end }}
      terminationGracePeriodSeconds: {{ int $own.terminationGracePeriodSeconds }}
      {{- if $own.hostNetwork }}
      hostNetwork: true
      dnsPolicy: ClusterFirstWithHostNet
      {{- end }}
      {{- with $own.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $own.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $own.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $own.tolerations }}
      tolerations:
      {{- toYaml . | nindent 6 }}
      {{- end }}
      {{- with $own.topologySpreadConstraints }}
      topologySpreadConstraints:
      {{- toYaml . | nindent 6 }}
      {{- end }}
      securityContext:
        {{- include "raytls.podSecurityContext" $root | nindent 8 }}
      containers:
      - name: {{ $process }}
        image: {{ include "raytls.image" $root | quote }}
        imagePullPolicy: {{ $root.Values.image.pullPolicy }}
        command: [/manager]
        args:
        {{- include "raytls.args" . | nindent 8 }}
        env:
        - name: POD_NAMESPACE
          valueFrom:
            fieldRef:
              fieldPath: metadata.namespace
        {{- with $own.goMemLimit }}
        # Below the limit, so that a burst of large objects is collected before the container is killed.
        - name: GOMEMLIMIT
          value: {{ . | quote }}
        {{- end }}
        {{- with $own.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        ports:
        {{- range include "raytls.ports" . | fromYamlArray }}
        - name: {{ .name }}
          containerPort: {{ .port }}
        {{- end }}
        livenessProbe:
          httpGet: {path: /healthz, port: probes}
          initialDelaySeconds: 10
        readinessProbe:
          httpGet: {path: /readyz, port: probes}
          periodSeconds: 2
        {{- if eq $process "webhook" }}
        volumeMounts:
        - name: webhook-certificate
          mountPath: /etc/raytls/webhook
          readOnly: true
        {{- end }}
        {{- with $own.resources }}
        resources:
          {{- toYaml . | nindent 10 }}
        {{- end }}
        securityContext:
          {{- toYaml $root.Values.containerSecurityContext | nindent 10 }}
      {{- if eq $process "webhook" }}
      volumes:
      # The controller or cert-manager makes it. A pod waits for it, which is better than one that answers nobody.
      - name: webhook-certificate
        secret:
          secretName: {{ ternary "raytls-webhook-cert-manager" "raytls-webhook-ca" $own.certManager.enabled }}
      {{- end }}
{{- if $own.podDisruptionBudget.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "raytls.metadata" (dict "root" $root "name" $name "component" $process) | nindent 2 }}
spec:
  maxUnavailable: {{ $own.podDisruptionBudget.maxUnavailable }}
  selector:
    matchLabels:
      {{- include "raytls.selector" $process | nindent 6 }}
{{- end }}
{{- end }}
