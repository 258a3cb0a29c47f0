"""Changes of a net's parameters are seen however somebody comes to a parameter."""

from __future__ import annotations

import copy
import gc
import sys
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from caffecompat import Net
from caffecompat.errors import NetError
from caffecompat.net.execution import parameter_changes
from caffecompat.net.execution.parameter_changes import ParameterChanges
from tests.inference.engine_nets import SHAPE, built, conv, simple

LAYERS = [
    conv("c", "data"),
    simple("BatchNorm", "b", "c", "c"),
    simple("Scale", "s", "c", "c", "scale_param { bias_term: true }"),
    conv("e", "c"),
]
VALUES = np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)


def small() -> Net:
    return built(LAYERS)


def module_of(net: Net, layer: str) -> nn.Module:
    (found,) = (b.module for b in net.layers if b.name == layer)
    assert isinstance(found, nn.Module)
    return found


def tables(net: nn.Module) -> list[dict[str, Any]]:
    return [vars(m)[name] for m in net.modules() for name in ("_parameters", "_buffers")]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One for each tensor whose place is looked at."""
    found: list[int] = []

    def place(tensor: torch.Tensor) -> int:
        found.append(1)
        return tensor.data_ptr()

    monkeypatch.setattr(parameter_changes, "_PLACE", place)
    return found


def looks_of_a_pass(net: Net, looks: list[int]) -> int:
    looks.clear()
    net.forward(data=VALUES)
    return len(looks)


def test_what_nobody_can_come_to_is_not_looked_at(looks: list[int]) -> None:
    changes = ParameterChanges(small())
    looks.clear()
    assert not changes.found()
    assert looks == []


def test_what_somebody_has_is_looked_at(looks: list[int]) -> None:
    net = small()
    mine, alias = net.params["c"][0], net.params["e"][1].detach()
    changes = ParameterChanges(net)
    looks.clear()
    assert not changes.found()
    assert len(looks) == 2
    with torch.no_grad():
        alias.add_(1)
    assert changes.found()
    changes.accept()
    assert not changes.found()
    with torch.no_grad():
        mine.mul_(2)
    assert changes.found()


def test_all_are_looked_at_when_torch_does_not_say_who_has_them(
    looks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parameter_changes, "_SHARERS", None)
    net = small()
    changes = ParameterChanges(net)
    looks.clear()
    assert not changes.found()
    assert len(looks) == sum(len(net.params[name]) for name in net.params)


def test_all_are_looked_at_where_references_are_not_counted(
    looks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    changes = ParameterChanges(small())
    looks.clear()
    assert not changes.found()
    assert looks


def by_params(net: Net) -> torch.Tensor:
    return net.params["c"][0]


def by_attribute(net: Net) -> torch.Tensor:
    return module_of(net, "e").weight  # type: ignore[return-value]


def by_buffers(net: Net) -> torch.Tensor:
    return next(one for name, one in net.named_buffers() if name != "position")


def by_state_dict(net: Net) -> torch.Tensor:
    return next(iter(net.state_dict().values()))


def by_dict(net: Net) -> torch.Tensor:
    return dict(module_of(net, "c")._parameters)["weight"]  # type: ignore[return-value]


def by_stars(net: Net) -> torch.Tensor:
    return {**module_of(net, "c")._parameters}["weight"]  # type: ignore[return-value]


def by_union(net: Net) -> torch.Tensor:
    return ({} | module_of(net, "c")._parameters)["weight"]  # type: ignore[return-value]


def by_copy(net: Net) -> torch.Tensor:
    return copy.copy(module_of(net, "c")).weight  # type: ignore[return-value]


@pytest.mark.parametrize(
    "take",
    [
        *(by_params, by_attribute, by_buffers, by_state_dict),
        *(by_dict, by_stars, by_union, by_copy),
    ],
)
def test_a_tensor_that_is_taken_later(take: Callable[[Net], torch.Tensor]) -> None:
    net = small()
    net.optimize("torch", large_pages=False)
    net.forward(data=VALUES)
    with torch.no_grad():
        take(net).add_(1)
    with pytest.raises(NetError, match="parameters have changed since optimize"):
        net.forward(data=VALUES)
    net.optimize("torch", large_pages=False)
    own = small()
    own.load_state_dict(net.state_dict())
    wanted = own.forward(data=VALUES)["e"]
    bound = 1e-5 * np.abs(wanted).max()
    np.testing.assert_allclose(net.forward(data=VALUES)["e"], wanted, rtol=0, atol=bound)


def test_what_was_taken_for_a_moment_is_looked_at_once(looks: list[int]) -> None:
    net = small()
    net.optimize("torch", large_pages=False)
    least = looks_of_a_pass(net, looks)  # at what the engine has
    net.forward(data=VALUES, blobs=["c"])  # the net's own program
    assert looks_of_a_pass(net, looks) > least
    looks_of_a_pass(net, looks)
    assert looks_of_a_pass(net, looks) == least


def test_what_was_taken_for_good_is_looked_at_always(looks: list[int]) -> None:
    net = small()
    net.optimize("torch", large_pages=False)
    least = looks_of_a_pass(net, looks)
    mine = by_params(net)
    assert [looks_of_a_pass(net, looks) for _ in range(4)][2:] == [least + 1] * 2
    with torch.no_grad():
        mine.add_(1)
    for _ in range(4):
        with pytest.raises(NetError, match="parameters have changed"):
            net.forward(data=VALUES)


def test_a_change_before_the_first_look_is_found_in_each_pass() -> None:
    net = small()
    net.optimize("torch", large_pages=False)
    with torch.no_grad():
        by_params(net).add_(1)
    for _ in range(4):
        with pytest.raises(NetError, match="parameters have changed"):
            net.forward(data=VALUES)


@pytest.mark.parametrize("go_through", [nn.Module.parameters, nn.Module.buffers])
def test_tensors_that_are_taken_one_by_one(go_through: Callable[[nn.Module], Any]) -> None:
    net = small()
    net.optimize("torch", large_pages=False)
    tensors = go_through(net)
    next(tensors)
    for _ in range(3):
        net.forward(data=VALUES)
    with torch.no_grad():
        for one in tensors:
            if one is not net.position:
                one.add_(1)
    with pytest.raises(NetError, match="parameters have changed"):
        net.forward(data=VALUES)


def test_a_view_of_a_table_that_somebody_keeps() -> None:
    net = small()
    values = module_of(net, "c")._parameters.values()
    net.optimize("torch", large_pages=False)
    later = module_of(net, "c")._parameters.values()
    for _ in range(3):
        net.forward(data=VALUES)
    with torch.no_grad():
        next(iter(later)).add_(1)  # type: ignore[union-attr]
    assert len(list(values)) == 2
    with pytest.raises(NetError, match="parameters have changed"):
        net.forward(data=VALUES)


def test_looking_alone_is_no_change() -> None:
    net = small()
    net.optimize("torch", large_pages=False)
    wanted = net.forward(data=VALUES)["e"]
    assert len(list(net.parameters())) == 6
    copy.deepcopy(net)
    np.testing.assert_array_equal(net.forward(data=VALUES)["e"], wanted)


def test_an_optimizer_from_before() -> None:
    net = small()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net.forward(data=torch.from_numpy(VALUES))["e"].sum().backward()
    net.optimize("torch", large_pages=False)
    net.forward(data=VALUES)
    optimizer.step()
    with pytest.raises(NetError, match="parameters have changed"):
        net.forward(data=VALUES)


def test_a_parameter_that_is_replaced_and_comes_back() -> None:
    net = small()
    net.optimize("torch", large_pages=False)
    wanted = net.forward(data=VALUES)["e"]
    module = module_of(net, "c")
    own = module.weight
    module.weight = nn.Parameter(torch.zeros_like(own))  # type: ignore[arg-type]
    for _ in range(4):
        with pytest.raises(NetError, match="parameters have changed"):
            net.forward(data=VALUES)
    module.weight = own
    np.testing.assert_array_equal(net.forward(data=VALUES)["e"], wanted)
    others = {name: one.detach() * 2 for name, one in net.named_parameters()}
    with pytest.raises(NetError, match="parameters have changed"):
        torch.func.functional_call(net, others, (), {"data": torch.from_numpy(VALUES)})
    np.testing.assert_array_equal(net.forward(data=VALUES)["e"], wanted)


def test_two_nets_with_the_same_parameters() -> None:
    one = small()
    other = Net(one.definition, share_with=one)
    for net in (one, other):
        net.optimize("torch", large_pages=False)
        net.forward(data=VALUES)
    with torch.no_grad():
        one.params["c"][0].add_(1)
    for net in (one, other):
        with pytest.raises(NetError, match="parameters have changed"):
            net.forward(data=VALUES)


def test_modules_have_their_own_dictionaries_again() -> None:
    net = small()
    net.optimize("torch", large_pages=False)
    assert not all(type(table) is dict for table in tables(net))
    layer = module_of(net, "c")
    twin = copy.deepcopy(layer)
    assert all(type(table) is dict for table in tables(twin))
    assert torch.equal(twin.weight, layer.weight)  # type: ignore[arg-type]
    names = list(net.state_dict())
    net.optimize("torch", large_pages=False)
    net.optimize(None)
    assert all(type(table) is dict for table in tables(net))
    assert list(net.state_dict()) == names


def test_a_net_that_is_dropped_is_gone_at_once() -> None:
    net = small()
    net.optimize("torch", large_pages=False)
    gone = weakref.ref(net)
    gc.disable()
    try:
        del net
        assert gone() is None
    finally:
        gc.enable()
