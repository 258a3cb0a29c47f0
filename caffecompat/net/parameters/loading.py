"""Copies weights into a net and out of it, by layer name as in Caffe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from math import prod

import numpy as np
import torch

from caffecompat.errors import WeightsError, suggestion
from caffecompat.graph.state import PHASES
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.net.module import LayerModule
from caffecompat.net.parameters.initial_values import initial_value
from caffecompat.net.parameters.load_report import (
    ERROR,
    MISMATCHES,
    REINIT,
    LoadReport,
    nothing_loaded,
)
from caffecompat.reporting.units import format_shape
from caffecompat.weights import LayerWeights, Weights
from caffecompat.weights.blob_shapes import match_shape
from caffecompat.weights.mapped import release_pages
from caffecompat.weights.nvcaffe import is_nvcaffe

# The number of values to copy at a time, which bounds the memory that a copy needs.
PIECE = 1 << 20
_LEARN_AFRESH = (
    "To learn {} afresh instead of loading it, rename the layer, or pass over it with "
    "on_mismatch='skip' (--on-mismatch skip)"
)


@dataclass
class _Copy:
    """One blob of the file and its parameter, ``shaped``, in the shape of the layer."""

    shaped: torch.Tensor
    blob: np.ndarray
    legacy: bool
    name: str
    owner: tuple[int, int]


@dataclass(frozen=True)
class _Misfit:
    """Why a layer does not fit, and how to go on without it where the sentence does not say so."""

    sentence: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.sentence}. {self.remedy}" if self.remedy else self.sentence


@dataclass
class _Plan:
    """What a file has for the layers of a net.

    Attributes:
        copies: by name of the layer.
        ignored, without_parameters: see :class:`LoadReport`.
        problems: by name of each layer that does not fit.
    """

    copies: dict[str, list[_Copy]] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    without_parameters: list[str] = field(default_factory=list)
    problems: dict[str, _Misfit] = field(default_factory=dict)


def load(
    layers: Sequence[BuiltLayer],
    weights: Weights,
    origin: str,
    *,
    only: Sequence[str] | None = None,
    on_mismatch: str = ERROR,
    private: bool = False,
    lenient: bool = False,
) -> LoadReport:
    """Copies ``weights`` into the layers of the same names.

    As in Caffe, a layer of a binary file is copied into the net's first layer of that name, a layer
    of an HDF5 file into the last, and an HDF5 file may omit shared parameters.
    Source: Net::CopyTrainedLayersFrom of BVLC Caffe.

    Args:
        layers: the net.
        weights: the file.
        origin: the file's name in messages.
        only: names of layers, or patterns with ``*``; all other layers keep their values. Each must
            match a layer of the net and of the file.
        on_mismatch: the treatment of layers with another number of blobs or other shapes.
            ``"error"``: raise an error and copy nothing. ``"skip"``: the layer keeps its current
            values, from its fillers or from a file that was loaded before. ``"reinit"``: all its
            parameters get the values of a new net with this seed.
        private: the caller does not use ``weights`` afterwards, so that the memory of mapped arrays
            can be released during the copy.
        lenient: accept a file that matches no layer of the net.

    Raises:
        WeightsError: ``on_mismatch`` is "error" and layers do not fit (one sentence for each);
            ``only`` does not match; or nothing was loaded into a net with parameters, and
            ``lenient`` is false.
    """
    if on_mismatch not in MISMATCHES:
        raise WeightsError(f"on_mismatch is {on_mismatch!r}{suggestion(on_mismatch, MISMATCHES)}")
    targets: dict[str, BuiltLayer] = {}
    for built in reversed(layers) if weights.format != "hdf5" else layers:
        targets[built.name] = built
    chosen = _chosen(only, targets, weights, origin)
    plan = _plan(weights, origin, targets, chosen)
    if plan.problems and on_mismatch == ERROR:
        raise WeightsError("\n".join(map(str, plan.problems.values())))
    if on_mismatch == REINIT:
        for name in plan.problems:
            _reinitialise(targets[name])
    copies = [one for blobs in plan.copies.values() for one in blobs]
    for one in copies:
        _copy(one, private)
    report = LoadReport(
        loaded=list(plan.copies),
        missing=[],
        ignored=plan.ignored,
        without_parameters=plan.without_parameters,
        mismatched={name: misfit.sentence for name, misfit in plan.problems.items()},
        on_mismatch=on_mismatch,
        copied=frozenset(one.owner for one in copies),
    )
    _add_untouched(report, layers, chosen)
    if report.nothing_loaded and not lenient:
        raise WeightsError(nothing_loaded(origin, report, weights))
    return report


def _plan(weights: Weights, origin: str, targets: dict[str, BuiltLayer], chosen: set[str]) -> _Plan:
    """What is to be copied; changes nothing."""
    plan = _Plan()
    for source in weights.layers:
        target = targets.get(source.name)
        if target is None:
            plan.ignored.append(source.name)
        elif source.name not in chosen:
            continue
        elif _parameters(target):
            found = _match(origin, source, target, weights.format)
            if isinstance(found, _Misfit):
                plan.problems[source.name] = found
            else:
                plan.copies[source.name] = found
        elif source.blobs:
            plan.problems[source.name] = _count_misfit(origin, source, target)
        else:
            plan.without_parameters.append(source.name)
    for name in plan.problems:
        plan.copies.pop(name, None)  # of another layer of that name in the file
    return plan


def _chosen(
    only: Sequence[str] | None, targets: dict[str, BuiltLayer], weights: Weights, origin: str
) -> set[str]:
    """The names of the net's layers that may be loaded.

    Raises:
        WeightsError: a name or pattern matches no layer with parameters in the net or in the file.
    """
    if only is None:
        return set(targets)
    with_parameters = [name for name, built in targets.items() if _parameters(built)]
    chosen: set[str] = set()
    for pattern in only:
        ours = [name for name in with_parameters if fnmatchcase(name, pattern)]
        if not ours:
            raise WeightsError(
                f"layers: the net has no layer {pattern!r} with parameters"
                f"{suggestion(pattern, with_parameters)}"
            )
        if not any(name in weights for name in ours):
            raise WeightsError(
                f"layers: {origin} has no layer {pattern!r}{suggestion(pattern, weights)}"
            )
        chosen.update(ours)
    return chosen


def _parameters(built: BuiltLayer) -> list[torch.Tensor]:
    return built.module.blobs() if built.module else []


def _shared(built: BuiltLayer, index: int) -> bool:
    return built.uses[index].owner != (built.node.index, index)


def _match(
    origin: str, source: LayerWeights, target: BuiltLayer, format_name: str
) -> list[_Copy] | _Misfit:
    """The copies for one layer of the file, or why the layer does not fit."""
    blobs = _parameters(target)
    indices = source.indices or list(range(len(source.blobs)))
    left_out = set(range(len(blobs))) - set(indices)
    may_leave_out = format_name == "hdf5" and all(_shared(target, j) for j in left_out)
    if max(indices, default=0) >= len(blobs) or (left_out and not may_leave_out):
        return _count_misfit(origin, source, target)
    assert target.module is not None
    specs = target.module.layer.specs
    stored = target.module.layer.adapt(source.blobs)
    pairs = []
    for j, blob, legacy in zip(indices, stored, source.legacy, strict=True):
        # With share_mode PERMISSIVE a layer has another shape than the parameter's owner.
        shaped = blobs[j].detach().view(specs[j].shape)
        owner = target.uses[j].owner
        pairs.append(_Copy(shaped, blob, legacy, f"{specs[j].name} (blob {j})", owner))
    wrong = [p for p in pairs if match_shape(p.blob, p.legacy, p.shaped.shape) is None]
    if wrong:
        return _shape_misfit(f"{origin}: {target.place}", wrong)
    return pairs


def _count_misfit(origin: str, source: LayerWeights, target: BuiltLayer) -> _Misfit:
    sentence = (
        f"{origin}: {target.place}: the file has {len(source.blobs)} parameter blobs, the net's "
        f"layer has {len(_parameters(target))}"
    )
    if is_nvcaffe(source, target.type):
        return _Misfit(
            f"{sentence}. Five blobs are NVCaffe's layout with scale and bias inside; `caffecompat "
            "convert --bvlc-batch-norm` splits them into BatchNorm and Scale"
        )
    return _Misfit(sentence, _LEARN_AFRESH.format("the layer"))


def _shape_misfit(who: str, wrong: list[_Copy]) -> _Misfit:
    shapes = "; ".join(
        f"{pair.name} is {format_shape(pair.blob.shape)} in the file, the net needs "
        f"{format_shape(pair.shaped.shape)}"
        for pair in wrong
    )
    hint = _same_count_hint(wrong)
    sentence = f"{who}: {shapes}. {hint}" if hint else f"{who}: {shapes}"
    return _Misfit(sentence, _LEARN_AFRESH.format("it"))


def _same_count_hint(wrong: list[_Copy]) -> str:
    """The remedy for blobs with the right number of values in another shape."""
    if any(pair.blob.size != pair.shaped.numel() for pair in wrong):
        return ""
    found, needed = _without_ones(wrong[0].blob.shape), tuple(wrong[0].shaped.shape)
    if found[:1] == needed[:1] and {len(found), len(needed)} == {2, 4}:
        return (
            "The values are the same in the same order, for a fully connected layer on one side "
            "and a convolution on the other; reshape the array and load it then"
        )
    return "The number of values is the same; if their order is too, reshape the array"


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an old blob without its leading ones."""
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    return shape


