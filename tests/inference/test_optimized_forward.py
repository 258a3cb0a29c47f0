"""Whole passes of optimized nets leave a net as its own passes do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from caffecompat import Net
from caffecompat.errors import BlobError, NetError
from caffecompat.net.execution.passes import Passes
from tests.export.passes.models import net_text
from tests.inference.engine_nets import SHAPE, built, conv, inner, simple
from tests.net.nets import net

SMALL = [conv("c", "data"), simple("ReLU", "r", "c"), inner("f", "c")]
VALUES = np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)


def optimized() -> Net:
    subject = built(SMALL)
    subject.optimize("torch", large_pages=False)
    return subject


def state(subject: Net) -> dict[str, np.ndarray]:
    """The blobs that an optimized pass keeps, and the index of the pass."""
    return {
        **{name: np.array(subject.blobs[name].data) for name in ("data", "f")},
        "position": subject.position.numpy().copy(),
    }


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each pass went the short way."""
    found: list[bool] = []
    real = Passes.optimized_forward

    def noted(self: Passes, given: Mapping[str, Any]) -> Any:
        result = real(self, given)
        found.append(result is not None)
        return result

    monkeypatch.setattr(Passes, "optimized_forward", noted)
    return found


@pytest.mark.parametrize(
    ("value", "short"),
    [
        (torch.from_numpy(VALUES), True),
        (VALUES, True),
        (VALUES.astype(np.float64), False),
        (VALUES.tolist(), False),
        (np.asfortranarray(VALUES), True),
        (torch.from_numpy(VALUES).double(), False),
        (torch.from_numpy(VALUES).requires_grad_(), False),
        (torch.from_numpy(VALUES).to(memory_format=torch.channels_last), True),
    ],
    ids=["tensor", "array", "double array", "list", "Fortran", "double", "gradient", "channels"],
)
def test_inputs_of_all_kinds(value: Any, short: bool, taken: list[bool]) -> None:
    own, subject = built(SMALL), optimized()
    own.forward(data=torch.ones(SHAPE))
    subject.forward(data=torch.ones(SHAPE))
    wanted, found = own.forward(data=value), subject.forward(data=value)
    assert taken == [True, short]
    assert type(found["f"]) is type(wanted["f"])
    assert not isinstance(found["f"], torch.Tensor) or not found["f"].requires_grad
    for name, array in state(own).items():
        np.testing.assert_allclose(state(subject)[name], array, atol=1e-5)
    np.testing.assert_array_equal(found["f"], state(subject)["f"])


def test_the_values_given_are_those_of_later_passes(taken: list[bool]) -> None:
    subject = optimized()
    first = subject.forward(data=VALUES)["f"]
    again = subject.forward()["f"]
    assert taken == [True, False]
    np.testing.assert_array_equal(np.asarray(again), first)
    subject.blobs["data"].data[...] = 2 * VALUES
    doubled = np.asarray(subject.forward()["f"])
    np.testing.assert_array_equal(doubled, subject.forward(data=2 * VALUES)["f"])
    subject.blobs["data"].reshape(1, *SHAPE[1:])
    assert subject.forward()["f"].shape == (1, 5)


def test_arrays_and_tensors_that_change_afterwards() -> None:
    subject = optimized()
    array, tensor = VALUES.copy(), torch.from_numpy(VALUES.copy())
    subject.forward(data=array)
    array[:] = 0
    np.testing.assert_array_equal(subject.blobs["data"].data, VALUES)
    subject.forward(data=tensor)
    tensor.zero_()
    assert not np.asarray(subject.blobs["data"].data).any()
    tensor.requires_grad_()
    assert not subject.forward()["f"].requires_grad


def test_outputs_are_the_callers(taken: list[bool]) -> None:
    subject = optimized()
    first = subject.forward(data=torch.from_numpy(VALUES))["f"]
    kept = first.clone()
    subject.forward(data=torch.zeros(SHAPE))
    assert torch.equal(first, kept)
    assert taken == [True, True]


@pytest.mark.parametrize("more", [{"nosuch": torch.ones(1)}, {"blobs": ["nosuch"]}])
def test_names_that_do_not_exist(more: dict[str, Any]) -> None:
    given = {"data": torch.ones(SHAPE)} if "blobs" in more else {}
    with pytest.raises(BlobError, match="'nosuch'"):
        optimized().forward(**given, **more)


def test_values_with_too_many_axes_and_of_no_kind() -> None:
    subject = optimized()
    with pytest.raises(BlobError, match="a shape of 33 axes, at most 32"):
        subject.forward(data=torch.ones([1] * 33))
    with pytest.raises(NetError, match="is no array of numbers"):
        subject.forward(data="cat.jpg")  # type: ignore[arg-type]


def test_other_ways_to_ask_go_on(taken: list[bool]) -> None:
    subject = optimized()
    value = torch.from_numpy(VALUES)
    wanted = subject.forward(data=value)["f"]
    assert torch.equal(subject.forward(value), wanted)
    assert torch.equal(subject(data=value)["f"], wanted)
    assert set(subject.forward(data=value, end="c")) == {"c"}
    assert set(subject.forward(data=value, blobs=["data"])) == {"data", "f"}
    assert taken == [True, True]


def test_inputs_that_get_gradients_go_the_long_way(taken: list[bool]) -> None:
    subject = net("force_backward: true\n" + net_text(SHAPE, *SMALL))
    subject.optimize("torch", large_pages=False)
    subject.forward(data=torch.from_numpy(VALUES))
    assert taken == [False]


CHANGING = [
    simple(
        "DataAugmentation", "a", "c", "a", "augmentation_param { crop_width: 4 crop_height: 3 }"
    ),
    simple("BatchNorm", "a", "c", "a", "batch_norm_param { use_global_stats: false }"),
]


@pytest.mark.parametrize("layer", CHANGING, ids=["DataAugmentation", "BatchNorm"])
def test_passes_may_change_buffers(layer: str) -> None:
    subject = built([conv("c", "data"), layer])
    subject.optimize("torch", large_pages=False)
    for _ in range(3):
        subject.forward(data=VALUES)
    with torch.no_grad():
        subject.params["c"][0].mul_(2)
    with pytest.raises(NetError, match="parameters have changed"):
        subject.forward(data=VALUES)


def exchange(one: torch.Tensor, other: torch.Tensor) -> None:
    one.data, other.data = other.data, one.data


def fill(one: torch.Tensor, other: torch.Tensor) -> None:
    with torch.no_grad():
        other.fill_(0.5)


def replace(one: torch.Tensor, other: torch.Tensor) -> None:
    # Memory that was freed may be given to the next tensor of the same size.
    shape = one.shape
    one.data = torch.empty(0)
    one.data = torch.zeros(shape)


@pytest.mark.parametrize("change", [exchange, fill, replace])
def test_parameters_in_other_memory_or_with_other_values_are_seen(
    change: Callable[[torch.Tensor, torch.Tensor], None],
) -> None:
    subject = built([conv("c", "data"), conv("e", "c")])
    subject.optimize("torch", large_pages=False, fuse=False)
    subject.forward(data=VALUES)
    change(subject.params["c"][0], subject.params["e"][0])
    with pytest.raises(NetError, match="parameters have changed"):
        subject.forward(data=VALUES)
