"""Update rules and the update around them, beyond the recorded trajectories."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from caffecompat.errors import SolverError, UnknownName
from caffecompat.net import Learnable
from caffecompat.proto.text.parser import parse_text
from caffecompat.solver.optim.optimizer import Optimizer
from caffecompat.solver.optim.rules import UpdateRule, register, rules
from caffecompat.solver.setup.settings import read_settings
from caffecompat.weights import SolverState

SHAPES = [(3, 5), (5,), (2, 1, 4), ()]


def make(
    text: str, lr_mults: Sequence[float] = (1, 2, 1, 0)
) -> tuple[Optimizer, list[nn.Parameter]]:
    """An update over parameters of all different shapes; the last two share no multiplier."""
    message, _ = parse_text('lr_policy: "fixed" base_lr: 0.5 ' + text, "SolverParameter")
    generator = torch.Generator().manual_seed(3)
    values = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    entries = [
        Learnable(f"layer{i}", i, value, lr_mult, decay_mult)
        for i, (value, lr_mult, decay_mult) in enumerate(
            zip(values, lr_mults, (1, 0, 1, 3), strict=True)
        )
    ]
    settings = read_settings(message)
    return Optimizer(entries, settings.rule, settings.message, "s.prototxt"), values


def set_gradients(values: list[nn.Parameter]) -> list[Tensor]:
    for i, value in enumerate(values):
        value.grad = torch.linspace(-1, 1 + i, value.numel()).reshape(value.shape)
    return [value.grad.clone() for value in values if value.grad is not None]


def copies(values: Sequence[Tensor]) -> list[Tensor]:
    return [value.detach().clone() for value in values]


def test_sgd_in_words() -> None:
    update, values = make("momentum: 0.9 weight_decay: 0.1")
    before, gradients = copies(values), set_gradients(values)
    update.apply(np.float32(0.5), 0)
    for i, (lr_mult, decay_mult) in enumerate(zip((1, 2, 1, 0), (1, 0, 1, 3), strict=True)):
        expected = 0.5 * lr_mult * (gradients[i] + 0.1 * decay_mult * before[i])
        torch.testing.assert_close(update.history[i], expected)
        torch.testing.assert_close(values[i].detach(), before[i] - expected)


def test_clipping_sees_the_sum_of_the_passes() -> None:
    """The norm is taken before the division by iter_size and before the decay."""
    update, values = make("clip_gradients: 0.5 iter_size: 4")
    before, gradients = copies(values), set_gradients(values)
    norm = update.apply(np.float32(1), 0)
    expected = torch.sqrt(sum((g**2).sum() for g in gradients[1:]) + (gradients[0] ** 2).sum())
    assert norm is not None
    torch.testing.assert_close(norm, expected)
    step = gradients[0] * (0.5 / expected) / 4
    torch.testing.assert_close(values[0].detach(), before[0] - step)


def test_clip_gradients_0_leaves_only_decay() -> None:
    update, values = make("clip_gradients: 0 weight_decay: 0.1")
    before = copies(values)
    set_gradients(values)
    update.apply(np.float32(1), 0)
    torch.testing.assert_close(values[0].detach(), before[0] * 0.9)


def test_l1_has_no_slope_at_zero() -> None:
    update, values = make('weight_decay: 0.1 regularization_type: "L1"')
    with torch.no_grad():
        values[0][0, :3] = torch.tensor([0.0, 2.0, -3.0])
    update.apply(np.float32(1), 0)
    torch.testing.assert_close(values[0][0, :3].detach(), torch.tensor([0.0, 1.9, -2.9]))


def test_parameters_without_gradient_still_decay() -> None:
    """Their second moments are not zero either, even where the rate is."""
    update, values = make('type: "Adam" weight_decay: 0.1 momentum: 0.9', lr_mults=(1, 1, 1, 0))
    before = copies(values)
    update.clear()
    update.apply(np.float32(0.1), 0)
    torch.testing.assert_close(values[3].detach(), before[3])
    assert update.history[7] > 0
    assert not torch.equal(values[0], before[0])
    update.clear()
    first = update.history[7].clone()
    update.apply(np.float32(0.1), 1)
    expected = 0.999 * first + 0.001 * (0.3 * before[3]) ** 2
    torch.testing.assert_close(update.history[7], expected)


def test_snapshot_diffs_are_the_updates() -> None:
    for name in rules:
        if name.startswith("test_"):
            continue
        update, values = make(f'type: "{name}" snapshot_diff: true')
        before = copies(values)
        set_gradients(values)
        update.apply(np.float32(0.25), 0)
        update.show_updates()
        for value, old in zip(values, before, strict=True):
            assert value.grad is not None
            torch.testing.assert_close(value.detach(), old - value.grad, msg=name)


def test_a_snapshot_diff_without_gradient_is_the_update_of_the_decay() -> None:
    more = "momentum: 0 weight_decay: 0.5 snapshot_diff: true"
    update, values = make(f'type: "SGD" {more}')
    expected = 0.125 * values[0].detach().clone()
    update.apply(np.float32(0.25), 0)
    update.show_updates()
    assert values[0].grad is not None
    torch.testing.assert_close(values[0].grad, expected)


@pytest.mark.parametrize("rate", [0.25, 3e-7, 0.0])
@pytest.mark.parametrize("last", [(), (1,)])
def test_at_once_is_one_by_one(
    rate: float, last: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fused operation gives what the formula gives, for channels innermost, too."""
    shape = (4, 3, 2, 5)
    results = []
    for fused in (True, False):
        if not fused:
            monkeypatch.setattr(rules.find("SGD", "s"), "update_at_once", lambda *_: None)
        message, _ = parse_text(
            'lr_policy: "fixed" momentum: 0.9 weight_decay: 0.1', "SolverParameter"
        )
        generator = torch.Generator().manual_seed(3)
        draws = [torch.randn(shape, generator=generator) for _ in range(4)]
        form = torch.channels_last if last else torch.contiguous_format
        value = nn.Parameter(draws[0].contiguous(memory_format=form))
        update = Optimizer(
            [Learnable("l", 0, value, 2.0, 1.0)], read_settings(message).rule, message, "s"
        )
        for i, gradient in enumerate(draws[1:]):
            # The last one lies otherwise than its value.
            value.grad = gradient.clone(memory_format=form if i < 2 else torch.contiguous_format)
            update.apply(np.float32(rate), i)
        results.append([value.detach(), update.history[0]])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_update_is_multi_tensor() -> None:
    """The number of operations depends on the multipliers there are, not on the parameters."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counter(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            self.count += 1
            return function(*args, **(kwargs or {}))

    def operations(repeats: int) -> int:
        message, _ = parse_text(
            'lr_policy: "fixed" momentum: 0.9 weight_decay: 0.1 clip_gradients: 1 iter_size: 2',
            "SolverParameter",
        )
        values = [nn.Parameter(torch.ones(i + 1)) for i in range(repeats)]
        entries = [Learnable("l", i, value, 1.0, 1.0) for i, value in enumerate(values)]
        set_gradients(values)
        update = Optimizer(entries, read_settings(message).rule, message, "s")
        with Counter() as counter:
            update.apply(np.float32(1), 0)
        return counter.count

    assert operations(2) == operations(17)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('type: "AdaGrad" momentum: 0.9', "solver type AdaGrad: momentum is 0.9"),
        ('type: "RMSProp" momentum: 0.9', "solver type RMSProp: momentum is 0.9"),
        ('type: "RMSProp" rms_decay: 1', "rms_decay is 1, it must be at least 0 and below 1"),
        ('type: "Adan"', "unknown solver type 'Adan' in solver; did you mean 'Adam'"),
        ('regularization_type: "L3"', "unknown regularization_type 'L3' in solver; known: L1, L2"),
    ],
)
def test_impossible_rules(text: str, sentence: str) -> None:
    with pytest.raises((SolverError, UnknownName), match=sentence):
        make(text)


def test_a_state_that_does_not_fit_changes_nothing() -> None:
    update, _ = make("momentum: 0.9")
    ones = [np.ones(shape, np.float32) for shape in SHAPES]
    with pytest.raises(SolverError, match=r"x: has 3 history arrays, this solver \(SGD, 4 param"):
        update.check(SolverState(1, "", ones[:3]), "x")
    ones[2] = np.ones((2, 4, 1), np.float32)
    with pytest.raises(SolverError, match=r"history array 2 is 2x4x1, parameter 2 of .* is 2x1x4"):
        update.check(SolverState(1, "", ones), "x")
    assert all((array == 0).all() for array in update.history)


def test_a_rule_can_be_added() -> None:
    @register("test_sign")
    class SignDescent(UpdateRule):
        def updates(
            self, gradients: list[Tensor], history: Sequence[list[Tensor]], rate: Tensor
        ) -> list[Tensor]:
            return [rate * gradient.sign() for gradient in gradients]

    update, values = make('type: "test_sign"')
    before = copies(values)
    set_gradients(values)
    update.apply(np.float32(0.5), 0)
    assert set((before[0] - values[0]).flatten().tolist()) <= {-0.5, 0.0, 0.5}


def test_single_pixel_kernels_in_any_layout_are_updated_at_once() -> None:
    kernel = torch.arange(12.0).reshape(4, 3, 1, 1)
    channels_last = torch.empty_strided((4, 3, 1, 1), (3, 1, 3, 3)).copy_(kernel)
    gradient = torch.linspace(-1, 1, 12).reshape(4, 3, 1, 1)
    assert channels_last.stride() != gradient.stride()
    text = 'lr_policy: "fixed" base_lr: 0.5 momentum: 0.9'
    rule = read_settings(parse_text(text, "SolverParameter")[0]).rule
    history = [torch.zeros_like(gradient)]
    done = rule.update_at_once([channels_last], [gradient], [history], 0.5, 0.0)
    assert done is not None
    torch.testing.assert_close(channels_last, kernel - 0.5 * gradient)
    wide = torch.zeros(4, 3, 2, 2).to(memory_format=torch.channels_last)
    assert rule.update_at_once([wide], [torch.zeros(4, 3, 2, 2)], [history], 0.5, 0.0) is None
