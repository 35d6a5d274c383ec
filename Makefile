# sessiond: "make help" lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO ?= go
FUZZTIME ?= 10s
BENCH ?= .
BENCHFLAGS ?=
CYCLES ?= 100
# The application that "make bench" compares with, a module of its own.
SCS = internal/loadgen/scs
# Tests with servers of their own have the machine to themselves: one package after the other, all compiled before.
ONE = -p 1 -timeout 25m

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

.PHONY: build
build: ## build bin/sessiond
	$(GO) build -trimpath -o bin/sessiond ./cmd/sessiond

.PHONY: tools
tools: ## install what the tests need and Go can't fetch (Debian; uses apt-get only for what is missing)
	./.ci/install-tools

.PHONY: test
test: tools ## run all tests
	$(GO) test -run '^$$' ./... >/dev/null
	$(GO) test $(ONE) ./...

.PHONY: race
race: tools ## run all tests under the race detector
	$(GO) test -race -run '^$$' ./... >/dev/null
	$(GO) test -race $(ONE) ./...

.PHONY: helm
helm: ## lint and render the Helm chart with helm itself (the first run builds helm: minutes)
	$(GO) test -count 1 -tags helm ./internal/deploytest

.PHONY: lint
lint: ## gofmt, vet and staticcheck
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "not gofmt-ed: $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) -C $(SCS) vet ./...
	$(GO) tool staticcheck ./...

.PHONY: tidy-check
tidy-check: ## check that go.mod and go.sum are what the code needs
	$(GO) mod tidy -diff
	$(GO) -C $(SCS) mod tidy -diff

.PHONY: gen
gen: ## write the generated files anew: configuration reference, sample file, man pages
	$(GO) generate ./cmd/sessiond
	$(GO) test -run TestReferenceIsTheConfigType ./cmd/sessiond/internal/config -update

.PHONY: bench
bench: tools ## measure, and print the goals table; BENCHFLAGS='-compare -scale 1000000 -overload' for all of it
	$(GO) run ./internal/loadgen $(BENCHFLAGS)

.PHONY: bench-once
bench-once: ## run every benchmark once, so that they keep compiling
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchtime 1x ./...

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (10s)
	@for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; \
	done

.PHONY: crash
crash: ## kill -9 a loaded server CYCLES times (100) and check every acknowledged write
	$(GO) test -count 1 -run TestCrash ./cmd/sessiond -crash.cycles $(CYCLES) -v

.PHONY: check
check: lint tidy-check race bench-once ## everything that CI runs
	./.ci/readme
