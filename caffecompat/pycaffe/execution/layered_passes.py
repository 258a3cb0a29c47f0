"""Forward and backward passes over some layers of a net, with the blobs of Caffe's nets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from caffecompat.errors import CaffeError
from caffecompat.layers.python import Python
from caffecompat.net import Result
from caffecompat.net.backward_needs import backward_needs
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.net.execution.stepper import LayeredNet
from caffecompat.net.module import LayerModule
from caffecompat.net.shapes.top_shapes import infer_shapes
from caffecompat.pycaffe.blob import Blob
from caffecompat.pycaffe.execution.blob_memory import Memory, Views
from caffecompat.pycaffe.execution.layer_step import (
    Origin,
    Step,
    memory_name,
    origins,
)
from caffecompat.pycaffe.execution.local_passes import LocalPasses
from caffecompat.pycaffe.execution.python_calls import PythonCalls


@dataclass
class Callbacks:
    """Functions that get the index of a layer, before and after its passes."""

    before_forward: list[Callable[[int], None]] = field(default_factory=list)
    after_forward: list[Callable[[int], None]] = field(default_factory=list)
    before_backward: list[Callable[[int], None]] = field(default_factory=list)
    after_backward: list[Callable[[int], None]] = field(default_factory=list)


class LayeredPasses:
    """Runs the layers of a net one by one over blobs with one memory per name.

    Each layer works on what the blobs hold when it runs, so that passes may start and end anywhere
    and scripts may write into any blob between them. As in Caffe, an in-place layer replaces the
    data of its bottom, the backward pass of each layer replaces the gradients of its bottoms and
    adds to those of its parameters, and only layers that a loss depends on run backward (all, with
    ``force_backward``).

    Layers record their autograd graphs during the forward pass in the phase TRAIN, and in nets that
    have run backward before. Otherwise the forward pass runs without graphs, which is faster, and
    the first backward pass runs the layers again on the data of their bottoms.

    Args:
        net: what runs the layers of a net, see :attr:`caffecompat.Net.passes`.
        data, diffs: the memory of its blobs by name.
        views: those of the net.
    """

    def __init__(
        self, net: LayeredNet, data: dict[str, Memory], diffs: dict[str, Memory], views: Views
    ) -> None:
        self._net = net
        self._data = data
        self._diffs = diffs
        self._views = views
        self._needs = backward_needs(net.layers, net.graph.force_backward)
        self._steps = [
            self._step(built, found) for built, found in zip(net.layers, origins(net), strict=True)
        ]
        recording = net.graph.phase == "TRAIN"
        self._local = LocalPasses(self._steps, self._needs.bottoms, recording)
        self._plain = [self._plain_parts(i) for i in range(len(self._steps))]
        self._passes = 0
        # The batch that each source reads next, and how many of them passes of a script have taken.
        self._read = [0] * len(self._steps)
        self._taken = [0] * len(self._steps)
        self.callbacks = Callbacks()
        self._fill_constants()

    def _step(self, built: BuiltLayer, found: list[Origin | None]) -> Step:
        bottoms = [bottom.blob for bottom in built.bottoms]
        tops = [memory_name(top, self._data) for top in built.tops]
        source = built.source
        user = None
        if isinstance(built.layer, Python):
            user = PythonCalls(built.layer, self._blobs(bottoms), self._blobs(tops))
        return Step(
            built,
            [self._data[name] for name in bottoms],
            [self._data[name] for name in tops],
            [self._diffs[memory_name(bottom, self._diffs)] for bottom in built.bottoms],
            [self._diffs[memory_name(top, self._diffs)] for top in built.tops],
            frozenset() if source is None else frozenset(source.constant_tops),
            built.changes_buffers or (built.layer is not None and built.layer.keeps_state),
            found,
            user,
        )

    def _blobs(self, names: Iterable[str]) -> list[Blob]:
        return [Blob(f"blob {name!r}", self._data[name], self._diffs[name]) for name in names]

    def _fill_constants(self) -> None:
        for step in self._steps:
            if step.constant and step.built.source is not None:
                values = self._net.read_source(step.built, 0)
                for i in step.constant:
                    step.tops[i].put(values[i].detach().clone())

    # Forward

    def forward(self, start: int, end: int) -> None:
        """Runs layers ``start`` to ``end``."""
        self._begin(self._passes)
        before = list(self._read)
        try:
            self._run(start, end)
        finally:
            read = zip(self._taken, self._read, before, strict=True)
            self._taken = [taken + now - then for taken, now, then in read]

    def run(self, index: int) -> Result:
        """A whole pass with number ``index``; ``backward()`` of it runs the layers backward.

        Its data follow those of the passes that a script has made by :meth:`forward`.
        It is the :attr:`caffecompat.net.Net.runner` of the nets of a solver.
        """
        self._read = [max(0, index + taken) for taken in self._taken]
        self._begin(index)
        last = len(self._steps) - 1
        self._run(0, last)
        outputs = {name: self._data[name].tensor() for name in self._net.graph.outputs}
        backward = partial(self.backward, last, 0, keep=False)
        return Result(outputs, self.loss(0, last), backward)

    def put_off(self, passes: int) -> None:
        """The data of ``passes`` passes that :meth:`run` will not make are for those after them."""
        self._taken = [taken - passes for taken in self._taken]

    def _begin(self, index: int) -> None:
        self._passes = index + 1
        self._net.position.fill_(index)
        self._views.send()

    def _run(self, start: int, end: int) -> None:
        called = self.callbacks.before_forward or self.callbacks.after_forward
        try:
            if called:
                with torch.no_grad():
                    self._run_with_calls(start, end)
            elif self._local.recording:
                # Once for all layers: what they make goes into blobs without its graph.
                with torch.enable_grad():
                    for i in range(start, end + 1):
                        self._forward_layer(i, self._steps[i])
            else:
                with torch.no_grad():
                    self._run_plainly(start, end)
        finally:
            self._local.forget_after(end)
            self._views.show()

    def _run_with_calls(self, start: int, end: int) -> None:
        for i in range(start, end + 1):
            self._call(self.callbacks.before_forward, i)
            self._forward_layer(i, self._steps[i])
            self._call(self.callbacks.after_forward, i)

    def _run_plainly(self, start: int, end: int) -> None:
        """Runs layers without graphs and calls, as fast as the net's compiled program."""
        self._local.run_without_graphs(start, end)
        for i in range(start, end + 1):
            plain = self._plain[i]
            if plain is None:
                self._forward_layer(i, self._steps[i])
                continue
            module, bottoms, top = plain
            values = [memory.tensor() for memory in bottoms]
            try:
                top.put(module(*values))
            except CaffeError:
                raise
            except RuntimeError as error:
                raise self._steps[i].failure(values, error) from error

    def _plain_parts(self, i: int) -> tuple[LayerModule, list[Memory], Memory] | None:
        """The parts of a layer that needs nothing but its module; None for others."""
        step = self._steps[i]
        module = step.built.module
        special = step.user is not None or step.records or self._local.keeps_bottoms(i)
        if module is None or special or len(step.tops) != 1:
            return None
        return module, step.bottoms, step.tops[0]

    def _call(self, functions: Sequence[Callable[[int], None]], layer: int) -> None:
        if functions:
            for function in functions:
                function(layer)
            self._views.send()

    def _forward_layer(self, i: int, step: Step) -> None:
        built = step.built
        if step.user is not None:
            for top in step.tops if step.overwrites else ():
                # What an earlier layer has computed stays with its graph.
                top.put(top.tensor().clone())
            with torch.no_grad():
                step.user.forward()
            self._views.send()
        elif built.module is not None:
            tops = self._local.forward(i, built.module, self._needs.layers[i])
            if isinstance(tops, torch.Tensor):
                step.tops[0].put(tops)
            else:
                for top, value in zip(step.tops, tops or (), strict=False):
                    top.put(value)
        elif built.source is None:
            for top in step.tops:
                if top is not step.bottoms[0]:
                    top.put(step.bottoms[0].tensor())
        elif not built.source.is_input:
            values = self._net.read_source(built, self._read[i])
            self._read[i] += 1
            for j, (top, value) in enumerate(zip(step.tops, values, strict=True)):
                if j not in step.constant:
                    top.put(value.detach())

    def loss(self, start: int, end: int) -> torch.Tensor:
        """The total weighted loss of the tops of layers ``start`` to ``end``, 0-axis."""
        total: torch.Tensor | None = None
        for step in self._steps[start : end + 1]:
            for top, weight in zip(step.tops, step.built.loss_weights, strict=True):
                if weight:
                    value = top.tensor()
                    value = value.sum() if value.dim() else value
                    part = value if weight == 1 else weight * value
                    # A sum that begins with 0, so that a loss of 0 has no sign.
                    total = part + (0.0 if total is None else total)
        return torch.zeros((), device=self._net.position.device) if total is None else total

    # Backward

    def backward(self, start: int, end: int, keep: bool = True) -> None:
        """Runs layers ``start`` down to ``end`` backward.

        Args:
            keep: whether another backward pass over these layers may follow.
        """
        self._local.recording = True
        self._views.send()
        called = self.callbacks.before_backward or self.callbacks.after_backward
        layers = range(start, end - 1, -1)
        try:
            if called:
                self._backward_with_calls(layers, keep)
                return
            with torch.no_grad():
                for i in layers:
                    if self._needs.layers[i]:
                        self._backward_layer(i, self._steps[i], keep)
        finally:
            self._views.show()

    def _backward_with_calls(self, layers: Iterable[int], keep: bool) -> None:
        for i in layers:
            self._call(self.callbacks.before_backward, i)
            if self._needs.layers[i]:
                with torch.no_grad():
                    self._backward_layer(i, self._steps[i], keep)
            self._call(self.callbacks.after_backward, i)

    def _backward_layer(self, i: int, step: Step, keep: bool) -> None:
        built, wanted = step.built, self._needs.bottoms[i]
        _fit(step.top_diffs, step.tops)
        given = [diff.tensor() for diff in step.top_diffs]
        if step.user is not None:
            _fit(step.bottom_diffs, step.bottoms)
            step.user.backward(wanted)
            self._views.send()
        elif built.module is not None:
            found = self._local.backward(i, built.module, given, keep)
            if True in wanted:
                self._put_gradients(step, wanted, found, given)
        elif built.source is None and wanted[0]:
            total = given[0].clone() if len(given) == 1 else torch.stack(given).sum(0)
            _fit(step.bottom_diffs, step.bottoms)
            step.bottom_diffs[0].put(total)

    def _put_gradients(
        self,
        step: Step,
        wanted: Sequence[bool],
        found: Sequence[torch.Tensor | None],
        given: Sequence[torch.Tensor],
    ) -> None:
        """Makes ``found`` the gradients of the bottoms; ``given`` are those of the tops."""
        used = {diff.untyped_storage().data_ptr() for diff in given}
        for j, (gradient, want) in enumerate(zip(found, wanted, strict=True)):
            if want:
                data, diff = step.bottoms[j], step.bottom_diffs[j]
                _fit([diff], [data])
                diff.put(_own(gradient, data, used))

    # Shapes

    def reshape(self) -> None:
        """Gives all blobs the shapes that follow from those of the inputs.

        Raises:
            LayerError: a layer cannot work on these shapes.
        """
        for step in self._steps:
            built = step.built
            if step.user is not None:
                step.user.reshape()
                continue
            if built.source is not None:
                continue
            shapes = [memory.shape for memory in step.bottoms]
            if built.layer is None:
                shapes = shapes * len(step.tops)
            else:
                module = LayerModule(built.layer)
                shapes = infer_shapes(module, built.node, shapes, len(step.tops))
            for memory, shape in zip(step.tops, shapes, strict=True):
                memory.resize(shape)
            _fit(step.top_diffs, step.tops)
        self._views.show()


def _fit(diffs: Sequence[Memory], data: Sequence[Memory]) -> None:
    """Gives gradients of blobs the present shapes of their data."""
    for diff, memory in zip(diffs, data, strict=True):
        if not diff.fits(memory):
            diff.resize(memory.shape)


def _own(gradient: torch.Tensor | None, data: Memory, used: set[int]) -> torch.Tensor:
    """``gradient`` in memory of its own, or zeros; ``used`` are the addresses of other memory."""
    if gradient is None:
        return torch.zeros_like(data.tensor())
    address = gradient.untyped_storage().data_ptr()
    if address in used:
        return gradient.clone()
    used.add(address)
    return gradient
