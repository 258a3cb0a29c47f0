"""Recorded layer cases on a device: values and gradients, and backward passes that repeat."""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import torch

from caffecompat.net.analysis import replay
from caffecompat.net.net import Net
from tests.recorded.cases import KINDS, Case
from tests.recorded.exceptions import EXCEPTIONS
from tests.recorded.location import VARIABLE, find_recorded
from tests.recorded.tolerances import too_far
from tools.gpu.one_stage import Row, Work, run_stage

# How many cases a trial on the CPU takes.
_FEW = 8


def agree(work: Work) -> Iterator[Row]:
    """Each case against what Caffe recorded; one row for each type, with its worst case."""

    def largest(case: Case) -> tuple[float, str]:
        found = replay.replay(case.path, device=work.device)
        wrong = [difference for difference in found if too_far(difference, case.path.parent.name)]
        if wrong:
            worst = max(wrong, key=lambda difference: difference.relative)
            return worst.relative, f"{worst.key} is off by {worst.relative:.1e} {worst.note}"
        return max((difference.relative for difference in found), default=0.0), ""

    yield from _by_type(_cases(work), largest, "{:.1e} at most")


def twice(work: Work) -> Iterator[Row]:
    """The backward pass of each case in two nets: the gradients must be equal bit for bit."""

    def differing(case: Case) -> tuple[float, str]:
        pairs = zip(_gradients(case, work), _gradients(case, work), strict=True)
        different = sum(not torch.equal(first, second) for first, second in pairs)
        return float(different), f"{different} gradients differ between two runs" * bool(different)

    yield from _by_type(_cases(work), differing, "equal bit for bit")


def _cases(work: Work) -> list[Case]:
    recorded = find_recorded(None, os.environ.get(VARIABLE))
    found = [case for case in KINDS["layers"](recorded) if case.name not in EXCEPTIONS]
    return found[:: max(1, len(found) // _FEW)] if work.small else found


def _gradients(case: Case, work: Work) -> list[torch.Tensor]:
    arrays = replay.read_case(case.path.with_suffix(".npz"))
    if not any(key.startswith(("indiff/", "paramdiff/")) for key in arrays):
        return []
    phase = str(arrays["phase"]) if "phase" in arrays else "TEST"
    net = Net(os.fspath(case.path), phase=phase, device=work.device, seed=1)
    replay._set_parameters(net, arrays)
    net.forward(**{key[3:]: value for key, value in arrays.items() if key[:3] == "in/"})
    net.backward(**{key[8:]: value for key, value in arrays.items() if key[:8] == "topdiff/"})
    found = [net.blobs[key[7:]].diff for key in arrays if key.startswith("indiff/")]
    own = [entry.tensor.grad for entry in net.learnable if entry.tensor.grad is not None]
    return [tensor.detach().cpu().clone() for tensor in [*found, *own]]


def _by_type(
    cases: Sequence[Case], examine: Callable[[Case], tuple[float, str]], words: str
) -> Iterator[Row]:
    counts: dict[str, int] = defaultdict(int)
    largest: dict[str, float] = defaultdict(float)
    problems: dict[str, list[str]] = defaultdict(list)
    for case, (value, problem) in _in_children(cases, examine):
        kind = case.path.parent.name
        counts[kind] += 1
        largest[kind] = max(largest[kind], value)
        if problem:
            problems[kind].append(f"{case.path.stem}: {problem}")
    for kind in sorted(counts):
        what = f"{kind} ({counts[kind]} cases)"
        wrong = problems[kind]
        text = "; ".join(wrong[:3]) if wrong else words.format(largest[kind])
        yield Row(what, f"{len(wrong)} fail: {text}" if wrong else text, not wrong)


def _in_children(
    cases: Sequence[Case], examine: Callable[[Case], tuple[float, str]]
) -> Iterator[tuple[Case, tuple[float, str]]]:
    """Examines the cases in a child process, and in a further one after a crash.

    After an error inside a kernel nothing works in a process any more. This process itself must
    not use CUDA, which does not survive a fork.
    """
    start = 0
    while start < len(cases):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _examine_all(cases[start:], examine, writing)
        os.close(writing)
        with os.fdopen(reading) as lines:
            for line in lines:
                value, problem = json.loads(line)
                yield cases[start], (value, problem)
                start += 1
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code and start < len(cases):
            yield cases[start], (float("inf"), f"the process ended with {code}")
            start += 1


def _examine_all(
    cases: Sequence[Case], examine: Callable[[Case], tuple[float, str]], writing: int
) -> None:
    """Writes a line for each case; ends this process at the first that CUDA does not survive."""
    with os.fdopen(writing, "w") as lines:
        for case in cases:
            os.chdir(case.path.parents[1])
            try:
                found = examine(case)
            except Exception as error:  # a broken case is a row
                first = str(error).strip().splitlines()[:1] or [""]
                found = float("inf"), f"{type(error).__name__}: {first[0]}"
            lines.write(json.dumps(found) + "\n")
            lines.flush()
            if not _alive():
                break
    os._exit(0)


def _alive() -> bool:
    try:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, {"agree": agree, "twice": twice}))
