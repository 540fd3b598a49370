"""The command: `python -m benchmarks.speed [--only REGIME] [--quick] [--folder FOLDER]`, from the checkout.

It measures, prints, keeps the raw figures in `benchmarks/results/speed.json`, and writes `docs/speed.md` from them.
With `--only` the figures of the other regimes stay as they are. `--quick` runs everything at small sizes, to see that
it runs; it writes into `build/speed` then, where no figure is taken for a result.
"""

import argparse
import gc
import importlib
import os
import time
from pathlib import Path

import jax

ROOT = Path(__file__).parents[2]
REGIMES = ("small", "eager", "million", "compile", "dense", "large", "memory")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description="How fast is implicitax?")
    parser.add_argument("--only", action="append", choices=REGIMES, help="a regime; may be repeated")
    parser.add_argument("--quick", action="store_true", help="small sizes and few repeats: a smoke test")
    parser.add_argument("--folder", type=Path, help="where the results go; by default the checkout")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_num_cpu_devices", 2)
    os.environ.setdefault("NPROC", "4")  # threads of XLA, two a device: with less a sweep inside `jit` uses one device
    jax.config.update("jax_enable_compilation_cache", False)
    from . import report  # after the settings: jaxopt makes arrays where it is imported

    folder = options.folder or (ROOT / "build" / "speed" if options.quick else ROOT)
    for name in options.only or REGIMES:
        print(f"{name}:", flush=True)
        start = time.perf_counter()
        records = importlib.import_module(f".{name}", __package__).run(options.quick)
        report.keep(folder, name, records, options.quick, time.perf_counter() - start)
        jax.clear_caches()
        gc.collect()
    report.write(folder, REGIMES)


if __name__ == "__main__":
    main()
