# The commands of the project. Everything they make lies under target/.

.PHONY: help build demo test lint bench bench-peers leaks api-report

help:
	@echo 'make build   the release binary, target/release/lamu'
	@echo 'make demo    start lamu, deploy a Python and a Rust function, invoke them, stop'
	@echo 'make test    install what the tests need, and run all of them'
	@echo 'make lint    formatting, clippy, documentation, dependencies'
	@echo 'make api-report   every operation of Lambda, and which tests and clients called it'
	@echo 'make bench   figures beside the floor and the peers (make bench-peers installs those)'
	@echo 'make leaks   10,000 mixed operations, then what is left of them'

build:
	scripts/setup-target
	cargo build --release --locked --package lamu

demo: build
	scripts/demo

test:
	scripts/test

lint:
	scripts/lint

# Seconds of each measurement and more: make bench ARGS='--rounds 5 --only warm'
bench:
	bench/prepare
	python3 bench/bench.py $(ARGS)

# Runs the tests of the whole program; target/api-report.md. Fails when an
# operation that is meant to work was never answered with success.
api-report:
	mkdir -p target
	scripts/setup-tests
	cargo build --quiet --release --locked --manifest-path examples/hello-rust/Cargo.toml
	scripts/api-report $(ARGS)

bench-peers:
	bench/prepare-peers

leaks:
	bench/prepare
	python3 bench/leaks.py $(ARGS)