def _reinitialise(built: BuiltLayer) -> None:
    if built.layer is None:
        return  # an automatic split has no parameters
    seed = built.layer.context.options.seed
    with torch.no_grad():
        for j, (blob, spec) in enumerate(zip(_parameters(built), built.layer.specs, strict=True)):
            if not _shared(built, j):
                blob.copy_(initial_value(built, j, spec, seed))


def _copy(pair: _Copy, private: bool) -> None:
    if pair.shaped.is_meta:
        return  # a net with shapes_only has no values
    values = match_shape(pair.blob, pair.legacy, pair.shaped.shape)
    assert values is not None
    if not (pair.shaped.is_contiguous() and values.flags.c_contiguous):
        _copy_piece(pair.shaped, values)
        return
    target, flat = pair.shaped.view(-1), values.reshape(-1)
    for start in range(0, prod(values.shape), PIECE):
        piece = flat[start : start + PIECE]
        _copy_piece(target[start : start + PIECE], piece)
        if private:
            release_pages(piece)


def _copy_piece(target: torch.Tensor, values: np.ndarray) -> None:
    with torch.no_grad():
        # torch needs aligned addresses, which views of a mapped file may not have.
        target.copy_(torch.from_numpy(np.require(values, np.float32, ["C", "A", "W"])))


