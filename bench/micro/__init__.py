"""Benchmarks of single hot functions against what a Python user would otherwise use: `python -m pytest bench/micro`."""
