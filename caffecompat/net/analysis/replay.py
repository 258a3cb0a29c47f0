"""Replays recorded passes: inputs, parameters, outputs and gradients of a net in another engine.

A case is a prototxt and an ``.npz`` of the same name beside it, with the keys

- ``phase``: TRAIN or TEST;
- ``in/<blob>``: values of the inputs; ``param/<layer>/<i>``: parameters before the pass;
- ``out/<blob>``: every blob after the forward pass; ``loss``: total weighted loss;
- ``paramafter/<layer>/<i>``: parameters that the forward pass itself changes (BatchNorm);
- ``topdiff/<blob>``: gradients put on outputs; ``indiff/<blob>`` and ``paramdiff/<layer>/<i>``:
  gradients after one backward pass;
- optional: ``num_forward``, passes to run; ``indiff_unwritten``, inputs without a gradient;
  ``param_from_net``, parameters that the definition itself must bring.

``tools/record_caffe.py`` writes such cases on a machine with an old pycaffe.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from caffecompat.errors import FileProblem, FormatError
from caffecompat.input_files import open_input
from caffecompat.net.execution.precision import arithmetic
from caffecompat.net.net import Net
from caffecompat.weights.encodings.zip_checks import library_errors, zip_archive

Case = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Difference:
    """The difference between a recorded array and the replayed one.

    Attributes:
        key: the array's key in the record.
        absolute: largest absolute difference; infinite if shapes or NaNs differ.
        relative: ``absolute`` divided by the larger of 1 and the largest recorded magnitude.
        gradient: whether the array belongs to the backward pass.
        note: the reason why the arrays cannot be compared; empty if they can.
    """

    key: str
    absolute: float
    relative: float
    gradient: bool = False
    note: str = ""


def find_cases(path: str | os.PathLike[str]) -> list[Path]:
    """The prototxts of all cases at or below ``path``, sorted.

    Raises:
        FileProblem: there are none.
    """
    top = Path(path)
    found = [top] if top.is_file() else sorted(top.rglob("*.prototxt"))
    cases = [p for p in found if p.with_suffix(".npz").is_file()]
    if not cases:
        raise FileProblem(
            f"{path}: no recorded case here; a case is NAME.prototxt beside NAME.npz "
            "(tools/record_caffe.py writes them)"
        )
    return cases


def replay(
    path: Path, device: str = "cpu", precision: str = "fp32", max_bytes: int | None = None
) -> list[Difference]:
    """Runs the case of a prototxt and compares every recorded array.

    Paths inside the prototxt are taken from the current directory; ``max_bytes`` is of
    :func:`read_case`, and of the net.

    Raises:
        CaffeError: the net cannot be built or run, or the record is damaged.
    """
    case = read_case(path.with_suffix(".npz"), max_bytes)
    phase = str(case["phase"]) if "phase" in case else "TEST"
    net = Net(os.fspath(path), phase=phase, device=device, max_bytes=max_bytes)
    if precision == "fp64":
        net.double()
    built = list(_built_parameters(net, case))
    _set_parameters(net, case)
    with arithmetic(net.device, precision):
        for _ in range(int(case["num_forward"]) if "num_forward" in case else 1):
            net.forward(**{key[3:]: value for key, value in case.items() if key[:3] == "in/"})
        forward = list(_forward_differences(net, case))
        if not any(key.startswith(("indiff/", "paramdiff/")) for key in case):
            return built + forward
        net.backward(**{key[8:]: v for key, v in case.items() if key.startswith("topdiff/")})
    return built + forward + list(_backward_differences(net, case))


def read_case(path: Path, max_bytes: int | None = None) -> dict[str, np.ndarray]:
    """The arrays of a record.

    Args:
        path: the ``.npz``.
        max_bytes: the largest file, and the most that its arrays may take; None for any size, and
            four times as much as it has plus 64 MiB.

    Raises:
        FileProblem: it cannot be read.
        FormatError: it is no ``.npz`` of plain arrays, or is above the limit.
    """
    with (
        open_input(path, max_bytes) as file,
        library_errors(path, "an .npz"),
        zip_archive(path, file, max_bytes),
        np.load(file, allow_pickle=False) as archive,
    ):
        return {key: archive[key] for key in archive.files}


def _parameter(net: Net, key: str) -> torch.Tensor:
    layer, _, index = key.split("/", 1)[1].rpartition("/")
    blobs = net.params[layer]
    if not index.isdigit() or int(index) >= len(blobs):
        raise FormatError(f"the record has {key!r}, but layer {layer!r} has {len(blobs)} blobs")
    return blobs[int(index)]


def _built_parameters(net: Net, case: Case) -> Iterator[Difference]:
    for name in case.get("param_from_net", np.array([], str)):
        key = f"param/{name}"
        yield _difference(key, _parameter(net, key).detach().reshape(case[key].shape), case[key])


def _set_parameters(net: Net, case: Case) -> None:
    for key, value in case.items():
        if not key.startswith("param/"):
            continue
        target = _parameter(net, key)
        if target.numel() != value.size:
            raise FormatError(
                f"the record has {key!r} of {value.shape}, the net's is {tuple(target.shape)}"
            )
        with torch.no_grad():
            target.copy_(torch.from_numpy(value).view(target.shape))


def _forward_differences(net: Net, case: Case) -> Iterator[Difference]:
    for key, value in case.items():
        name = key.partition("/")[2]
        if key.startswith("out/"):
            yield _difference(key, net.blobs[name].data, value)
        elif key.startswith("paramafter/"):
            yield _difference(key, _parameter(net, key), value)
    if "loss" in case:
        yield _difference("loss", net.loss, case["loss"])


def _backward_differences(net: Net, case: Case) -> Iterator[Difference]:
    unwritten = set(case.get("indiff_unwritten", np.array([], str)).tolist())
    for key, value in case.items():
        name = key.partition("/")[2]
        if key.startswith("indiff/"):
            wanted = np.zeros_like(value) if name in unwritten else value
            yield _difference(key, net.blobs[name].diff, wanted, gradient=True)
        elif key.startswith("paramdiff/"):
            tensor = _parameter(net, key)
            found = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
            yield _difference(key, found.reshape(value.shape), value, gradient=True)


def _difference(
    key: str, tensor: torch.Tensor, wanted: np.ndarray, gradient: bool = False
) -> Difference:
    found = tensor.detach().to("cpu", torch.float64).numpy()
    expected = wanted.astype(np.float64)
    if found.shape != expected.shape:
        note = f"shape {found.shape}, recorded {expected.shape}"
        return Difference(key, float("inf"), float("inf"), gradient, note)
    finite = np.isfinite(expected)
    odd = np.nan_to_num(found[~finite], nan=0.5) != np.nan_to_num(expected[~finite], nan=0.5)
    if odd.any() or not np.isfinite(found[finite]).all():
        return Difference(key, float("inf"), float("inf"), gradient, "NaN or infinity differs")
    absolute = float(np.abs(found[finite] - expected[finite]).max(initial=0.0))
    scale = max(1.0, float(np.abs(expected[finite]).max(initial=0.0)))
    return Difference(key, absolute, absolute / scale, gradient)
