"""The base class of RNN and LSTM: sequences and the state between passes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, ClassVar

from caffecompat.layers._base import ALONG_BATCH, Layer, Message, Shape, between, format_shape
from caffecompat.layers._transforms import is_transformed

if TYPE_CHECKING:
    from torch import Tensor

    State = tuple[Tensor, ...]


class Recurrent(Layer):
    """The base class of RNN and LSTM: sequences, ``cont``, and the state between passes.

    Bottoms: x (T, N, ...), T steps of N streams; ``cont`` (T, N), 0 where a sequence begins, else
    1; and optionally x_static (N, ...), an input of every step. Top: (T, N, num_output).

    The state is zero before the first pass and is kept from one pass to the next; a 0 in ``cont``
    resets it. With ``expose_hidden`` the initial state is given by further bottoms
    (1, N, num_output) and the final state by further tops. No gradient flows through the initial
    or the final state.
    """

    param_fields = ("recurrent_param",)
    bottoms = between(2, 5)
    tops = between(1, 3)
    in_place = False
    differentiable = (True, False, True, False)
    forces_gradients = True
    ignores_propagate_down = True
    batch_coupling = ALONG_BATCH

    states: ClassVar[int]

    # The mean length of sequences from which torch's operator is faster than single steps.
    min_run_length: ClassVar[int]

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.recurrent_param
        self.check(p.num_output > 0, "num_output is missing or 0, it must be positive")
        self.exposed = p.expose_hidden
        self.keeps_state = not self.exposed
        self.size = p.num_output
        further = self.states if self.exposed else 0
        self.check(
            len(bottoms) - 2 - further in (0, 1) and len(message.top) == 1 + further,
            f"it has {len(bottoms)} bottoms and {len(message.top)} tops; its bottoms are x, cont, "
            f"optionally x_static, and {further} states, and it has {1 + further} tops",
        )
        self.static = len(bottoms) == 3 + further
        self.check(
            len(bottoms[0]) > 2
            and bottoms[1] == bottoms[0][:2]
            and not (self.static and len(bottoms[2]) < 2),
            f"its bottoms are {', '.join(map(format_shape, bottoms))}; they must be x (T, N, ...), "
            "cont (T, N) and optionally x_static (N, ...)",
        )
        self.state: State | None = None
        self.declare(p, prod(bottoms[0][2:]), prod(bottoms[2][1:]) if self.static else None)

    def declare(self, p: Message, inputs: int, static: int | None) -> None:
        """Declares the parameters for ``inputs`` values of x and ``static`` of x_static per step.

        ``static`` is None without x_static.
        """
        raise NotImplementedError

    def step(self, x: Tensor, state: State, parameters: dict[str, Tensor]) -> State:
        """The state (N, num_output) after a step, the hidden values first.

        ``x`` (N, ...) is the step's input, already multiplied by its weights; ``state`` is already
        multiplied by ``cont``.
        """
        raise NotImplementedError

    def to_torch_gate_order(self, parameter: Tensor) -> Tensor:
        """``weight_x``, ``weight_h`` or ``bias`` with gates in the order of torch's operator."""
        return parameter

    def run(self, x: Tensor, state: list[Tensor], weights: list[Tensor]) -> State:
        """Several steps in torch's operator: hidden values (T, N, num_output), then the state.

        ``x`` (T, N, D), ``state`` (1, N, num_output) each; no x_static. ``weights``: of x, of the
        hidden values, and two biases.
        """
        raise NotImplementedError

    def output(self, hidden: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        """The top (T, N, num_output) from the hidden values."""
        return hidden

    def forward(
        self, x: Tensor, cont: Tensor, *others: Tensor, **parameters: Tensor
    ) -> Tensor | tuple[Tensor, ...]:
        self._check_shapes(x, cont, others)
        cont = cont.detach().unsqueeze(-1)
        state = self._first_state(x, others, parameters["weight_h"])
        starts = self._starts(x, cont)
        if len(x) < self.min_run_length * len(starts):
            static = others[0] if self.static else None
            hidden, state = self._by_steps(x, cont, static, state, parameters)
        else:
            hidden, state = self._by_sequences(x, cont, starts, state, parameters)
        y = self.output(hidden, parameters)
        last = tuple(part.detach() for part in state)
        if self.exposed:
            return (y, *(part.unsqueeze(0) for part in last))
        if not x.is_meta and not is_transformed():
            self.state = self._kept(last)
        return y

    def _starts(self, x: Tensor, cont: Tensor) -> list[int]:
        """The first step, and the steps at which ``cont`` resets the state of a stream.

        All steps on a GPU, where reading ``cont`` would wait for the device, within a transform of
        torch.func, where it cannot be read, and where torch's operator cannot be used: it has no
        x_static, and under autocast its state has 16 bits.
        """
        import torch

        if (
            x.device.type != "cpu"
            or self.static
            or torch.is_autocast_enabled("cpu")
            or torch.compiler.is_compiling()
            or is_transformed()
        ):
            return list(range(len(x)))
        dropped = (cont.float().numpy()[1:] != 1).any(axis=(1, 2))
        return [0, *(int(step) + 1 for step in dropped.nonzero()[0])]

    def _by_steps(
        self,
        x: Tensor,
        cont: Tensor,
        static: Tensor | None,
        state: State,
        parameters: dict[str, Tensor],
    ) -> tuple[Tensor, State]:
        import torch
        import torch.nn.functional as F

        inputs = F.linear(x.flatten(2), parameters["weight_x"], parameters["bias"])
        if static is not None:
            inputs = inputs + F.linear(static.flatten(1), parameters["weight_x_static"])
        hidden = []
        for at_step, cont_at_step in zip(inputs, cont, strict=True):
            state = self.step(at_step, tuple(part * cont_at_step for part in state), parameters)
            hidden.append(state[0])
        return torch.stack(hidden), state

    def _by_sequences(
        self,
        x: Tensor,
        cont: Tensor,
        starts: Sequence[int],
        state: State,
        parameters: dict[str, Tensor],
    ) -> tuple[Tensor, State]:
        import torch

        names = ("weight_x", "weight_h", "bias")
        weights = [self.to_torch_gate_order(parameters[name]) for name in names]
        weights.append(torch.zeros_like(weights[-1]))
        hidden = []
        for first, end in pairwise([*starts, len(x)]):
            first_state = [(part * cont[first]).unsqueeze(0) for part in state]
            part_of_hidden, *after = self.run(x[first:end].flatten(2), first_state, weights)
            hidden.append(part_of_hidden)
            state = tuple(part.squeeze(0) for part in after)
        return torch.cat(hidden) if len(hidden) > 1 else hidden[0], state

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        steps, streams = bottoms[0][:2]
        return streams * sum(
            prod(spec.shape) * (1 if spec.name == "weight_x_static" else steps)
            for spec in self.specs
            if len(spec.shape) == 2
        )

    def _first_state(self, x: Tensor, others: Sequence[Tensor], weight: Tensor) -> State:
        if self.exposed:
            return tuple(part.detach().squeeze(0) for part in others[self.static :])
        kept, streams = self.state, x.shape[1]
        if kept is None or len(kept[0]) < streams or kept[0].device != x.device:
            return tuple(weight.new_zeros(streams, self.size) for _ in range(self.states))
        return tuple(part[:streams].to(weight.dtype) for part in kept)

    def _kept(self, last: State) -> State:
        """The state for the next pass, of as many streams as there have been.

        Caffe keeps the memory of a blob that shrinks: fewer streams go on as the first ones, and
        the others from where they stood. A blob that grows begins with zeros.
        """
        import torch

        before = self.state
        if before is None or len(before[0]) <= len(last[0]):
            return last
        return tuple(
            torch.cat((now, part[len(now) :].to(now)))
            for now, part in zip(last, before, strict=True)
        )

    def _check_shapes(self, x: Tensor, cont: Tensor, others: Sequence[Tensor]) -> None:
        streams = x.shape[1]
        states = others[self.static :]
        self.check(
            cont.shape == x.shape[:2]
            and (not self.static or others[0].shape[0] == streams)
            and all(part.shape == (1, streams, self.size) for part in states),
            f"its bottoms are {', '.join(format_shape(b.shape) for b in (x, cont, *others))}; for "
            f"x (T, N, ...) it takes cont (T, N), x_static (N, ...), states (1, N, {self.size})",
        )

    @classmethod
    def parameter_names(cls, count: int) -> list[str]:
        names = list(cls.parameters)
        if count == len(names) - 1:
            names.remove("weight_x_static")
        return names[:count] + [f"blob{i}" for i in range(len(names), count)]

    @classmethod
    def fits_blobs(cls, shapes: Sequence[Shape]) -> bool:
        """The second one is the bias; forks' LSTMs have the weight of the hidden values there."""
        if len(shapes) not in (len(cls.parameters) - 1, len(cls.parameters)):
            return False
        weight, bias = shapes[:2]
        return len(weight) > 1 and len(bias) != 2 and prod(bias) == weight[-2]
