"""How often a solver says "solved" of what is not: `python -m benchmarks.silent`."""
