"""The forward and backward passes of a net."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from caffecompat.errors import CaffeError, NetError
from caffecompat.graph import Graph, Version
from caffecompat.layers._transforms import is_transformed
from caffecompat.net.blobs.blob import BackwardRoots, Blob, NamedMapping
from caffecompat.net.blobs.inputs import Array, Inputs
from caffecompat.net.blobs.values import BlobValues, Result
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.net.execution import partial
from caffecompat.net.execution.error_context import explain_failure
from caffecompat.net.execution.gpu.cudnn import algorithms_explained
from caffecompat.net.fx_program import Program
from caffecompat.net.input_gradients import inputs_with_gradient

# What is_transformed() asks; the import in that takes longer than the answer.
_is_transformed = torch._C._are_functorch_transforms_active


class Passes:
    """Runs a net's programs; see :meth:`caffecompat.Net.forward` and ``backward``.

    It is all that a :class:`caffecompat.net.execution.stepper.Stepper` needs to run layers.
    Nothing here refers to the net, so that a net that is dropped is gone at once.

    Args:
        graph, layers: the net's graph and layers.
        position: 0-axis int64 tensor, the index of the running pass.
        device: the initial device of the inputs.

    Attributes:
        inputs: the values of the source tops.
        values: the values of all blobs after the last pass.
        loss: the total weighted loss of the last pass; None before the first, or without a loss.
        optimized: what runs instead of the lean program, without gradients; None for nothing.
        gradient_inputs: the source tops that get gradients.
    """

    def __init__(
        self, graph: Graph, layers: list[BuiltLayer], position: torch.Tensor, device: torch.device
    ) -> None:
        self.graph = graph
        self.layers = layers
        self.position, self._position_memory = position, _memory_of(position)
        self._programs: dict[bool, Program] = {}
        self._next = 0
        self._went_backward = False
        self._outputs: list[Version] | None = None
        self.loss: torch.Tensor | None = None
        self.optimized: Any = None
        self.gradient_inputs = inputs_with_gradient(layers, graph.force_backward)
        self.inputs = Inputs(layers, device)
        self.values = BlobValues(layers, self.inputs, position.device)

    def apply(self, change: Callable[[torch.Tensor], torch.Tensor], position: torch.Tensor) -> None:
        """Moves or casts the inputs, as torch does with a module; ``position`` is the moved one."""
        self.inputs.apply(change)
        self.position, self._position_memory = position, _memory_of(position)
        self.values.device = position.device

    def use_half_inputs(self, stored: Mapping[Version, int]) -> None:
        """Lets pixels become 16-bit numbers at once, where torch casts to them (autocast).

        Args:
            stored: the source tops that a convolution alone reads, and the channels with which it
                takes them best. Those that get a gradient are left out.
        """
        wanted = self.gradient_inputs
        self.inputs.stored = {top: n for top, n in stored.items() if top not in wanted}

    def read_source(self, built: BuiltLayer, index: int) -> tuple[torch.Tensor, ...]:
        """The tops of one source for pass ``index``."""
        return self.inputs.read(built, index)

    @property
    def blobs(self) -> Mapping[str, Blob]:
        """All blobs by name, in order of creation."""
        last = self.values.last
        return NamedMapping(
            "blob", list(last), lambda name: Blob(self.values, name, Version(name, 0), last[name])
        )

    def outputs(self) -> list[Version]:
        """The blobs that no layer reads, sorted by name."""
        if self._outputs is None:
            self._outputs = [self.values.last[name] for name in self.graph.outputs]
        return self._outputs

    def program(self, observed: bool) -> Program:
        """The program that returns the net outputs, or, observed, every blob."""
        if observed not in self._programs:
            self._programs[observed] = Program(self.layers, None if observed else self.outputs())
        return self._programs[observed]

    def run(self, index: int, feeds: list[torch.Tensor], observed: bool) -> Result:
        """One pass over ``feeds``, the values of the program's ``feeds`` in their order."""
        outputs = self._pass(index, feeds, observed)
        loss = self.loss
        total = torch.zeros((), device=self.position.device) if loss is None else loss
        return Result(outputs, total)

    def _pass(
        self, index: int, feeds: list[torch.Tensor], observed: bool
    ) -> dict[str, torch.Tensor]:
        """One pass; the outputs by name."""
        self._set_position(index)
        self.values.forget()
        self._went_backward = False
        program = self.program(observed) if observed or not self.optimized else self.optimized
        # Within a transform the gradients are what that computes; blobs have none there.
        stores_gradients = not is_transformed()
        feeds = [
            value.detach().requires_grad_()
            if stores_gradients and top in self.gradient_inputs and not value.requires_grad
            else value
            for top, value in zip(program.feeds, feeds, strict=True)
        ]
        try:
            with algorithms_explained():
                values, loss = program(feeds)
        except CaffeError:
            raise
        except RuntimeError as error:
            raise explain_failure(self.layers, program.feeds, feeds, error) from error
        kept = {**dict(zip(program.feeds, feeds, strict=True)), **values}
        self.values.keep(kept)
        if observed and stores_gradients:
            for value in kept.values():
                if value.requires_grad and not value.is_leaf:
                    value.retain_grad()
        self.loss = loss
        return {version.blob: values[version] for version in self.outputs()}

    def optimized_forward(self, given: Mapping[str, Array]) -> dict[str, Any] | None:
        """A whole optimized pass over values for all inputs.

        It does what :meth:`forward` does, and as little besides as it can: between passes of other
        programs each object that it meets comes from memory.

        Returns:
            See :meth:`caffecompat.Net.forward`; None if the values need more than to be passed on.
        """
        if self.gradient_inputs or _is_transformed():
            return None
        feeds = self.inputs.all_given(given)
        if feeds is None:
            return None
        program = self.optimized
        self._set_position(self._next)
        self.values.forget()
        self._went_backward = False
        try:
            values, self.loss = program(feeds)
        except CaffeError:
            raise
        except RuntimeError as error:
            raise explain_failure(self.layers, program.feeds, feeds, error) from error
        self.values.keep_parts(program.feeds, feeds, values)
        self._next += 1
        outputs = {version.blob: values[version] for version in self.outputs()}
        return partial.forward_result(outputs, given.values())

    def _set_position(self, index: int) -> None:
        if self._position_memory is None:
            self.position.fill_(index)
        else:
            # A call of torch or numpy takes near a hundredth of the shortest passes.
            self._position_memory[()] = index

    def release(self) -> None:
        """Releases the values of the last pass, and with them its autograd graph."""
        self.values.forget()
        self.loss = None

    def keep(self, values: Mapping[Version, torch.Tensor], loss: torch.Tensor) -> None:
        """Stores what a pass that ran elsewhere has computed, without gradients."""
        self.values.forget()
        self.values.keep(values)
        self.loss = loss
        self._went_backward = False

    def forward(
        self,
        tensors: Sequence[Array],
        names: Sequence[str],
        request: partial.ForwardRequest,
        named: Any,
    ) -> Any:
        """See :meth:`caffecompat.Net.forward`; ``names`` are those of its Input layers' tops."""
        given = self.inputs.in_order(tensors, names) | request.inputs() | named
        with self._kept() if is_transformed() else nullcontext():
            return self._forward(request.without_inputs(), given, bool(tensors))

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """A context whose passes change neither blobs nor inputs.

        The values of a pass within a transform are of no use after it, and torch refuses them.
        """
        loss, went_backward = self.loss, self._went_backward
        try:
            with self.inputs.kept(), self.values.kept():
                yield
        finally:
            self.loss, self._went_backward = loss, went_backward

    def _forward(
        self, part: partial.ForwardRequest, given: Mapping[str, Array], by_position: bool
    ) -> Any:
        extra = [self.blobs[name] for name in part.blobs]
        index = self._next
        if part.is_whole:
            optimized = None if is_transformed() else self.optimized
            kept = {} if optimized is None else {v.blob for v in optimized.versions}
            observed = optimized is None or any(blob.name not in kept for blob in extra)
            outputs = self._pass(index, self.inputs.feeds(index, given), observed)
        else:
            outputs = self._run_between(part.start, part.end, index, given)
        self._next += 1
        values = {**outputs, **{blob.name: blob.tensor for blob in extra}}
        result = partial.forward_result(values, given.values())
        return next(iter(result.values())) if by_position and len(result) == 1 else result

    def _run_between(
        self, start: Any, end: Any, index: int, inputs: Mapping[str, Array]
    ) -> dict[str, torch.Tensor]:
        layers = self.layers
        first = 0 if start is None else partial.layer_index(layers, start)
        last = len(layers) - 1 if end is None else partial.layer_index(layers, end)
        given = self.inputs.give(inputs)
        which = range(first, last + 1)
        made = partial.run_between(self, which, index, given, self.values.of)
        self.values.replace(made)
        self.loss = None
        wanted = self.outputs() if end is None else layers[last].tops
        return {version.blob: self.values.of(version) for version in wanted}

    def backward(self, start: Any, diffs: Mapping[str, Array]) -> None:
        """See :meth:`caffecompat.Net.backward`."""
        roots = BackwardRoots()
        if start is None and self.loss is not None:
            roots.add(self.loss, None)
        tops = self.graph.outputs if start is None else partial.tops_of(self.layers, start)
        written = {name: self.values.written_diff(name) for name in tops}
        for name, diff in {**written, **diffs}.items():
            if diff is not None:
                roots.add_blob(name, self.blobs[name].tensor, self.inputs.tensor(diff))
        if not roots and not self.graph.force_backward:
            raise NetError(
                "nothing to run backward from: call forward() first, in a net with a loss (or pass "
                "gradients of its outputs) and with something to learn (or force_backward: true)"
            )
        if self._went_backward:
            raise NetError("backward() has run for this pass already; call forward() first")
        with algorithms_explained():
            roots.run()
        self._went_backward = True


def _memory_of(position: torch.Tensor) -> memoryview | None:
    """The memory of a tensor on the CPU."""
    return position.detach().numpy().data if position.is_cpu else None
