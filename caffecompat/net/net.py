"""Net: a prototxt as a torch module."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from caffecompat.errors import CaffeError, NetError
from caffecompat.graph import Version, build_graph, net_state
from caffecompat.layers import Shape
from caffecompat.layers._counter_rng import Noise
from caffecompat.net import description, pickling
from caffecompat.net.batch_shard import share_of
from caffecompat.net.blobs.array_view import BlobParameter, BlobStatistic, with_data
from caffecompat.net.blobs.blob import Blob, Named, Roots
from caffecompat.net.blobs.inputs import Array, Inputs
from caffecompat.net.blobs.values import BlobValues, Result
from caffecompat.net.build import BuildOptions, BuiltLayer, build_layers
from caffecompat.net.definition import read_definition
from caffecompat.net.error_context import explain_failure
from caffecompat.net.execution import partial
from caffecompat.net.execution.device import usable_device
from caffecompat.net.input_gradients import inputs_with_gradient
from caffecompat.net.parameters import loading
from caffecompat.net.parameters.initial_values import (
    Learnable,
    check_fillers,
    learnables,
    materialise,
)
from caffecompat.net.parameters.state_dict_names import torch_naming
from caffecompat.net.program import Program
from caffecompat.weights import Weights, load_weights, save_weights


class Net(nn.Module, metaclass=description.OwnMembers):
    """A Caffe net, ready to run; a torch module, so see ``help(torch.nn.Module)`` too.

    Args:
        source: path of a prototxt, or a NetParameter message.
        weights: path of a weight file, or :class:`Weights`, copied in by layer name; what was
            loaded is logged and among the notes, and weights that fit no layer are refused.
        phase: ``"train"`` or ``"test"``, or ``caffecompat.TRAIN`` (0) or ``TEST`` (1). It decides
            at build time which layers there are and how they act; ``.train()`` and ``.eval()`` of
            torch change nothing.
        device: torch device.
        level, stages: further parts of the net state that include/exclude rules look at.
        seed: fillers, dropout and data sampling are pure functions of it.
        state: a complete NetState message in place of phase, level and stages.
        shapes_only: parameters stay on torch's ``meta`` device and data sources need not exist;
            for looking at shapes and counting.
        shapes: with ``shapes_only``, shapes of data and input tops by name, in place of what their
            files or definitions say; of images the batch size may be left out.
        share_with: a net whose parameters are used, not copied, where layer names agree.
        strict: refuse nets that Caffe refuses even where a sensible reading exists.
        allow_python: run the code that the net's Python layers name; without it they are refused.
        lenient: pass over fields that nothing here knows, with a note, instead of refusing them;
            accept weights that fit no layer.
        skip_corrupt: let the next good record stand in for one that cannot be read.
        rank, ranks: this net is number ``rank`` of ``ranks`` in as many processes; each works on
            its slice of every batch, with the crops and noise that these samples have in one net.

    Relative paths inside the prototxt are taken from the current directory.

    Attributes:
        observe: when true, :meth:`run` keeps every blob, not only the net outputs.
        seconds_reading: how long passes have waited for data layers so far.
        share: the samples of each pass that are this rank's; None where all are.

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
        level: int = 0,
        stages: Sequence[str] = (),
        seed: int = 0,
        state: Any = None,
        shapes_only: bool = False,
        shapes: Mapping[str, Sequence[int]] | None = None,
        share_with: Net | None = None,
        strict: bool = False,
        allow_python: bool = False,
        lenient: bool = False,
        skip_corrupt: bool = False,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        super().__init__()
        definition = read_definition(source, lenient)
        if state is None:
            state = net_state(definition.message, phase, level, stages)
        self.graph = build_graph(definition.message, state, definition.place, strict)
        self.seed = seed
        self.observe = False
        self._options = {
            "seed": seed,
            "shapes_only": shapes_only,
            "shapes": shapes,
            "strict": strict,
            "allow_python": allow_python,
            "lenient": lenient,
            "skip_corrupt": skip_corrupt,
            "rank": rank,
            "ranks": ranks,
        }
        chosen = (seed, shapes_only, allow_python, skip_corrupt, lenient, rank, ranks)
        tops = {top: tuple(shape) for top, shape in (shapes or {}).items()}
        options = BuildOptions(*chosen, definition.message, tops)
        self.layers: list[BuiltLayer] = build_layers(self.graph, options)
        self.share = share_of(self.layers, rank, ranks)
        self.notes = definition.notes + self.graph.notes
        target = torch.device("meta") if shapes_only else usable_device(device)
        if shapes_only:
            check_fillers(self.layers)
        else:
            shared = share_with._modules_by_layer() if share_with is not None else None
            materialise(self.layers, seed, self.graph.force_backward, target, shared)
        self._register(target)
        if weights is not None:
            report = self.load_weights(weights)
            report.write_to(logging.getLogger("caffecompat"))
            self.notes = [*self.notes, *report.sentences()]

    def _register(self, device: torch.device) -> None:
        for built in self.layers:
            if built.module is not None:
                # Assigned here, not by attribute: a layer may be called like a method of Module.
                self._modules[built.key] = built.module
        self.register_buffer("position", torch.zeros((), dtype=torch.int64), persistent=False)
        self._programs: dict[bool, Program] = {}
        self._loss: torch.Tensor | None = None
        self._next_pass = 0
        self._went_backward = False
        self._gradient_inputs = inputs_with_gradient(self.layers, self.graph.force_backward)
        self._inputs = Inputs(self.layers, device)
        self._values = BlobValues(self.layers, self._inputs, lambda: self.device)
        if device.type != "meta":
            self.to(device)

    def _apply(self, fn: Any, recurse: bool = True) -> Net:
        super()._apply(fn, recurse)
        self._inputs.apply(fn)
        for built in self.layers:
            if built.layer is not None and built.module is not None:
                built.layer.noise = Noise(self.seed, built.name, self.position, self.share)
        return self

    def channels_last(self) -> Net:
        """Keeps blobs and weights with their channels innermost, which suits most convolutions.

        Shapes and values stay as they are; only their order in memory changes.
        """
        self._inputs.memory_format = form = torch.channels_last
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
        return [top.blob for b in self.layers if b.source and b.type == "Input" for top in b.tops]

    @property
    def outputs(self) -> list[str]:
        """Names of the blobs that no layer reads, sorted."""
        return [version.blob for version in self._output_versions()]

    @property
    def blobs(self) -> Mapping[str, Blob]:
        """All blobs by name, in order of creation."""
        return Named("blob", list(self._values.last), self._blob)

    @property
    def params(self) -> Mapping[str, list[BlobParameter | BlobStatistic]]:
        """The parameters of each layer that has any, in Caffe's order, with ``data`` and ``diff``.

        ``net.params["fc8"][0].data[...] = array`` writes a weight.
        """
        with_parameters = [b for b in self.layers if b.module and b.module.layer.specs]
        modules = {b.name: b.module for b in with_parameters if b.module}
        return Named(
            "layer with parameters",
            list(modules),
            lambda name: [with_data(blob) for blob in modules[name].blobs()],
        )

    @property
    def learnable(self) -> list[Learnable]:
        """Every parameter blob once, in the order of Caffe's solver states."""
        return learnables(self.layers)

    @property
    def loss(self) -> torch.Tensor:
        """The total weighted loss of the last pass, 0-axis; zero before any."""
        return torch.zeros((), device=self.device) if self._loss is None else self._loss

    @property
    def loss_weights(self) -> dict[str, float]:
        """Non-zero loss weights by blob name; of a blob changed in place that of the last layer."""
        layers = (zip(b.tops, b.loss_weights, strict=True) for b in self.layers)
        weights = {top.blob: weight for layer in layers for top, weight in layer}
        return {blob: weight for blob, weight in weights.items() if weight}

    @property
    def definition(self) -> Any:
        """NetParameter message of the net as built: layers left out by rules are gone."""
        return pickling.definition_of(self)

    def program(self, observed: bool = False) -> Program:
        """The fx program of the net; the observed one returns every blob."""
        if observed not in self._programs:
            wanted = None if observed else self._output_versions()
            self._programs[observed] = Program(self.layers, wanted)
        return self._programs[observed]

    # Passes

    def run(self, index: int) -> Result:
        """Pass number ``index`` (from 0), fed by the net's own data layers.

        Data, dropout and other noise are pure functions of (seed, index). Call ``backward()`` on
        the result's loss to train.
        """
        return self._execute(index, self.feeds(index), observed=self.observe)

    def feeds(self, index: int) -> list[torch.Tensor]:
        """What :attr:`program` is fed in pass ``index``: the tops of all sources, in its order."""
        return self._inputs.feeds(index, {})

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
        given = self._inputs.in_order(tensors, self.inputs) | asked.inputs() | inputs
        part = asked.without_inputs()
        extra = [self.blobs[name] for name in part.blobs]
        index = self._next_pass
        if part.is_whole:
            feeds = self._inputs.feeds(index, given)
            outputs = self._execute(index, feeds, observed=True).outputs
        else:
            outputs = self._run_between(part.start, part.end, index, given)
        self._next_pass += 1
        return partial.answer(outputs, extra, list(given.values()), bool(tensors))

    def _run_between(
        self, start: Any, end: Any, index: int, inputs: Mapping[str, Array]
    ) -> dict[str, torch.Tensor]:
        first = 0 if start is None else partial.layer_index(self, start)
        last = len(self.layers) - 1 if end is None else partial.layer_index(self, end)
        given = self._inputs.give(inputs)
        made = partial.run_between(self, first, last, index, given)
        self._values.replace(made)
        self._loss = None
        wanted = self._output_versions() if end is None else self.layers[last].tops
        return {version.blob: self.value_of(version) for version in wanted}

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
        roots = Roots()
        if start is None and self._loss is not None:
            roots.add(self._loss, None)
        tops = self.outputs if start is None else partial.tops_of(self, start)
        written = {name: self._values.written_diff(name) for name in tops}
        for name, diff in {**written, **diffs}.items():
            if diff is None:
                continue
            roots.add_blob(name, self.blobs[name].tensor, self._inputs.tensor(diff))
        if not roots and not self.graph.force_backward:
            raise NetError(
                "nothing to run backward from: call forward() first, in a net with a loss (or pass "
                "gradients of its outputs) and with something to learn (or force_backward: true)"
            )
        if self._went_backward:
            raise NetError("backward() has run for this pass already; call forward() first")
        roots.run()
        self._went_backward = True

    def _execute(self, index: int, feeds: list[torch.Tensor], observed: bool) -> Result:
        self.position.fill_(index)
        self._values.forget()
        self._went_backward = False
        program = self.program(observed)
        feeds = [
            value.detach().requires_grad_()
            if top in self._gradient_inputs and not value.requires_grad
            else value
            for top, value in zip(program.feeds, feeds, strict=True)
        ]
        try:
            values, loss = program(feeds)
        except CaffeError:
            raise
        except RuntimeError as error:
            raise explain_failure(self.layers, program.feeds, feeds, error) from error
        kept = {**dict(zip(program.feeds, feeds, strict=True)), **values}
        self._values.keep(kept)
        if observed:
            for value in kept.values():
                if value.requires_grad and not value.is_leaf:
                    value.retain_grad()
        self._loss = loss
        outputs = {version.blob: values[version] for version in self._output_versions()}
        return Result(outputs, self.loss)

    def read_source(self, built: BuiltLayer, index: int) -> tuple[torch.Tensor, ...]:
        """The tops of one source for pass ``index``, for those who run a net layer by layer."""
        return self._inputs.read(built, index)

    def read_ahead(self, index: int) -> None:
        """Sends the batch of pass ``index`` to the device while that still works on another."""
        self._inputs.read_ahead(index)

    @property
    def seconds_reading(self) -> float:
        """Time spent so far waiting for data."""
        return self._inputs.seconds_reading

    def value_of(self, version: Version) -> torch.Tensor:
        """The value of the last pass, or the stored input, or zeros before any pass.

        Raises:
            BlobError: the last pass did not keep it.
        """
        return self._values.of(version)

    def shape_of(self, version: Version) -> Shape:
        """The shape of a blob version with the definition's input sizes."""
        return self._values.shape_of(version)

    def _blob(self, name: str) -> Blob:
        return Blob(self._values, name, Version(name, 0), self._values.last[name])

    def _output_versions(self) -> list[Version]:
        return [self._values.last[name] for name in self.graph.outputs]

    # Weights

    def load_weights(
        self,
        weights: str | os.PathLike[str] | Weights,
        *,
        layers: Sequence[str] | None = None,
        on_mismatch: str = "error",
        lenient: bool | None = None,
    ) -> loading.LoadReport:
        """Copies weights in by layer name.

        Layers that the file lacks keep their values, layers that the net lacks are ignored; the
        report names both.

        Args:
            weights: a file, or weights in memory.
            layers: names of the layers to load, or patterns with ``*``; None means all.
            on_mismatch: what to do with a layer of other blobs or shapes. ``"error"`` copies
                nothing at all, ``"skip"`` lets the layer keep the values it has, ``"reinit"``
                fills it anew as in a new net of this seed.
            lenient: accept weights that have nothing for any layer of the net, instead of
                refusing them; by default as the net was built.

        Raises:
            FileProblem, FormatError: the file is missing or no weight file.
            WeightsError: a layer does not fit and ``on_mismatch`` is "error", or ``layers`` names
                one that is not in net and file, or no layer at all was loaded; then nothing was
                copied.
        """
        if isinstance(weights, Weights):
            origin, private = weights.path or "weights", False
        else:
            origin, private = os.fspath(weights), True
            weights = load_weights(weights)
        return loading.load(
            self.layers,
            weights,
            origin,
            only=layers,
            on_mismatch=on_mismatch,
            private=private,
            lenient=bool(self._options["lenient"]) if lenient is None else lenient,
        )

    def copy_from(self, path: str | os.PathLike[str]) -> loading.LoadReport:
        """:meth:`load_weights` of a file, by pycaffe's name."""
        return self.load_weights(path)

    def save(self, path: str | os.PathLike[str], *, diffs: bool = False) -> None:
        """Writes the weights (with ``diffs`` their gradients too); the suffix says the format."""
        save_weights(self.to_weights(diffs), path, naming=torch_naming())

    def to_weights(self, diffs: bool = False) -> Weights:
        """The net's parameters (with ``diffs`` their gradients too) as arrays on the CPU."""
        return loading.collect(self.layers, self.name, diffs)

    def share_weights(self, other: Net) -> list[str]:
        """Uses the parameters of ``other`` wherever layer names agree.

        Returns:
            Names of the layers of ``other`` that this net does not have.
        """
        return loading.share(self.layers, other._modules_by_layer())

    def _modules_by_layer(self) -> dict[str, Any]:
        return {b.name: b.module for b in reversed(self.layers) if b.module is not None}

    def close(self) -> None:
        """Stops the data layers' threads and closes their files."""
        for built in self.layers:
            if built.source is not None:
                built.source.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return pickling.reduce(self, self._options)

    def __setstate__(self, state: dict[str, Any]) -> None:
        pickling.take_values(self, state)

    def __repr__(self) -> str:
        return description.describe(self)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(nn.Module)})
