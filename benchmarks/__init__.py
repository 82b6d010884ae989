"""Benchmarks: each is one command, and prints ratios of one run."""
