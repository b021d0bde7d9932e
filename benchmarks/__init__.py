"""Benchmarks: `make bench` runs them all; `python -m benchmarks --help` says what else can be asked for."""
