# make run    serve the labs on http://localhost:8080, installing what is missing
# make test   set up and run every test
# make bench  measure, and print each number beside its goal
# make build  leave the one binary in bin/berth
# make corpus DIR=…  what is understood in repositories of scenarios

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: run test bench build check-root check-tester check-tools packages test-packages images lint corpus go-test ui-test clean

GO      ?= go
SUDO    := $(shell [ "$$(id -u)" = 0 ] || echo sudo -E)
STATE   ?= /var/lib/berth
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# What the local runner and the builder of sandbox images call.
PACKAGES := runc mmdebstrap debian-archive-keyring e2fsprogs xz-utils zstd ca-certificates
# What the tests look from: a browser, a Docker Engine on the host, a busybox;
# the race detector needs a C compiler.
TEST_PACKAGES := chromium fonts-dejavu-core busybox-static docker.io iproute2 procps gcc libc6-dev

run: check-root packages build
	$(SUDO) bin/berth image build --state $(STATE)
	$(SUDO) bin/berth serve --state $(STATE)

build: bin/berth

check-tools:
	@command -v $(GO) >/dev/null || { echo "Berth is written in Go, and there is no '$(GO)' here. Install Go 1.26 or newer."; exit 1; }
	@command -v npm >/dev/null || { echo "The pages are built with Node.js, and there is no 'npm' here. Install Node.js 20 or newer."; exit 1; }
	@v=$$(GOTOOLCHAIN=local $(GO) version | cut -d' ' -f3); case $$v in go1.2[1-9]*|go1.[3-9][0-9]*|go[2-9]*|devel*) ;; \
		*) echo "Berth needs Go 1.26, and this is $$v, which cannot fetch a newer one by itself. Install Go 1.26 or newer."; exit 1;; esac
	@v=$$(node --version); case $$v in v[2-9][0-9].*|v[1-9][0-9][0-9]*) ;; \
		*) echo "The pages are built with Node.js 20, and this is $$v. Install Node.js 20 or newer."; exit 1;; esac

# Said before minutes are spent on building.
check-root:
	@[ "$$(id -u)" = 0 ] || command -v sudo >/dev/null || { \
		echo "Sandboxes are made of namespaces, mounts and control groups: this needs root, you are user $$(id -un), and there is no sudo."; \
		echo "Either become root and run it again (su -, then make run in $(CURDIR)), or run 'make build' as you are and have"; \
		echo "an administrator run: bin/berth image build && bin/berth serve. 'bin/berth doctor' says what else a machine needs."; \
		exit 1; }

packages:
	@.ci/packages $(PACKAGES)

test-packages: packages
	@.ci/packages $(TEST_PACKAGES)

# The browser bundle.
web/ui/node_modules/.installed: web/ui/package.json web/ui/package-lock.json | check-tools
	@echo "Installing what the pages are built with"
	cd web/ui && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

web/dist/app.js: web/ui/node_modules/.installed $(wildcard web/ui/src/*.ts web/ui/css/*.css web/ui/*.mjs)
	@echo "Building the pages"
	cd web/ui && npm run --silent build

# Go knows best what has changed; this is quick when nothing has.
.PHONY: bin/berth
bin/berth: web/dist/app.js | check-tools
	@echo "Building bin/berth"
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o cmd/berth/inside/agent ./cmd/agent
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/berth ./cmd/berth

images: check-root packages build
	$(SUDO) bin/berth image build --state $(STATE)

# Everything, on a fresh machine too.
test: check-tester test-packages build lint ui-test go-test

# The tests make sandboxes themselves.
check-tester:
	@[ "$$(id -u)" = 0 ] || { echo "The tests make real sandboxes, which needs root. Run them as root, or with: sudo -E make test"; exit 1; }

lint: web/dist/app.js
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "gofmt would change:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	cd web/ui && npm run --silent check

# The whole program and the real sandboxes need the images; docker-20 is the
# other engine that the lesson must hold on.
go-test: web/dist/app.js test-packages build
	bin/berth image build --state $(STATE) docker docker-20 redis busybox
	$(GO) test -race -p 1 -timeout 30m ./...

ui-test: web/dist/app.js
	cd web/ui && npm test

bench: images
	$(GO) run ./cmd/bench -berth bin/berth -images $(STATE) -learners 100

# DIR holds scenarios, or repositories of them.
corpus: | check-tools
	@[ -n "$(DIR)" ] || { echo "Say which folder: make corpus DIR=…"; exit 2; }
	$(GO) run ./cmd/corpus $(DIR)

clean:
	rm -rf bin cmd/berth/inside/agent web/dist/*.js web/dist/*.css web/ui/node_modules