def _add_untouched(report: LoadReport, layers: Sequence[BuiltLayer], chosen: set[str]) -> None:
    """Adds the layers without copied values to the report, except those that share loaded ones."""
    loaded = set(report.loaded)
    for built in layers:
        if built.name in loaded or built.name in report.mismatched or not _parameters(built):
            continue
        if built.name not in chosen:
            report.left_out.append(built.name)
        elif any(layers[use.owner[0]].name not in loaded for use in built.uses):
            report.missing.append(built.name)


def share(layers: Sequence[BuiltLayer], shared: dict[str, LayerModule]) -> list[str]:
    """Makes layers use the parameters of the layers with the same names in ``shared``.

    Returns:
        Names of the shared layers that have no counterpart here.

    Raises:
        WeightsError: layers with the same name have parameters of different shapes.
    """
    names = {built.name for built in layers}
    for built in layers:
        module, source = built.module, shared.get(built.name)
        if module is None or source is None:
            continue
        ours, theirs = ([s.shape for s in m.layer.specs] for m in (module, source))
        if ours != theirs:
            raise WeightsError(
                f"{built.place}: its parameters are {ours}, those of the net whose weights "
                f"are shared are {theirs}"
            )
        for spec, blob in zip(module.layer.specs, source.blobs(), strict=True):
            module.set_parameter(spec, blob, trains=False)
    return [name for name in shared if name not in names]


def collect(layers: Sequence[BuiltLayer], name: str, diffs: bool) -> Weights:
    """The weights of all layers as arrays on the CPU, in the order of the net, splits included."""
    return Weights([_entry(built, diffs) for built in layers], net_name=name)


def _entry(built: BuiltLayer, diffs: bool) -> LayerWeights:
    specs = built.module.layer.specs if built.module else []
    tensors = _parameters(built)
    # Zeros are made only where gradients are wanted: they are as large as the net.
    gradients = [torch.zeros_like(t) if t.grad is None else t.grad for t in tensors if diffs]
    return LayerWeights(
        built.name,
        built.type,
        [_array(t.view(s.shape)) for t, s in zip(tensors, specs, strict=True)],
        diffs=[_array(g.view(s.shape)) for g, s in zip(gradients, specs, strict=True)]
        if diffs
        else None,
        bottoms=[bottom.blob for bottom in built.bottoms],
        tops=[top.blob for top in built.node.tops],
        phase=PHASES.index(built.node.phase),
        shared=frozenset(j for j in range(len(tensors)) if _shared(built, j)),
    )


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().to("cpu", torch.float32).contiguous().numpy()
