"""The raw figures in JSON, and the page and plots made of them: nothing on the page is written by hand."""

import importlib
import importlib.metadata
import json
import math
import os
import platform
import time
from pathlib import Path
from typing import Any

import jax

from .measure import Record
from .plots import draw

JSON, PAGE, IMAGES = Path("benchmarks/results/speed.json"), Path("docs/speed.md"), Path("docs/images")
PACKAGES = "implicitax", "jax", "jaxlib", "equinox", "lineax", "optimistix", "jaxopt", "scipy", "numpy"

HEAD = """# Speed

How long a solve and its derivative take, beside other libraries, beside what one writes by hand, and beside C.

```bash
make bench
```

- The same function for all, in float64. Each is asked for the tolerance that is the default of implicitax; what it
  reached is computed again in NumPy at the x it returned, max|F(x) − x|, and is printed beside the time.
- All run in one process and in turns. A time is the median of the repeats, with the least and the largest in brackets.
- "by hand" is a `jax.custom_jvp` around 1000 steps of `lax.scan`, with a dense Jacobian and `jnp.linalg.solve`;
  "unrolled" is the derivative of these 1000 steps.
- implicitax has its defaults, but `throw=False` where nothing else is said.
- The raw figures are in `benchmarks/results/speed.json`.
"""


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(": ")[2] if names else platform.processor() or platform.machine()


def _plain(value: Any) -> Any:
    """Three digits and no NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    return value


def keep(folder: Path, name: str, records: list[Record], quick: bool, seconds: float) -> None:
    """Replaces the figures of one regime."""
    path = folder / JSON
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept[name] = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "device": jax.devices()[0].device_kind,
            "system": platform.platform(),
        },
        "versions": {package: version for package in PACKAGES if (version := _version(package))},
        "quick": quick,
        "seconds": round(seconds),
        "records": _plain(records),
    }
    texts = []
    for regime, content in kept.items():
        lines = ",\n".join("  " + json.dumps(record, ensure_ascii=False) for record in content["records"])
        head = json.dumps({key: value for key, value in content.items() if key != "records"}, ensure_ascii=False)
        texts.append(f'{json.dumps(regime)}: {head[:-1]}, "records": [\n{lines}\n]}}')
    path.write_text("{\n" + ",\n".join(texts) + "\n}\n")


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _cell(record: Record, column: str) -> str:
    value = record.get(column)
    if column == "time":
        if "seconds" not in record:
            return "–"
        return f"{_time(record['seconds'])} ({_time(record['low'])}–{_time(record['high'])})"
    if column == "goal":
        return "<br>".join(_goal(goal) for goal in record.get("goals", []))
    if column == "who":
        return record["who"] + (f" ({record['note']})" if record["note"] else "")
    if value is None:
        # A residual that JSON cannot hold.
        return "not finite" if column in record else ""
    if column in ("residual", "gradient error"):
        return f"{value:.0e}"
    return _time(value) if column in ("trace", "compile") else _number(value)


def _goal(goal: dict[str, Any]) -> str:
    return f"{goal['text']}: {'✓' if goal['met'] else '✗'} {goal['reached']:.3g}"


HIDDEN = {"case", "what", "who", "note", "first call", "seconds", "low", "high", "repeats", "calls", "goals", "nfev"}


def _table(records: list[Record]) -> list[str]:
    columns = list(dict.fromkeys(key for record in records for key in record if key not in HIDDEN))
    errors = [column for column in ("residual", "gradient error") if column in columns]
    times = ["time"] if any("seconds" in record for record in records) else []
    columns = ["who", *errors, *times, *(column for column in columns if column not in errors), "goal"]
    lines = [f"| {' | '.join(columns)} |", f"|---|{'---:|' * (len(columns) - 2)}---|"]
    return lines + [f"| {' | '.join(_cell(record, column) for column in columns)} |" for record in records] + [""]


def _summary(kept: dict[str, Any], titles: dict[str, str]) -> list[str]:
    lines = ["| regime | case | what | goal | reached | |", "|---|---|---|---|---:|---|"]
    for name, title in titles.items():
        for record in kept[name]["records"]:
            for goal in record.get("goals", []):
                cells = [title, record["case"], record["what"], goal["text"], f"{goal['reached']:.3g}"]
                lines.append(f"| {' | '.join(cells)} | {'✓' if goal['met'] else '✗'} |")
    return [*lines, ""]


def _measured(content: dict[str, Any]) -> str:
    versions = ", ".join(f"{package} {version}" for package, version in content["versions"].items())
    machine = content["machine"]
    text = f"Measured on {content['date']}, {machine['cores']} cores ({machine['processor']}), with {versions}."
    return text + (" **A quick run: the figures mean nothing.**" if content["quick"] else "")


def write(folder: Path, regimes: tuple[str, ...]) -> None:
    """The page, from what is kept."""
    kept = json.loads((folder / JSON).read_text())
    modules = {name: importlib.import_module(f".{name}", __package__) for name in regimes if name in kept}
    plots = draw(kept, folder / IMAGES)
    lines = [HEAD, "## Goals", "", "What is to be reached, and what is: a ratio or a time.", ""]
    lines += _summary(kept, {name: module.TITLE for name, module in modules.items()})
    for name, module in modules.items():
        lines += [f"## {module.TITLE}", "", module.TEXT, "", _measured(kept[name]), ""]
        if name in plots:
            lines += [f"![{module.TITLE}](images/{plots[name]})", ""]
        records = kept[name]["records"]
        for case, what in dict.fromkeys((record["case"], record["what"]) for record in records):
            lines += [f"**{case}, {what}**", ""]
            lines += _table([record for record in records if (record["case"], record["what"]) == (case, what)])
    page = folder / PAGE
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join(lines))
