"""Net: a prototxt as a torch module."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from caffecompat.graph import Version, build_graph, net_state
from caffecompat.layers import BuildOptions, Shape
from caffecompat.net import description, pickling
from caffecompat.net.batch_shard import sample_range
from caffecompat.net.blobs.blob import Blob
from caffecompat.net.blobs.inputs import Array
from caffecompat.net.blobs.values import Result
from caffecompat.net.build import BuiltLayer, build_layers
from caffecompat.net.definition import read_definition
from caffecompat.net.execution import partial
from caffecompat.net.execution.device import usable_device
from caffecompat.net.execution.passes import Passes
from caffecompat.net.parameters.initial_values import (
    check_fillers,
    materialise,
)
from caffecompat.net.parameters.net_weights import NetWeights
from caffecompat.net.program import Program
from caffecompat.weights import Weights


class Net(NetWeights, metaclass=description.OwnMembers):
    """A Caffe net, ready to run; a torch module, so see ``help(torch.nn.Module)`` too.

    Args:
        source: path of a prototxt, a NetParameter message, or a
            :class:`caffecompat.net.definition.Definition`.
        weights: path of a weight file, or :class:`Weights`, copied in by layer name; what was
            loaded is logged and among the notes, and weights that fit no layer are refused.
        phase: ``"train"`` or ``"test"``, or ``caffecompat.TRAIN`` (0) or ``TEST`` (1). It decides
            at build time which layers there are and how they act; ``.train()`` and ``.eval()`` of
            torch change nothing.
        device: torch device.
        options: what else can be chosen; its fields can be given as keywords, too: see
            :class:`caffecompat.layers.BuildOptions`.
        share_with: a net whose parameters are used, not copied, where layer names agree.

    Relative paths inside the prototxt are taken from the current directory.

    Attributes:
        observe: when true, :meth:`run` keeps every blob, not only the net outputs.
        seconds_reading: how long passes have waited for data layers so far.
        samples: the samples of each pass that this net works on; None where it works on all.

    Raises:
        FileProblem, TextError: the file is missing or does not parse.
        NetError, UnknownName: the net cannot be built.
        WeightsError: the weights do not fit.
    """

    position: torch.Tensor

    def __init__(
        self,
        source: str | os.PathLike[str] | Any,
        weights: str | os.PathLike[str] | Weights | None = None,
        phase: str | int = "test",
        device: str | torch.device = "cpu",
        *,
        options: BuildOptions | None = None,
        share_with: Net | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__()
        self._options = options = replace(options or BuildOptions(), **keywords)
        definition = read_definition(source, options.lenient, options.max_bytes)
        message, state = definition.message, options.state
        if state is None:
            state = net_state(message, phase, options.level, options.stages)
        self.graph = build_graph(message, state, definition.place, options.strict)
        self.seed = options.seed
        self.observe = False
        self.layers: list[BuiltLayer] = build_layers(self.graph, options, message)
        self.samples = sample_range(self.layers, options.shard)
        self.notes = definition.notes + self.graph.notes
        self._fill_parameters(device, share_with)
        if weights is not None:
            report = self.load_weights(weights)
            report.write_to(logging.getLogger("caffecompat"))
            self.notes = [*self.notes, *report.sentences()]

    def _fill_parameters(self, device: str | torch.device, share_with: Net | None) -> None:
        if self._options.shapes_only:
            check_fillers(self.layers)
            self._register(torch.device("meta"))
            return
        target = usable_device(device)
        shared = share_with._modules_by_layer() if share_with is not None else None
        materialise(self.layers, self.seed, self.graph.force_backward, target, shared)
        self._register(target)

    def _register(self, device: torch.device) -> None:
        for built in self.layers:
            if built.module is not None:
                # Assigned here, not by attribute: a layer may be called like a method of Module.
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
        """Keeps blobs and weights with their channels innermost, which suits most convolutions.

        Shapes and values stay as they are; only their order in memory changes.
        """
        self._passes.inputs.memory_format = form = torch.channels_last
        # Module.to would ask blobs with five axes for it, too.
        return self._apply(lambda t: t.contiguous(memory_format=form) if t.dim() == 4 else t)

    def compile(self, **options: Any) -> None:
        """Lets ``torch.compile`` have the program that :meth:`run` uses; arguments are its own.

        The first pass then takes long. Nets that keep every blob (:meth:`forward`) run as before.
        """
        self.program().compile(**options)

    @property
    def name(self) -> str:
        return self.graph.name

    @property
    def phase(self) -> str:
        """``"TRAIN"`` or ``"TEST"``."""
        return self.graph.phase

    @property
    def device(self) -> torch.device:
        return self.position.device

    @property
    def inputs(self) -> list[str]:
        """Names of the blobs that Input layers declare."""
        return [top.blob for b in self.layers if b.source and b.source.is_input for top in b.tops]

    @property
    def outputs(self) -> list[str]:
        """Names of the blobs that no layer reads, sorted."""
        return list(self.graph.outputs)

    @property
    def blobs(self) -> Mapping[str, Blob]:
        """All blobs by name, in order of creation."""
        return self._passes.blobs

    @property
    def loss(self) -> torch.Tensor:
        """The total weighted loss of the last pass, 0-axis; zero before any."""
        loss = self._passes.loss
        return torch.zeros((), device=self.device) if loss is None else loss

    @property
    def loss_weights(self) -> dict[str, float]:
        """Non-zero loss weights by blob name; of a blob changed in place that of the last layer."""
        layers = (zip(b.tops, b.loss_weights, strict=True) for b in self.layers)
        weights = {top.blob: weight for layer in layers for top, weight in layer}
        return {blob: weight for blob, weight in weights.items() if weight}

    @property
    def definition(self) -> Any:
        """NetParameter message of the net as built: layers left out by rules are gone."""
        return pickling.definition_of(self.graph, self.layers)

    def program(self, observed: bool = False) -> Program:
        """The fx program of the net; the observed one returns every blob."""
        return self._passes.program(observed)

    # Passes

    def run(self, index: int) -> Result:
        """Pass number ``index`` (from 0), fed by the net's own data layers.

        Data, dropout and other noise are pure functions of (seed, index). Call ``backward()`` on
        the result's loss to train.
        """
        return self._passes.run(index, self.feeds(index), self.observe)

    def feeds(self, index: int) -> list[torch.Tensor]:
        """What :attr:`program` is fed in pass ``index``: the tops of all sources, in its order."""
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
        """One pass; what is given takes the place of what the net's sources would bring.

        Args:
            tensors: values of the inputs in the order of :attr:`inputs`, as torch's modules take
                them.
            start, end: names of the first and the last layer to run, without gradients. Blobs of
                layers before ``start`` keep the values that they have.
            blobs: names of further blobs to return.
            inputs: values of Input (or data layer) tops by name, numpy or torch, in any shape that
                the layers can work on. Inputs that are not given keep their values.

        Returns:
            Net outputs (with ``end`` the tops of that layer) by blob name. Where ``tensors`` are
            given and the net has one output, that output itself. They are numpy arrays if a numpy
            array was given, else tensors. All blobs are in :attr:`blobs` afterwards.

        Raises:
            BlobError: no such input, layer or blob.
            LayerError: the shapes do not fit; the layer is named.
            NetError: there are more ``tensors`` than inputs, or a value is no array of numbers.
        """
        asked = partial.Part(start, end, blobs)
        return self._passes.forward(tensors, self.inputs, asked, inputs)

    def backward(self, /, *, start: Any = None, **diffs: Array) -> None:
        """Gradients of the last whole :meth:`forward`.

        They come from its losses, from ``diffs`` and from what was written into the ``diff`` of
        its outputs (``net.blobs["prob"].diff[...] = array``), which stays there as in Caffe.

        Args:
            start: name of the layer to begin at; then the gradients are those of its tops alone.
            diffs: gradients of blobs by name, shaped as the blobs.

        Parameter gradients add up in ``.grad``, blob gradients are in ``blobs[name].diff``.

        Raises:
            BlobError: no such layer or blob.
            NetError: there was no forward pass, or nothing needs a gradient.
        """
        self._passes.backward(start, diffs)

    def read_source(self, built: BuiltLayer, index: int) -> tuple[torch.Tensor, ...]:
        """The tops of one source for pass ``index``, for those who run a net layer by layer."""
        return self._passes.inputs.read(built, index)

    def read_ahead(self, index: int) -> None:
        """Sends the batch of pass ``index`` to the device while that still works on another."""
        self._passes.inputs.read_ahead(index)

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

    def shape_of(self, version: Version) -> Shape:
        """The shape of a blob version with the definition's input sizes."""
        return self._passes.values.shape_of(version)

    def close(self) -> None:
        """Stops the data layers' threads and closes their files."""
        for built in self.layers:
            if built.source is not None:
                built.source.close()

    def __reduce__(self) -> tuple[Any, ...]:
        # Data sources are opened again, and what the last pass computed is no part of the copy.
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
