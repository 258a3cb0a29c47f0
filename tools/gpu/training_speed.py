"""Training speed by tools/bench/train.py: VGG-D in bf16 beside the hand-tuned loop."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tools.gpu.one_stage import Row, Work, run_stage

# Seconds between two looks at what has been measured.
_POLL = 0.3
ROOT = Path(__file__).resolve().parents[2]
FULL = ["--net", "D", "--batch", "128", "--precision", "bf16", "--rounds", "3", "--steps", "20"]
SMALL = ["--net", "A", "--batch", "1", "--size", "32", "--rounds", "1", "--steps", "1"]


def _measured(work: Work, label: str, arguments: Sequence[str]) -> Iterator[Row]:
    result = work.json.with_suffix(".train.json")
    result.unlink(missing_ok=True)
    sizes = SMALL if work.small or not work.on_gpu else FULL
    command = [sys.executable, "tools/bench/train.py", "--device", work.device, *sizes]
    process = subprocess.Popen([*command, "--json", str(result), *arguments], cwd=ROOT)
    shown, found, code = 0, _read(result), process.poll()
    # What is there is handed on at once: the stage may be stopped before the rest.
    while code is None:
        yield from (_row(label, found, row) for row in found["rows"][shown:])
        shown = max(shown, len(found["rows"]))
        time.sleep(_POLL)
        code, found = process.poll(), _read(result)
    yield from (_row(label, found, row) for row in found["rows"][shown:])
    if "of_matrix_rate" in found:
        share = found["of_matrix_rate"]
        text = f"{share:.1%} of {found['matrix_rate'] / 1e12:.0f} TFLOP/s"
        yield Row(f"{label}: share of the matrix rate", text, figures={"share": share})
    if code:
        yield Row(label, f"tools/bench/train.py ended with {code}", False)


def _read(path: Path) -> dict[str, Any]:
    """What has been measured; nothing while the file is not there, or not whole."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {"rows": []}
    return found


def _row(label: str, found: dict[str, Any], row: dict[str, Any]) -> Row:
    what = f"{label}: {found['net']}, batch {found['batch']}, {found['precision']}, {row['what']}"
    text = f"{row['ratio']:.3f} × ({row['ours'] * 1e3:.1f} ms, "
    text += f"{row['images_per_second']:.0f} images/s)"
    names = ("ours", "plain", "ratio", "images_per_second")
    return Row(what, text, figures={name: row[name] for name in names})


def default(work: Work) -> Iterator[Row]:
    yield from _measured(work, "as by default", ["--measure", "step", "rate"])


def eager(work: Work) -> Iterator[Row]:
    measure = ["--measure", "step", "pass", "--no-cuda-graph"]
    yield from _measured(work, "without a graph", measure)


def lmdb(work: Work) -> Iterator[Row]:
    records = ["--records", "16"] if work.small else ["--records", "2048"]
    yield from _measured(work, "from an LMDB of JPEGs", ["--measure", "lmdb", *records])


def compiled(work: Work) -> Iterator[Row]:
    if work.small:
        yield Row("beside torch.compile", "left out of a trial on the CPU")
        return
    yield from _measured(work, "beside torch.compile", ["--measure", "compiled", "graphed"])


if __name__ == "__main__":
    checks = {"default": default, "eager": eager, "LMDB": lmdb, "compiled": compiled}
    sys.exit(run_stage(__doc__, checks))
