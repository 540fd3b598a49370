"""From candidates to records: what each reaches, what each costs, and the goal of ours."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from .peers import OURS
from .timing import interleave

Record = dict[str, Any]


LONG = 10.0  # seconds; what takes longer is called once


class Candidate(NamedTuple):
    """`call()` returns what `judge` computes the residual and the error of the gradient of."""

    who: str
    call: Callable[[], Any]
    judge: Callable[[Any], dict[str, float]]
    systems: int = 1  # solved by one call
    note: str = ""


def measure(case: str, what: str, candidates: list[Candidate], **keywords: Any) -> list[Record]:
    """A record for each candidate, times in seconds a system. One that raises has its error as a note."""
    records, running = [], {}
    for candidate in candidates:
        record = {"case": case, "what": what, "who": candidate.who, "note": candidate.note}
        start = time.perf_counter()
        try:
            result = jax.block_until_ready(candidate.call())
            first = time.perf_counter() - start
            record |= {"first call": first, **candidate.judge(result)}
            if first < LONG:
                running[candidate.who] = candidate
            else:
                record |= dict.fromkeys(("seconds", "low", "high"), first / candidate.systems)
                record |= {"repeats": 1, "calls": 1, "note": f"{candidate.note} one call, with compilation".strip()}
        except Exception as error:
            if candidate.who.startswith(OURS):
                raise
            record["note"] = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:120]}"
        records.append(record)
    timings = interleave({who: candidate.call for who, candidate in running.items()}, **keywords)
    for record in records:
        if (who := record["who"]) in timings:
            timing, systems = timings[who], running[who].systems
            record |= {"seconds": timing.median / systems, "low": timing.low / systems, "high": timing.high / systems}
            record |= {"repeats": timing.repeats, "calls": timing.calls}
    compare(records, OURS, "÷ implicitax")
    for record in records:
        print(f"  {case:28s} {what:10s} {record['who']:36s} {record.get('seconds', float('nan')):.3e} s", flush=True)
    return records


def find(records: list[Record], who: str, what: str | None = None, case: str | None = None) -> Record | None:
    for record in records:
        if record["who"] == who and what in (None, record["what"]) and case in (None, record["case"]):
            return record
    return None


def compare(records: list[Record], who: str, column: str) -> None:
    """The time of each as a multiple of that of one of them."""
    base = find(records, who)
    for record in records if base and "seconds" in base else []:
        if "seconds" in record:
            record[column] = record["seconds"] / base["seconds"]


def same_solve(values: list[Record], derivatives: list[Record]) -> list[Record]:
    """The derivatives, with the residuals of the values: where a derivative does not return x."""
    for record in derivatives:
        if (value := find(values, record["who"])) and "residual" in value:
            record["residual"] = value["residual"]
    return derivatives


def accurate(record: Record) -> bool:
    """Whether a time may be compared with ours: x and the gradient are right to about the tolerance asked for."""
    return "seconds" in record and record["residual"] <= 1e-9 and record.get("gradient error", 0) <= 1e-7


def goal(record: Record | None, text: str, reached: float, limit: float) -> None:
    """`reached` is a ratio or a time that is to be at most `limit`."""
    if record is not None:
        record.setdefault("goals", []).append(
            {"text": text, "reached": reached, "limit": limit, "met": bool(reached <= limit)}
        )


def beat_the_best(ours: Record | None, others: list[Record], text: str, limit: float = 1.0) -> None:
    """The goal relative to the fastest of the others that is accurate."""
    if ours is not None and (fair := [record for record in others if accurate(record)]):
        best = min(fair, key=lambda record: record["seconds"])
        goal(ours, f"{text} ({best['who']})", ours["seconds"] / best["seconds"], limit)
