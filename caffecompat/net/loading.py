"""Weights into a net and out of it, by layer name as in Caffe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from caffecompat.errors import WeightsError
from caffecompat.graph.state import PHASES
from caffecompat.net.build import BuiltLayer
from caffecompat.net.module import LayerModule
from caffecompat.net.parameters import copy_blob
from caffecompat.weights import LayerWeights, Weights


@dataclass(frozen=True)
class LoadReport:
    """What a weight file had for a net.

    Attributes:
        loaded: layers that got their values from the file.
        missing: layers of the net with parameters that the file does not have; they keep theirs.
        ignored: layers of the file that the net does not have.
        without_parameters: layers of both that have nothing to load.
    """

    loaded: list[str]
    missing: list[str]
    ignored: list[str]
    without_parameters: list[str]


def load(layers: Sequence[BuiltLayer], weights: Weights, origin: str) -> LoadReport:
    """Copies ``weights`` into the layers of the same names; nothing is copied if one does not fit.

    Raises:
        WeightsError: one sentence for every layer with another number of blobs or another shape.
    """
    targets: dict[str, BuiltLayer] = {}
    for built in layers:
        targets.setdefault(built.name, built)
    loaded: list[str] = []
    ignored: list[str] = []
    empty: list[str] = []
    problems: list[str] = []
    copies: list[tuple[torch.Tensor, np.ndarray, bool, str]] = []
    for source in weights.layers:
        target = targets.get(source.name)
        if target is None:
            ignored.append(source.name)
            continue
        blobs = target.module.blobs() if target.module else []
        if len(blobs) != len(source.blobs):
            problems.append(_count_problem(origin, source, target, len(blobs)))
        elif blobs:
            loaded.append(source.name)
            copies.extend(_copies(origin, source, target, blobs))
        else:
            empty.append(source.name)
    problems.extend(_shape_problems(copies))
    if problems:
        raise WeightsError("\n".join(problems))
    for copy in copies:
        copy_blob(*copy)
    named = set(loaded)
    missing = [b.name for b in layers if b.module and b.module.blobs() and b.name not in named]
    return LoadReport(list(dict.fromkeys(loaded)), missing, ignored, empty)


def _copies(
    origin: str, source: LayerWeights, target: BuiltLayer, blobs: list[torch.Tensor]
) -> Iterator[tuple[torch.Tensor, np.ndarray, bool, str]]:
    assert target.module is not None
    for i, blob in enumerate(blobs):
        name = target.module.layer.specs[i].name
        # A permissive sharer has its own shape for the owner's values.
        shaped = blob.detach().view(target.module.layer.specs[i].shape)
        legacy = source.legacy[i] if source.legacy else False
        yield shaped, source.blobs[i], legacy, f"{origin}: {target.place}: {name} (blob {i})"


def _count_problem(origin: str, source: LayerWeights, target: BuiltLayer, expected: int) -> str:
    return (
        f"{origin}: {target.place}: the file has {len(source.blobs)} parameter blobs, the net's "
        f"layer has {expected}. If the layers are different on purpose, rename the net's one"
    )


def _shape_problems(copies: list[tuple[torch.Tensor, np.ndarray, bool, str]]) -> list[str]:
    problems = []
    for target, blob, legacy, who in copies:
        try:
            copy_blob(torch.empty_like(target, device="meta"), blob, legacy, who)
        except WeightsError as error:
            problems.append(str(error))
    return problems


def borrow(layers: Sequence[BuiltLayer], lender: dict[str, LayerModule]) -> list[str]:
    """Lets layers use the parameters of ``lender``'s layers of the same names.

    Returns:
        Names of the lender's layers that have no counterpart here.

    Raises:
        WeightsError: layers of one name have parameters of different shapes.
    """
    names = {built.name for built in layers}
    for built in layers:
        module, source = built.module, lender.get(built.name)
        if module is None or source is None:
            continue
        ours, theirs = ([s.shape for s in m.layer.specs] for m in (module, source))
        if ours != theirs:
            raise WeightsError(
                f"{built.place}: its parameters are {ours}, those of the net that lends its "
                f"weights are {theirs}"
            )
        for spec, blob in zip(module.layer.specs, source.blobs(), strict=True):
            module.place(spec, blob, trains=False)
    return [name for name in lender if name not in names]


def collect(layers: Sequence[BuiltLayer], name: str, diffs: bool) -> Weights:
    """The weights of all layers as arrays on the CPU, in the order of the net, splits included."""
    entries = []
    for built in layers:
        tensors = built.module.blobs() if built.module else []
        specs = built.module.layer.specs if built.module else []
        shaped = [t.detach().view(s.shape) for t, s in zip(tensors, specs, strict=True)]
        gradients = [
            torch.zeros_like(t) if t.grad is None else t.grad.view(s.shape)
            for t, s in zip(tensors, specs, strict=True)
        ]
        entries.append(
            LayerWeights(
                built.name,
                built.type,
                [_array(t) for t in shaped],
                diffs=[_array(t) for t in gradients] if diffs else None,
                bottoms=[bottom.blob for bottom in built.bottoms],
                tops=[top.blob for top in built.tops],
                phase=PHASES.index(built.node.phase),
            )
        )
    return Weights(entries, net_name=name)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().to("cpu", torch.float32).contiguous().numpy()
