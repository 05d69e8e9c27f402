# Everything a contributor runs. Tools and control plane are built from the Go modules pinned in hack/, so a
# machine needs Go, git, make and bash, and the Go module proxy.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Without cgo all that is compiled here, tests and tools included, shares one build cache, and needs no C compiler.
export CGO_ENABLED := 0

# The image that docker-build makes, deploy installs and test-e2e proves.
IMG ?= controller:latest
# What the binaries say they are.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
KUBECTL ?= kubectl
# A Helm 4.
HELM ?= hack/helm
# Further arguments of helm for deploy, as in make deploy VALUES=--set=controller.replicas=1.
VALUES ?=
CONTAINER_TOOL ?= docker
# Arguments of the controller under `make run`.
ARGS ?=
# Further arguments of `go test`, as in make test GOTESTFLAGS=-v.
GOTESTFLAGS ?=
# Which end-to-end tests to run, as a Ginkgo label filter; all of them if empty.
LABELS ?=
# The image of Ray for test-ray and bench-ray, and that of Redis; if empty, the release RAY on a test cluster.
RAY_IMAGE ?=
REDIS_IMAGE ?=
RAY ?= 2.60.0
FUZZTIME ?= 20s
# How long make test-hostile sends.
HOSTILE_DURATION ?= 5m
BENCH ?= .
# How long the spec of test-ray LABELS=days watches: ten to twenty lifetimes of a certificate.
DAYS_DURATION ?= 7h
# How often bench-ray measures each way to run a cluster.
BENCH_ROUNDS ?= 5

# hack/built prints the directory that it keeps a tool in, and builds it there the first time.
CONTROLLER_GEN = "$$(hack/built hack/tools controller-gen=sigs.k8s.io/controller-tools/cmd/controller-gen)/controller-gen"
CRD_REF_DOCS = "$$(hack/built hack/tools crd-ref-docs=github.com/elastic/crd-ref-docs)/crd-ref-docs"
GOLANGCI_LINT = "$$(hack/built hack/lint golangci-lint=sigs.k8s.io/kube-api-linter/cmd/golangci-lint-kube-api-linter)/golangci-lint"

##@ General

.PHONY: help
help: ## Show this help.
	@awk 'BEGIN {FS = ":.*##"; print "Usage: make [target] [VARIABLE=value]"} \
		/^[a-z0-9-]+:.*##/ {printf "  %-14s%s\n", $$1, $$2} \
		/^##@/ {printf "\n%s\n", substr($$0, 5)}' $(MAKEFILE_LIST)

##@ Develop

.PHONY: generate
generate: ## Generate the Go code that is made from the API types: deep copies and apply configurations.
	$(CONTROLLER_GEN) object:headerFile=hack/boilerplate.go.txt applyconfiguration:headerFile=hack/boilerplate.go.txt paths=./api/...

.PHONY: manifests
manifests: ## Generate the CRDs, and the role of each process, from the markers in the code.
	$(CONTROLLER_GEN) crd paths=./api/... output:crd:artifacts:config=charts/raytls/files/crds
	$(CONTROLLER_GEN) rbac:roleName=raytls-controller,fileName=controller.yaml paths=./internal/controller/... paths=./internal/app output:rbac:artifacts:config=charts/raytls/files/roles
	$(CONTROLLER_GEN) rbac:roleName=raytls-webhook,fileName=webhook.yaml paths=./internal/webhook/... output:rbac:artifacts:config=charts/raytls/files/roles

.PHONY: docs
docs: ## Generate the field reference from the API types, the tables of what is encrypted from what the real Ray is tested for, and that of the chart's values.
	$(CRD_REF_DOCS) --log-level=ERROR --source-path=./api/v1alpha1 --config=hack/refdocs/config.yaml \
		--templates-dir=hack/refdocs/templates --renderer=markdown --output-path=docs/reference/api.md
	go run ./test/ray/expected/page docs/concepts/what-is-encrypted.md
	go run ./hack/chartvalues charts/raytls/values.yaml charts/raytls/README.md

.PHONY: dist
dist: ## Render dist/install.yaml from the chart.
	manifests=$$(hack/dist) && mkdir -p dist && echo "$$manifests" >dist/install.yaml

.PHONY: build
build: ## Build bin/manager and bin/raytls, static.
	go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o bin/ ./cmd/manager ./cmd/raytls

.PHONY: run
run: ## Run the controller here, against the current kubeconfig (ARGS=...).
	go run ./cmd/manager controller $(ARGS)

.PHONY: demo
demo: ## Show the whole thing on this machine: control plane, KubeRay, operator, handshakes. Needs openssl.
	hack/demo/run

##@ Test

