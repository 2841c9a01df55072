"""The benchmark suite: ``python -m benchmarks list`` and ``python -m benchmarks run NAME``."""
