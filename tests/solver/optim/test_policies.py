"""Learning-rate policies beyond the recorded trajectories."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from caffecompat.errors import SolverError, UnknownName
from caffecompat.proto import schema
from caffecompat.proto.text.parser import parse_text
from caffecompat.solver.optim.policies import Policy, policies, register
from caffecompat.solver.setup.settings import read_settings


def make(text: str) -> Policy:
    message, _ = parse_text(text, "SolverParameter")
    return policies.find(message.lr_policy)(message, "s.prototxt")


def rates(policy: Policy, iterations: Any) -> list[float]:
    return [float(policy.rate(i)) for i in iterations]


def test_fixed() -> None:
    assert rates(make('lr_policy: "fixed" base_lr: 0.25'), [0, 7, 10**8]) == [0.25] * 3


def test_step_drops_by_whole_steps() -> None:
    policy = make('lr_policy: "step" base_lr: 1 gamma: 0.5 stepsize: 3')
    assert rates(policy, range(7)) == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]
    assert policy.step == 2


def test_multistep_takes_one_step_per_iteration() -> None:
    policy = make('lr_policy: "multistep" base_lr: 1 gamma: 0.5 stepvalue: [0, 2, 2]')
    assert rates(policy, range(5)) == [0.5, 0.5, 0.25, 0.125, 0.125]
    assert policy.step == 3


def test_multistep_resumes_from_its_counter() -> None:
    policy = make('lr_policy: "multistep" base_lr: 1 gamma: 0.5 stepvalue: [2, 4]')
    policy.step = 1
    assert rates(policy, [3, 4]) == [0.5, 0.25]


def test_breakpoints_of_2013_are_steps(tmp_path: Any) -> None:
    path = tmp_path / "s.prototxt"
    path.write_text('train_net: "n" base_lr: 1 breakpoint: 2 breakpoint: 5')
    policy = read_settings(path).policy
    np.testing.assert_allclose(rates(policy, range(7)), [1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])


def test_exp() -> None:
    assert rates(make('lr_policy: "exp" base_lr: 2 gamma: 0.5'), [0, 1, 5]) == [2, 1, 0.0625]


def test_inv() -> None:
    policy = make('lr_policy: "inv" base_lr: 3 gamma: 1 power: 2')
    np.testing.assert_allclose(rates(policy, [0, 1, 2]), [3, 3 / 4, 3 / 9], rtol=1e-7)


def test_poly_ends_at_zero() -> None:
    policy = make('lr_policy: "poly" base_lr: 2 power: 1 max_iter: 4')
    assert rates(policy, range(5)) == [2, 1.5, 1, 0.5, 0]


def test_sigmoid_grows() -> None:
    policy = make('lr_policy: "sigmoid" base_lr: 2 gamma: 0.7 stepsize: 5')
    values = rates(policy, [0, 5, 10**6])
    assert values[0] < values[1] == 1.0 < values[2] == 2.0


def test_rates_are_float32() -> None:
    for name in policies:
        fields = "base_lr: 0.3 gamma: 0.7 power: 0.3 stepsize: 2 stepvalue: 1 max_iter: 9"
        fields += " plateau_winsize: 3"
        if name.startswith("multifixed"):
            fields += " stagelr: 0.3 stagelr: 0.1 stageiter: 4 stageiter: 9"
        assert isinstance(make(f'lr_policy: "{name}" {fields}').rate(3), np.float32), name


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('"step" gamma: 0.1', 's.prototxt: lr_policy "step": stepsize is 0, it must be positive'),
        ('"step" stepsize: 2 gamma: -1', "gamma is -1, it must not be negative"),
        ('"exp" gamma: -1', "gamma is -1"),
        ('"inv" gamma: -1', "gamma is -1"),
        ('"multistep" gamma: -1', "gamma is -1"),
        ('"sigmoid" gamma: 1', "stepsize is 0"),
        ('"sigmoid" gamma: -1 stepsize: 1', "gamma is -1"),
        ('"poly"', "max_iter is 0, it must be positive"),
        ('"plateau"', "plateau_winsize is missing; give it in iterations"),
        ('"plateau" plateau_winsize: [3, 0]', "plateau_winsize is 0, it must be positive"),
        ('"plateau" plateau_winsize: 3 gamma: -1', "gamma is -1"),
        ('"plateau" plateau_winsize: 3 plateau_drops: -1', "plateau_drops is -1, it must not"),
    ],
)
def test_impossible_constants(text: str, sentence: str) -> None:
    with pytest.raises(SolverError, match=sentence):
        make(f"lr_policy: {text}")


@pytest.mark.parametrize(("name", "hint"), [("setp", "did you mean 'step'"), ("", "known: exp")])
def test_unknown_policy(name: str, hint: str, tmp_path: Any) -> None:
    path = tmp_path / "s.prototxt"
    path.write_text(f'net: "n" base_lr: 1 lr_policy: "{name}"')
    with pytest.raises(UnknownName, match=f"unknown lr_policy '{name}' in .*s.prototxt; {hint}"):
        read_settings(path)


def test_a_policy_can_be_added() -> None:
    @register("test_halving")
    class Halving(Policy):
        def rate(self, iteration: int) -> np.float32:
            return self.base_lr / np.float32(2**iteration)

    message = schema.new("SolverParameter")
    message.base_lr = 1
    message.lr_policy = "test_halving"
    assert read_settings(message).policy.rate(3) == 0.125
