# The commands of the project. Everything they make lies under target/.

.PHONY: help build demo test lint

help:
	@echo 'make build   the release binary, target/release/lamu'
	@echo 'make demo    start lamu, deploy a Python and a Rust function, invoke them, stop'
	@echo 'make test    install what the tests need, and run all of them'
	@echo 'make lint    formatting, clippy, documentation, dependencies'

build:
	cargo build --release --locked --package lamu

demo: build
	scripts/demo

test:
	scripts/test

lint:
	scripts/lint
