"""Measurements, each a module to run by hand: `uv run python -m tests.benchmarks.NAME`. CI runs none of them."""
