"""Recorded layer cases on a device: values, gradients, and backward passes that repeat."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import torch

from tools.gpu.rows import Row, Work, run_stage

from caffecompat.net.analysis.replay import replay

ROOT = Path(__file__).resolve().parents[2]
COPIES = ROOT / "tests" / "recorded" / "copies"
# Of the largest value of a blob; other orders of sums, no TF32.
BOUND = 1e-4


def _cases(work: Work) -> list[Path]:
    """The recorded cases that travel with the checkout, or all where they are at hand."""
    whole = Path(os.environ.get("CAFFECOMPAT_RECORDED", ROOT.parent / "shared" / "golden"))
    folder = whole if (whole / "layers").is_dir() else COPIES
    found = sorted(folder.rglob("layers/*.prototxt"))
    return found[:: max(1, len(found) // 8)] if work.small else found


def agree(work: Work) -> Iterator[Row]:
    """Each case against what Caffe recorded; one row for each type, the worst case in it."""
    worst: dict[str, tuple[float, str]] = {}
    failed: dict[str, str] = {}
    counts: dict[str, int] = defaultdict(int)
    for path in _cases(work):
        kind = path.stem.split("_")[0]
        counts[kind] += 1
        os.chdir(path.parents[1])
        try:
            found = max((d.relative for d in replay(path, device=work.device)), default=0.0)
        except Exception as error:  # a broken case is a row
            failed[kind] = f"{path.stem}: {type(error).__name__}: {str(error).splitlines()[0]}"
            continue
        worst[kind] = max(worst.get(kind, (0.0, "")), (found, path.stem))
    for kind, count in sorted(counts.items()):
        if kind in failed:
            yield Row(f"{kind} ({count})", failed[kind], False)
        else:
            difference, name = worst[kind]
            yield Row(f"{kind} ({count})", f"{difference:.1e} at most, {name}", difference <= BOUND)


def machine(work: Work) -> Iterator[Row]:
    yield Row("device", work.device if work.device == "cpu" else torch.cuda.get_device_name())


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, {"machine": machine, "agree": agree}))
