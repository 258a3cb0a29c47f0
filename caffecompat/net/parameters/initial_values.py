"""Initial values of parameters: fillers, embedded blobs, sharing in a net and between nets."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch

from caffecompat.errors import CaffeError, LayerError, first_line
from caffecompat.graph import ParameterUse
from caffecompat.layers._base import ParameterSpec
from caffecompat.layers._counter_rng import derive_seed
from caffecompat.layers.fillers import check_filler, fill
from caffecompat.net.allocation import is_out_of_memory, parameter_too_large
from caffecompat.net.backward_needs import backward_needs
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.net.module import LayerModule
from caffecompat.net.parameters.embedded import embedded_value
from caffecompat.reporting.units import format_shape
from caffecompat.weights import load_weights
from caffecompat.weights.blob_shapes import match_shape


@dataclass(frozen=True)
class Learnable:
    """A parameter blob for the solver; a shared blob is listed once, under its owner.

    ``tensor`` is an ``nn.Parameter``, or a buffer for statistics, whose ``lr_mult`` is 0.
    """

    layer: str
    index: int
    tensor: torch.Tensor
    lr_mult: float
    decay_mult: float


@dataclass(frozen=True)
class Unfilled:
    """A parameter that has memory, and no values from its filler yet."""

    built: BuiltLayer
    index: int
    spec: ParameterSpec


def materialise(
    layers: Sequence[BuiltLayer],
    seed: int,
    force_backward: bool,
    device: torch.device,
    shared: dict[str, LayerModule] | None = None,
    fills: bool = True,
) -> list[Unfilled]:
    """Replaces the parameters on ``meta`` by tensors on ``device`` with their initial values.

    Args:
        seed: each parameter is a pure function of (seed, layer name, blob index).
        force_backward: parameters with ``lr_mult: 0`` get gradients too. Without it, only those of
            layers do that run backward and whose type has ``forces_gradients``.
        shared: modules by layer name; layers with the same name and shapes use their parameters
            (a test net uses those of its train net).
        fills: false checks the fillers, and leaves their values to :func:`fill_rest`: those that a
            weight file replaces need not be made.

    Returns:
        The parameters that are left to be filled.

    Raises:
        LayerError: a filler or an embedded blob does not fit, or shared shapes differ.
    """
    unfilled = []
    forced = _with_forced_gradients(layers, force_backward)
    for built, j, spec, use in _parameters(layers):
        module = built.module
        assert module is not None
        trains = spec.learned and (use.lr_mult != 0 or built.key in forced)
        shared_module = shared.get(built.name) if shared else None
        if shared_module is not None and _same_shapes(shared_module, module):
            module.set_parameter(spec, shared_module.blobs()[j], trains)
        elif use.owner == (built.node.index, j):
            later = not fills and _has_filler(built, spec)
            value = _allocated(built, j, spec, None if later else seed, device)
            module.set_parameter(spec, value, trains)
            if later:
                unfilled.append(Unfilled(built, j, spec))
        else:
            module.set_parameter(spec, _owned_value(layers, built, j, spec, use), trains)
    return unfilled


def _with_forced_gradients(layers: Sequence[BuiltLayer], force_backward: bool) -> set[str]:
    """The layers whose parameters get gradients even with ``lr_mult: 0``, by key."""
    if force_backward:
        return {built.key for built in layers}
    if not any(built.layer is not None and built.layer.forces_gradients for built in layers):
        return set()
    runs = backward_needs(layers, force_backward).layers
    return {
        built.key
        for built, run in zip(layers, runs, strict=True)
        if run and built.layer is not None and built.layer.forces_gradients
    }


def fill_rest(unfilled: Sequence[Unfilled], copied: Container[tuple[int, int]], seed: int) -> None:
    """Fills parameters that have no values yet, except those that a file gave values.

    Args:
        unfilled: what :func:`materialise` has returned.
        copied: the parameters with values, by the index of the layer and of the blob.
        seed: that of :func:`materialise`; each parameter gets the values it would have got there.
    """
    for one in unfilled:
        if (one.built.node.index, one.index) not in copied:
            assert one.built.module is not None
            with torch.no_grad():
                blob = one.built.module.blobs()[one.index]
                blob.copy_(initial_value(one.built, one.index, one.spec, seed))


def _has_filler(built: BuiltLayer, spec: ParameterSpec) -> bool:
    """Whether a filler makes the values, not a blob or file that the definition names."""
    return not (built.node.message.blobs or spec.values is not None or spec.filler.model_path)


def _allocated(
    built: BuiltLayer, j: int, spec: ParameterSpec, seed: int | None, device: torch.device
) -> torch.Tensor:
    """The initial value on ``device``; without a seed, memory for it once the filler is checked."""
    try:
        if seed is None:
            check_filler(spec.filler, spec.shape, _place(built, spec))
            return torch.empty(spec.shape, dtype=torch.float32, device=device)
        return initial_value(built, j, spec, seed).to(device)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise parameter_too_large(built, spec.name, spec.shape, device) from error
        raise LayerError(
            f"{built.place}: {spec.name} of {format_shape(spec.shape)} cannot be filled on "
            f"{device}: {first_line(error)}"
        ) from error


def learnables(layers: Sequence[BuiltLayer]) -> list[Learnable]:
    """Every parameter blob once, in the order of Caffe's solver states."""
    return [
        Learnable(
            built.name,
            j,
            built.module.blobs()[j],
            use.lr_mult if spec.learned else 0.0,
            use.decay_mult,
        )
        for built, j, spec, use in _parameters(layers)
        if built.module is not None and use.owner == (built.node.index, j)
    ]