.PHONY: test
test: ## Run the unit tests, the envtest suites, and the tests with Flux's library, kubectl and Prometheus' engine (GOTESTFLAGS=-v).
	hack/test $(GOTESTFLAGS)
	hack/gitops $(GOTESTFLAGS)
	hack/alerts $(GOTESTFLAGS)

.PHONY: test-chart
test-chart: ## Check the Helm chart, with both major versions of Helm and the schemas of each supported Kubernetes.
	hack/chart $(GOTESTFLAGS)

# Helm is built before the suite, which gives make deploy some minutes.
.PHONY: test-e2e
test-e2e: ## Run the end-to-end suite against the current kubeconfig, with KubeRay running and IMG loaded.
	$(HELM) version >/dev/null
	IMG='$(IMG)' go test -tags=e2e -count=1 -timeout=45m $(GOTESTFLAGS) ./test/e2e -ginkgo.v -ginkgo.label-filter='$(LABELS)'

.PHONY: test-ray
test-ray: ## Run the suite with the real Ray: of RAY_IMAGE on the current kubeconfig's cluster, or of RAY (2.60.0) on a test cluster.
	IMG='$(IMG)' RAY='$(RAY)' RAY_IMAGE='$(RAY_IMAGE)' REDIS_IMAGE='$(REDIS_IMAGE)' DAYS_DURATION='$(DAYS_DURATION)' hack/real-ray -v $(GOTESTFLAGS) ./test/ray -ginkgo.v -ginkgo.label-filter='$(LABELS)'

.PHONY: test-hostile
test-hostile: ## Have one namespace of the current kubeconfig's cluster send the deployed operator the worst for HOSTILE_DURATION (5m), and restart it.
	HOSTILE_DURATION='$(HOSTILE_DURATION)' go test -tags=hostile -count=1 -timeout=60m -v $(GOTESTFLAGS) ./test/hostile

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME.
	@grep -rl --include='*_test.go' '^func Fuzz' internal | xargs -r -n 1 dirname | sort -u | while read -r dir; do \
		for target in $$(go test -list '^Fuzz' "./$$dir" | grep '^Fuzz'); do \
			go test -run='^$$' -fuzz="^$$target$$" -fuzztime=$(FUZZTIME) "./$$dir"; \
		done; \
	done

.PHONY: bench
bench: ## Run the benchmarks that match BENCH.
	assets=$$(hack/controlplane/assets) && KUBEBUILDER_ASSETS=$$assets go test -run='^$$' -bench='$(BENCH)' -benchmem -timeout=30m $(GOTESTFLAGS) ./internal/...

.PHONY: bench-ray
bench-ray: ## Measure what TLS costs the real Ray, on the cluster and with the images of test-ray, in BENCH_ROUNDS rounds.
	IMG='$(IMG)' RAY='$(RAY)' RAY_IMAGE='$(RAY_IMAGE)' BENCH_ROUNDS='$(BENCH_ROUNDS)' hack/real-ray -v -timeout=3h $(GOTESTFLAGS) ./test/ray -ginkgo.label-filter=bench

##@ Check

.PHONY: lint
lint: ## Run golangci-lint with kube-api-linter, and shellcheck where it is installed.
	$(GOLANGCI_LINT) run
	hack/shellcheck

.PHONY: fmt
fmt: ## Format the Go code as lint asks for.
	$(GOLANGCI_LINT) fmt

.PHONY: verify
verify: lint ## Run lint, check in a copy that everything generated is what its sources give, and scan for known vulnerabilities.
	hack/verify
	hack/vuln/check

##@ Deploy

# Forced, for Helm owns the CRDs where deploy installed them.
.PHONY: install
install: ## Install the CRDs alone, as make run needs them, into the current kubeconfig's cluster.
	$(KUBECTL) apply --server-side --force-conflicts -f charts/raytls/files/crds

.PHONY: uninstall
uninstall: ## Delete every policy and then the CRDs. Run it while the operator still runs: it takes back what policies made.
	$(KUBECTL) delete raytlspolicies --all --all-namespaces --ignore-not-found
	$(KUBECTL) delete --ignore-not-found -f charts/raytls/files/crds

.PHONY: deploy
deploy: ## Install or upgrade the operator of image IMG by the chart in the current kubeconfig's cluster (VALUES=--set=...).
	HELM='$(HELM)' hack/deploy '$(IMG)' $(VALUES)

# The namespace stays, for it holds every authority's key, and so do the CRDs, for deleting them deletes the policies.
.PHONY: undeploy
undeploy: ## Remove the operator; policies, certificates and authorities stay as they are.
	$(HELM) uninstall raytls --namespace=raytls-system --ignore-not-found

.PHONY: docker-build
docker-build: ## Build the operator's image as IMG.
	$(CONTAINER_TOOL) build --build-arg VERSION='$(VERSION)' -t '$(IMG)' .
