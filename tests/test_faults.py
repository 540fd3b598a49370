"""Planted faults are found by the words of the report; on healthy models `diagnose` raises no alarm.

To be quick, only the default is tried, if the fault needs no other, and its history and the unrolled derivative are
left out, of some faults every derivative of the solution: what compares those is tested in `test_diagnose.py`.
"""

import pytest

import implicitax as ix
from implicitax._diagnose import cost, gradient
from implicitax._diagnose.problem import Case
from problems.faults import FAULTS
from problems.healthy import HEALTHY

CANDIDATES = cost.candidates


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(Case, "history", lambda *_: None)
    monkeypatch.setattr(gradient, "_unroll", lambda *_: None)
    only(monkeypatch, "Auto")


def only(monkeypatch, *solvers):
    few = lambda case: {name: solver for name, solver in CANDIDATES(case).items() if name in solvers}
    monkeypatch.setattr(cost, "candidates", few)


def said_of(report: ix.Diagnosis) -> str:
    return " ".join(str(report).split())


def test_there_are_forty_of_each():
    assert len({fault.name for fault in FAULTS}) >= 40
    assert len(HEALTHY) >= 40


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_found(fault, monkeypatch):
    only(monkeypatch, *fault.solvers)
    if not fault.gradient:
        monkeypatch.setattr(gradient, "compare", lambda *_: ((), None, 0.0))
    F, x0, args, keywords = fault.make()
    report = ix.diagnose(F, x0, *args, **keywords)
    said = said_of(report)
    assert [words for words in fault.words if words not in said] == [], said
    assert [words for words in fault.unsaid if words in said] == [], said
    assert not [finding.text for finding in report.findings if finding.code == "missing"]
    # A report that does not say in its first line that something is wrong says where to look.
    alarms = {finding.code for finding in report.findings if finding.severity != "note"}
    assert not report.healthy or not alarms or all(code in report.verdict for code in alarms)


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_model_is_left_alone(name):
    F, x0, args, keywords = HEALTHY[name]()
    report = ix.diagnose(F, x0, *args, **keywords)
    assert report.healthy
    assert [finding for finding in report.findings if finding.severity != "note"] == []
    assert report.verdict.startswith("The answer is right: ")
    assert report.verdict.endswith(".")
    assert "warnings" not in report.verdict
