# iotwasm: every target does its own set-up. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help demo test check bench soak compat binaries guests image clean
SHELL := /bin/bash

IN := scripts/buildroot run
Q := build/bin/qemu-tests

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

demo: binaries guests image ## build everything, boot a device and show its main job
	$(IN) $(Q) demo

# Side by side: each of them leaves the processors idle at times.
test: ## every test, QEMU's among them
	$(MAKE) --no-print-directory -j3 check guests image
	$(IN) $(Q) run

check: ## the quick loop: format, clippy, unit tests
	$(IN) scripts/check

bench: binaries guests image ## measure; writes build/bench.json
	$(IN) scripts/bench

compat: ## the engine's binding against the newest WasmEdge that Debian has
	IOTWASM_SUITE=testing IOTWASM_PACKAGES="build-essential pkg-config libwasmedge-dev ca-certificates" \
	  CARGO_TARGET_DIR=/cache/target-testing $(IN) cargo test --locked -p iotwasm-wasmedge

soak: binaries guests image ## the long one: many power cuts, a firmware that hangs in its initrd, fuzzing
	$(IN) $(Q) run --lane long
	$(IN) env IOTWASM_POWER_CUTS=$${IOTWASM_POWER_CUTS:-200} $(Q) run --filter power
	$(IN) fuzz/run $${IOTWASM_FUZZ_SECONDS:-600}

binaries: ## the daemons and tools, in build/bin
	$(IN) scripts/build-binaries

guests: binaries ## the example payloads, in build/guest
	$(IN) guest/build

image: binaries ## the reference image, in build/image
	$(IN) qemu-tests/image/build

clean: ## remove what was built here (the cache with the build root stays)
	rm -rf build
