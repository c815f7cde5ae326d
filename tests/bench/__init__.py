"""Benchmarks beside the peers; never part of the test suite."""
