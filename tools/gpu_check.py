#!/usr/bin/env python3
"""Checks and measures what needs a GPU: each stage in a process and a time box of its own.

A stage that fails, crashes or takes too long does not stop the others. They run in order of value;
the first line says which fit into the budget even if each takes all of its time box. The others run
as far as time is left, and the last line names those that did not. After each stage its rows
are added to result.json in the folder of the results, together with the end of its output if it
failed; one table follows at the end, also after Ctrl-C or a SIGTERM. Without a GPU and without
``--device cpu`` nothing is run. tools/gpu_check.sh says how to bring what a machine without a
network lacks.

Examples:
    python tools/gpu_check.py --out check
    python tools/gpu_check.py --device cpu --small
    python tools/gpu_check.py --only layers,repeated,graph
    python tools/gpu_check.py --list

The exit code is 1 if a stage failed or timed out.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.gpu.all_stages import CUT_SHORT, LEFT_OUT, Outcome, Stage, all_stages, run_all


def main(given: Sequence[str] | None = None, stages: Sequence[Stage] | None = None) -> int:
    # The budget is for all: the first import of torch takes long on a machine that has just begun.
    begun = time.perf_counter()
    arguments = _parse(given)
    stages = list(all_stages(arguments.device) if stages is None else stages)
    if arguments.list:
        print("\n".join(f"{stage.name:<20} {stage.seconds:4.0f} s" for stage in stages))
        return 0
    chosen = _choose(stages, arguments.only, arguments.skip)
    if arguments.device == "cuda" and not _has_gpu():
        print("torch finds no GPU here; --device cpu --small tries the stages without one")
        return 0
    out = _folder(arguments.out)
    started = time.strftime("%Y-%m-%d %H:%M:%S")

    def keep(outcomes: list[Outcome]) -> None:
        result = {
            "started": started,
            "device": arguments.device,
            "small": arguments.small,
            "stages": [asdict(outcome) for outcome in outcomes],
        }
        draft = out / "result.json.tmp"
        draft.write_text(json.dumps(result, indent=1))
        draft.replace(out / "result.json")

    budget = arguments.budget - (time.perf_counter() - begun)
    outcomes = run_all(chosen, out, arguments.device, arguments.small, budget, keep)
    print("\n" + table(outcomes))
    missing = [outcome.name for outcome in outcomes if outcome.status in (LEFT_OUT, CUT_SHORT)]
    if missing:
        print(f"for the rest: --only {','.join(missing)}")
    print(f"\n{out / 'result.json'}")
    return 1 if any(outcome.bad for outcome in outcomes) else 0


def _folder(wanted: Path) -> Path:
    """The folder of the results; one for temporary files where that cannot be written."""
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=wanted):
            return wanted
    except OSError as error:
        made = Path(tempfile.mkdtemp(prefix="gpu_check_"))
        print(f"{wanted} cannot be written ({error.strerror}); the results go to {made}")
        return made


def _parse(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="sizes of a trial on the CPU")
    parser.add_argument("--only", default="", help="names of stages, separated by commas")
    parser.add_argument("--skip", default="", help="stages to leave out")
    parser.add_argument("--budget", type=float, default=540, help="seconds (default: 540)")
    parser.add_argument("--out", type=Path, default=Path("gpu_check"), help="folder of the results")
    parser.add_argument("--list", action="store_true", help="name the stages and their seconds")
    arguments = parser.parse_args(given)
    arguments.out = arguments.out.resolve()
    return arguments


def _choose(stages: Sequence[Stage], only: str, skip: str) -> list[Stage]:
    """The stages that were asked for; "tests" means all that begin with "tests:"."""
    wanted, unwanted = (set(filter(None, text.split(","))) for text in (only, skip))
    names = {stage.name for stage in stages} | {stage.name.partition(":")[0] for stage in stages}
    unknown = sorted((wanted | unwanted) - names)
    if unknown:
        sys.exit(f"no stage {', '.join(unknown)}; --list names them all")

    def is_in(stage: Stage, some: set[str]) -> bool:
        return stage.name in some or stage.name.partition(":")[0] in some

    return [s for s in stages if (not wanted or is_in(s, wanted)) and not is_in(s, unwanted)]


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def table(outcomes: Sequence[Outcome]) -> str:
    """All rows of all stages, as lines of text."""
    lines = []
    for outcome in outcomes:
        took = "" if outcome.status == LEFT_OUT else f", {outcome.seconds:.0f} s"
        lines.append(f"{outcome.name}: {outcome.status}{took}")
        for row in outcome.rows:
            mark = "FAILED  " if row["passed"] is False else ""
            lines.append(f"    {row['what']:<52} {mark}{row['value']}")
        unfinished = outcome.bad or outcome.status == CUT_SHORT
        if unfinished and not any(row["passed"] is False for row in outcome.rows):
            lines += [f"    | {line}" for line in outcome.tail.strip().splitlines()[-6:]]
    bad = sum(outcome.bad for outcome in outcomes)
    left = sum(outcome.status == LEFT_OUT for outcome in outcomes)
    cut = sum(outcome.status == CUT_SHORT for outcome in outcomes)
    ran = len(outcomes) - left - cut
    end = f", {cut} cut short" if cut else ""
    lines.append(f"{ran - bad} of {ran} stages passed, {left} left out for lack of time{end}")
    return "\n".join(lines)


if __name__ == "__main__":
    # What ends the process from outside lets it write what it has, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
