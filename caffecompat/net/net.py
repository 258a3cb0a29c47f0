"""Net: a prototxt as a torch module."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from caffecompat.errors import NetError
from caffecompat.garbage_collection import collections_paused
from caffecompat.graph import Version
from caffecompat.layers import BuildOptions
from caffecompat.layers._context import BuildKeywords
from caffecompat.net import description, pickling
from caffecompat.net.batch_shard import sample_range
from caffecompat.net.blobs.blob import Blob
from caffecompat.net.blobs.inputs import Array
from caffecompat.net.blobs.values import Result
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.net.definition import graph_of, read_definition
from caffecompat.net.execution import partial
from caffecompat.net.execution.device import usable_device
from caffecompat.net.execution.forked import compute_in_one_thread_when_forked
from caffecompat.net.execution.inference import OptimizedPasses
from caffecompat.net.execution.passes import Passes
from caffecompat.net.execution.stepper import LayeredNet
from caffecompat.net.fx_program import Program
from caffecompat.net.kernels.choice import Kernels
from caffecompat.net.layer_checks import check_fillers
from caffecompat.net.parameters.initial_values import Unfilled, fill_rest, materialise
from caffecompat.net.parameters.net_weights import NetWeights
from caffecompat.net.setup.build import build_layers
from caffecompat.weights import Weights

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Net(NetWeights, OptimizedPasses, metaclass=description.OwnMembers):
    """An executable Caffe net; it is a torch module, see ``help(torch.nn.Module)`` too.

    Args:
        source: path of a prototxt, a NetParameter message, or a
            :class:`caffecompat.net.definition.Definition`.
        weights: path of a weight file, or :class:`Weights`, copied by layer name. A report is
            logged and added to the notes; weights that match no layer are refused. A number is the
            phase, as in pycaffe's ``Net(file, TEST)``.
        phase: ``"train"`` or ``"test"``, or ``caffecompat.TRAIN`` (0) or ``TEST`` (1). The phase
            decides when the net is built which layers it has and how they work; torch's
            ``.train()`` and ``.eval()`` have no effect.
        device: torch device.
        options: all other options; each field can also be given as a keyword, see
            :class:`caffecompat.layers.BuildOptions`.
        share_with: a net whose parameters are used, not copied, by layers of the same name.

    Relative paths in the prototxt start at the current directory.

    Attributes:
        observe: when true, :meth:`run` keeps every blob, not only the net outputs.
        runner: what :meth:`run` calls instead of the net's program, if it is not None.
        seconds_reading: the time that passes have waited for data layers.
        samples: the samples of each pass that this rank computes; None for all.

    Raises:
        FileProblem, TextError: the file is missing or does not parse.
        NetError, UnknownName: the net cannot be built.
        WeightsError: the weights do not fit.
    """

    position: torch.Tensor

    @collections_paused()
    def __init__(
        self,
        source: str | os.PathLike[str] | Any,
        weights: str | os.PathLike[str] | Weights | int | None = None,
        phase: str | int = "test",
        device: str | torch.device = "cpu",
        *,
        options: BuildOptions | None = None,
        share_with: Net | None = None,
        **keywords: Unpack[BuildKeywords],
    ) -> None:
        super().__init__()
        if isinstance(weights, int):
            phase = _phase_in_place_of_weights(weights, phase)
            weights = None
        options = replace(options or BuildOptions(), **keywords)
        definition = read_definition(source, options.lenient, options.max_bytes)
        self._options = options = definition.complete(options)
        self.graph = graph_of(definition, phase, options)
        self.seed = options.seed
        self.observe = False
        self.runner: Callable[[int], Result] | None = None
        self.layers = build_layers(self.graph, options, definition.message)
        self.samples = sample_range(self.layers, options.shard)
        self.notes = definition.notes + self.graph.notes
        unfilled = self._materialise(device, share_with, fills=weights is None)
        if weights is not None:
            report = self.load_weights(weights)
            fill_rest(unfilled, report.copied, self.seed)
            report.write_to(logging.getLogger("caffecompat"))
            self.notes = [*self.notes, *report.sentences()]

    def _materialise(
        self, device: str | torch.device, share_with: Net | None, fills: bool
    ) -> list[Unfilled]:
        if self._options.shapes_only:
            check_fillers(self.layers)
            self._register(torch.device("meta"))
            return []
        compute_in_one_thread_when_forked()
        target = usable_device(device)
        shared = share_with._modules_by_layer() if share_with is not None else None
        force_backward = self.graph.force_backward
        unfilled = materialise(self.layers, self.seed, force_backward, target, shared, fills)
        self._register(target)
        return unfilled

    def _register(self, device: torch.device) -> None:
        for built in self.layers:
            if built.module is not None:
                # Not by attribute: a layer may have the name of a method of Module.
                self._modules[built.key] = built.module
        self.register_buffer("position", torch.zeros((), dtype=torch.int64), persistent=False)
        self._passes = Passes(self.graph, self.layers, self.position, device)
        if device.type != "meta":
            self.to(device)

    def _apply(self, fn: Any, recurse: bool = True) -> Net:
        super()._apply(fn, recurse)
        self._passes.apply(fn, self.position)
        for built in self.layers:
            noise = built.layer.noise if built.layer and built.module is not None else None
            if noise is not None:
                noise.position, noise.samples = self.position, self.samples
        return self

    def channels_last(self) -> Net:
        """Uses the memory format ``torch.channels_last`` for blobs and weights with four axes.

        Most convolutions are faster with it. Shapes and values do not change.
        """
        self._passes.inputs.memory_format = form = torch.channels_last
        # Module.to would convert blobs with five axes too, which fails.
        return self._apply(lambda t: t.contiguous(memory_format=form) if t.dim() == 4 else t)

    def compile(self, **options: Any) -> None:
        """Compiles the program of :meth:`run` with ``torch.compile``, which gets all arguments.

        The first pass then takes long. :meth:`forward`, which keeps every blob, is not compiled.
        """
        self.program().compile(**options)

    def use_kernels(self, kernels: Kernels) -> None:
        """Sets which Triton kernels compute the inputs of the net on a GPU."""
        self._passes.inputs.kernels = kernels

    def use_half_inputs(self, stored: Mapping[Version, int]) -> None:
        """See :meth:`caffecompat.net.execution.passes.Passes.use_half_inputs`."""
        self._passes.use_half_inputs(stored)

    @property
    def device(self) -> torch.device:
        return self.position.device

    @property
    def blobs(self) -> Mapping[str, Blob]:
        """All blobs by name, in order of creation."""
        return self._passes.blobs

    @property
    def loss(self) -> torch.Tensor:
        """The total weighted loss of the last pass, 0-axis; zero before the first pass."""
        loss = self._passes.loss
        return torch.zeros((), device=self.device) if loss is None else loss

    @property
    def loss_weights(self) -> dict[str, float]:
        """Non-zero loss weights by blob name; after in-place layers, the weight of the last one."""
        layers = (zip(b.tops, b.loss_weights, strict=True) for b in self.layers)
        weights = {top.blob: weight for layer in layers for top, weight in layer}
        return {blob: weight for blob, weight in weights.items() if weight}

    @property
    def definition(self) -> Any:
        """NetParameter message of the net as built, without the layers that rules exclude."""
        return pickling.definition_of(self.graph, self.layers)

    @property
    def dialect(self) -> str:
        """The fork of Caffe whose layer types are meant; see :class:`BuildOptions`."""
        return self._options.dialect

    def program(self, observed: bool = False) -> Program:
        """The fx program of the net; the observed one returns every blob."""
        return self._passes.program(observed)

    # Passes

    def run(self, index: int) -> Result:
        """Runs pass number ``index`` (from 0) on the data of the net's data layers.

        Data, dropout and other noise are pure functions of (seed, index). Call ``backward()`` on
        the result's loss to train; with a :attr:`runner` that of the result, if it has one.
        """
        if self.runner is not None:
            return self.runner(index)
        return self._passes.run(index, self.feeds(index), self.observe)

    def feeds(self, index: int) -> list[torch.Tensor]:
        """The inputs of :meth:`program` in pass ``index``: the tops of all sources, in order."""
        return self._passes.inputs.feeds(index, {})

    def forward(
        self,
        /,
        *tensors: Array,
        start: Any = None,
        end: Any = None,
        blobs: Any = (),
        **inputs: Array,
    ) -> Any:
        """Runs one pass; the arguments replace the tops of the net's sources.

        Args:
            tensors: values of the inputs by position, in the order of :attr:`inputs`.
            start, end: names of the first and the last layer to run, without gradients. Blobs of
                layers before ``start`` keep their values.
            blobs: names of further blobs to return.
            inputs: values of Input (or data layer) tops by name, numpy or torch, in any shape that
                the layers can work on. Inputs that are not given keep their values.

        Returns:
            Net outputs (with ``end`` the tops of that layer) by blob name. If ``tensors`` are given
            and there is one output, that output. The values are numpy arrays if any argument is
            one, else tensors. All blobs are in :attr:`blobs` afterwards; a pass within a transform
            of ``torch.func`` changes none of them.

        Raises:
            BlobError: no such input, layer or blob.
            LayerError: the shapes do not fit; the layer is named.
            NetError: there are more ``tensors`` than inputs, or a value is not an array of numbers.
        """
        if self._passes.optimized is not None and not tensors:
            inputs_alone = start is None and end is None and isinstance(blobs, tuple) and not blobs
            found = self._passes.optimized_forward(inputs) if inputs_alone else None
            if found is not None:
                return found
        request = partial.ForwardRequest(start, end, blobs)
        return self._passes.forward(tensors, self._passes.inputs.names, request, inputs)

    def backward(self, /, *, start: Any = None, **diffs: Array) -> None:
        """Computes the gradients of the last :meth:`forward` over all layers.

        It starts from the losses, from ``diffs`` and from the values written into the ``diff`` of
        outputs (``net.blobs["prob"].diff[...] = array``), which are kept as in Caffe.

        Args:
            start: name of the layer to start at; then only the gradients of its tops are used.
            diffs: gradients of blobs by name, in the shapes of the blobs.

        Parameter gradients add up in ``.grad``, blob gradients are in ``blobs[name].diff``.

        Raises:
            BlobError: no such layer or blob.
            NetError: there was no forward pass, or nothing needs a gradient.
        """
        self._passes.backward(start, diffs)

    def release_values(self) -> None:
        """Releases the blobs' values of the last pass, and with them its autograd graph."""
        self._passes.release()

    def keep_values(self, values: Mapping[Version, torch.Tensor], loss: torch.Tensor) -> None:
        """Makes values that were computed elsewhere, such as by a CUDA graph, those of the blobs.

        Args:
            values: without gradients, for every top of :attr:`Program.feeds` and every output.
            loss: the total weighted loss, 0-axis.
        """
        self._passes.keep(values, loss)

    def read_source(self, built: BuiltLayer, index: int) -> tuple[torch.Tensor, ...]:
        """The tops of one source for pass ``index``, for running a net layer by layer."""
        return self._passes.inputs.read(built, index)

    def read_ahead(self, index: int) -> None:
        """Copies the batch of pass ``index`` to the device while the device runs another pass."""
        self._passes.inputs.read_ahead(index)

    @property
    def passes(self) -> LayeredNet:
        """What runs the net's layers; it does not keep the net itself alive."""
        return self._passes

    @property
    def seconds_reading(self) -> float:
        """Time spent so far waiting for data."""
        return self._passes.inputs.seconds_reading

    def value_of(self, version: Version) -> torch.Tensor:
        """The value of the last pass, or the stored input, or zeros before any pass.

        Raises:
            BlobError: the last pass did not keep it.
        """
        return self._passes.values.of(version)

    def close(self) -> None:
        """Stops the data layers' threads and closes their files."""
        for built in self.layers:
            if built.source is not None:
                built.source.close()

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy opens its data sources again and has no blob values of the last pass.
        parts = pickling.parts_of(self.definition, self._options)
        values = {"values": self.state_dict(), "device": str(self.device)}
        return pickling.rebuilt, (type(self), *parts), values

    def __setstate__(self, state: dict[str, Any]) -> None:
        values = state["values"]
        dtype = next((v.dtype for v in values.values() if v.is_floating_point()), None)
        self.to(state["device"], dtype)
        self.load_state_dict(values)

    def __repr__(self) -> str:
        return description.describe(self.graph, self.layers)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(nn.Module)})


def _phase_in_place_of_weights(number: int, phase: str | int) -> str | int:
    """The phase of ``Net(file, TEST)``."""
    if phase != "test":
        raise NetError(
            f"weights is {number!r} and phase is {phase!r}; give the phase once, and weights by "
            "name: Net(file, weights=..., phase=...)"
        )
    return number
