"""The shared parts of all benchmarks."""
