"""Lists the recorded cases by kind, each of which is one test."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.recorded.location import RecordedCases

# How many cases of each kind the full set has; a test holds it.
COUNTS = Path(__file__).with_name("counts.json")


@dataclass(frozen=True)
class Case:
    """One recorded case.

    Attributes:
        name: unique among those of its kind; the test is called after it.
        path: its file or folder.
        facts: what was recorded beside the arrays, if it is in a list of many cases.
    """

    name: str
    path: Path
    facts: dict[str, Any] = field(default_factory=dict, compare=False)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def _layers(recorded: RecordedCases) -> Iterator[Case]:
    for path in sorted((recorded.folder / "layers").glob("*/*.npz")):
        if path.parent.name != "errors":
            yield Case(f"{path.parent.name}/{path.stem}", path.with_suffix(".prototxt"))


def _layers_in_runs(recorded: RecordedCases) -> Iterator[Case]:
    """Sequences that a recurrent layer could hand to torch's operators."""
    names = ("basic", "cont_breaks", "expose_hidden", "state_carried_over", "x_4d")
    for case in _layers(recorded):
        if case.path.parent.name in ("LSTM", "RNN") and case.path.stem in names:
            yield case


def _refusals(recorded: RecordedCases) -> Iterator[Case]:
    for path in sorted((recorded.folder / "layers" / "errors").glob("*.prototxt")):
        lines = path.with_suffix(".txt").read_text().splitlines()
        pairs = (line.partition(":") for line in lines)
        yield Case(f"errors/{path.stem}", path, {k.strip(): v.strip() for k, _, v in pairs})


def _data(recorded: RecordedCases) -> Iterator[Case]:
    for path in sorted((recorded.folder / "data" / "layers").glob("*/case.json")):
        yield Case(f"data/{path.parent.name}", path.parent, read_json(path))


def _trajectories(recorded: RecordedCases) -> Iterator[Case]:
    for path in sorted((recorded.folder / "solver").glob("*/case.json")):
        yield Case(path.parent.name, path.parent, read_json(path))


def _resumes(recorded: RecordedCases) -> Iterator[Case]:
    return (case for case in _trajectories(recorded) if case.facts.get("resume"))


def _displays(recorded: RecordedCases) -> Iterator[Case]:
    return (case for case in _trajectories(recorded) if case.facts.get("log"))


def _states(recorded: RecordedCases) -> Iterator[Case]:
    folder = recorded.folder / "files" / "solverstate"
    for facts in read_json(folder / "case.json")["states"]:
        yield Case(facts["state"], folder, facts)


def _weight_files(recorded: RecordedCases) -> Iterator[Case]:
    for path in sorted((recorded.folder / "files").glob("*/case.json")):
        # The others are mean files, solver states, and files that are loaded one after the other.
        if path.parent.name not in ("mean", "solverstate", "two_files"):
            for facts in read_json(path)["files"]:
                yield Case(f"{path.parent.name}/{facts['file']}", path.parent, facts)


def _upgrades(recorded: RecordedCases) -> Iterator[Case]:
    folder = recorded.folder / "upgrade"
    for name, facts in read_json(folder / "cases.json")["cases"].items():
        if "/" in name:  # the others are about the command line
            yield Case(name, folder / name, facts)


def _rules(recorded: RecordedCases) -> Iterator[Case]:
    folder = recorded.folder / "netstate"
    for facts in read_json(folder / "rules.json")["cases"]:
        state = (facts["phase"], str(facts["level"]), *facts["stages"])
        yield Case(f"{Path(facts['net']).stem}-{'-'.join(state)}", folder / facts["net"], facts)


def _shapes(recorded: RecordedCases) -> Iterator[Case]:
    folder = recorded.folder / "netstate"
    for facts in read_json(folder / "shapes.json")["nets"]:
        yield Case(Path(facts["net"]).stem, folder / facts["net"], facts)


def _solver_nets(recorded: RecordedCases) -> Iterator[Case]:
    folder = recorded.folder / "netstate"
    for facts in read_json(folder / "solvers.json")["cases"]:
        yield Case(Path(facts["solver"]).stem, folder, facts)


def _published(recorded: RecordedCases, suffix: str) -> Iterator[Case]:
    if recorded.published is not None:
        for path in sorted(recorded.published.glob(f"*/*{suffix}")):
            name = path.name.removesuffix(suffix)
            yield Case(f"{path.parent.name}/{name}", path.with_name(f"{name}.prototxt"))


def _published_shapes(recorded: RecordedCases) -> Iterator[Case]:
    return _published(recorded, ".shapes.json")


def _published_outputs(recorded: RecordedCases) -> Iterator[Case]:
    return _published(recorded, ".golden.json")


KINDS: dict[str, Callable[[RecordedCases], Iterator[Case]]] = {
    "layers": _layers,
    "layers in runs": _layers_in_runs,
    "refusals": _refusals,
    "data layers": _data,
    "trajectories": _trajectories,
    "resumed trajectories": _resumes,
    "displayed trajectories": _displays,
    "solver states": _states,
    "weight files": _weight_files,
    "upgrades": _upgrades,
    "state rules": _rules,
    "net shapes": _shapes,
    "nets of solvers": _solver_nets,
    "published shapes": _published_shapes,
    "published outputs": _published_outputs,
}


def parameters(recorded: RecordedCases, kind: str) -> list[Any]:
    """The cases of a kind for pytest's ``parametrize``.

    Without copies of a kind there is one test, which is skipped with the reason.
    The full set has cases of every kind; pytest refuses a test without any.
    """
    found = [pytest.param(case, id=case.name) for case in KINDS[kind](recorded)]
    if found or recorded.complete:
        return found
    reason = f"this repository has no copies of recorded {kind}; --recorded PATH runs them"
    return [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))]


def count(recorded: RecordedCases) -> dict[str, int]:
    """The number of cases by kind."""
    return {kind: sum(1 for _ in find(recorded)) for kind, find in KINDS.items()}


def report(recorded: RecordedCases) -> str:
    """The line of pytest's header that says how many recorded cases there are."""
    here = sum(count(recorded).values())
    known = sum(read_json(COUNTS).values())
    line = f"recorded cases: {here} of {known}, from {recorded.place}"
    return line if recorded.complete else f"{line}; --recorded PATH runs all"
