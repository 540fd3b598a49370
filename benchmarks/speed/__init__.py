"""How fast: `python -m benchmarks.speed [--only REGIME] [--quick]` or `make bench`; a file for each regime."""