def _parameters(
    layers: Sequence[BuiltLayer],
) -> Iterator[tuple[BuiltLayer, int, ParameterSpec, ParameterUse]]:
    for built in layers:
        if built.module is not None:
            for j, (spec, use) in enumerate(zip(built.module.layer.specs, built.uses, strict=True)):
                yield built, j, spec, use


def _same_shapes(shared: LayerModule, module: LayerModule) -> bool:
    return [s.shape for s in shared.layer.specs] == [s.shape for s in module.layer.specs]


def initial_value(built: BuiltLayer, j: int, spec: ParameterSpec, seed: int) -> torch.Tensor:
    """The initial value of blob ``j`` of a layer, on the CPU.

    Raises:
        LayerError: a filler or an embedded blob does not fit.
    """
    if built.node.message.blobs:
        return torch.from_numpy(embedded_value(built.node, j, spec.shape))
    if spec.values is not None:
        return torch.from_numpy(np.array(spec.values, np.float32))
    if spec.filler.model_path:
        return _from_model(built, j, spec)
    generator = torch.Generator()
    generator.manual_seed(derive_seed(seed, "parameter", built.name, j) & (2**63 - 1))
    return fill(spec.filler, spec.shape, generator, _place(built, spec))


def _place(built: BuiltLayer, spec: ParameterSpec) -> str:
    return f"{built.place}: {spec.name}"


def _from_model(built: BuiltLayer, j: int, spec: ParameterSpec) -> torch.Tensor:
    """The values of a layer in another weight file, named by the 2013 VGG fork's filler fields."""
    path = spec.filler.model_path
    name = spec.filler.model_layer_name or built.name
    place = _place(built, spec)
    try:
        limit = built.layer.context.options.max_bytes if built.layer is not None else None
        source = load_weights(path, max_bytes=limit)[name]
    except CaffeError as error:
        raise LayerError(f"{place}: model_path: {error}") from error
    found = source.blobs[j] if j < len(source.blobs) else None
    values = None if found is None else match_shape(found, source.legacy[j], spec.shape)
    if values is None:
        what = "no such blob" if found is None else format_shape(found.shape)
        raise LayerError(
            f"{place}: is {format_shape(spec.shape)}, but blob {j} of layer {name!r} of {path} is "
            f"{what}"
        )
    return torch.from_numpy(np.array(values, np.float32))


def _owned_value(
    layers: Sequence[BuiltLayer],
    built: BuiltLayer,
    j: int,
    spec: ParameterSpec,
    use: ParameterUse,
) -> torch.Tensor:
    owner = layers[use.owner[0]]
    assert owner.module is not None
    value = owner.module.blobs()[use.owner[1]]
    same = value.numel() == prod(spec.shape) if use.permissive else value.shape == spec.shape
    if not same:
        name = built.node.message.param[j].name
        raise LayerError(
            f"{built.place}: shares parameter {name!r} with layer {owner.name!r}, where it is "
            f"{format_shape(value.shape)}; here it is {format_shape(spec.shape)}"
            + ("" if use.permissive else " (share_mode: PERMISSIVE needs only equal counts)")
        )
    return value
