"""Maximum pooling in compiled programs, without a compiler."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import library

from caffecompat.net.execution.compiled_pooling import max_pool, max_pool_gradient
from tests.net.execution.small_nets import convolution, net_of, pass_of, pooling

OVERLAPPING = "kernel_size: 3 stride: 2"
SETTINGS = [OVERLAPPING, f"{OVERLAPPING} pad: 2 round_mode: FLOOR"]


def gradients(net: Any) -> list[torch.Tensor]:
    net.zero_grad()
    return pass_of(net, "fp32")[1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler's own imports
@pytest.mark.parametrize("settings", SETTINGS)
def test_the_compiler_gets_no_scatter(settings: str) -> None:
    """With the decompositions that inductor makes before it writes kernels."""
    from torch._dynamo.backends.common import aot_autograd
    from torch._inductor.decomposition import select_decomp_table

    graphs: list[str] = []

    def kept(module: torch.fx.GraphModule, inputs: Any) -> Any:
        graphs.append(module.code)

        def boxed(arguments: list[Any]) -> Any:
            return module.forward(*arguments)

        boxed.__dict__["_boxed_call"] = True
        return boxed

    definition = convolution("conv", "data", "c") + pooling("c", "top", settings)
    net, plain = net_of(definition), net_of(definition)
    backend = aot_autograd(fw_compiler=kept, bw_compiler=kept, decompositions=select_decomp_table())
    net.compile(backend=backend)
    for found, expected in zip(gradients(net), gradients(plain), strict=True):
        torch.testing.assert_close(found, expected)
    text = "\n".join(graphs)
    assert "caffecompat.max_pool.default" in text
    assert "caffecompat.max_pool_gradient.default" in text
    assert "low_memory_max_pool" not in text
    # That of the loss alone may be there.
    assert text.count("aten.scatter") <= 1


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_the_operators(form: torch.memory_format) -> None:
    """Their results, memory orders and gradients, as torch's own checks want them."""
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64).contiguous(memory_format=form)
    arguments = (x.requires_grad_(), [3, 3], [2, 2], [1, 1], True)
    library.opcheck(max_pool, arguments, test_utils=("test_schema", "test_faketensor"))
    y, index = max_pool(*arguments)
    expected = torch.nn.functional.max_pool2d(x, 3, 2, 1, ceil_mode=True)
    assert torch.equal(y, expected)
    assert y.is_contiguous(memory_format=form)
    weight = torch.randn_like(y)
    (found,) = torch.autograd.grad(y, x, weight, retain_graph=True)
    (wanted,) = torch.autograd.grad(expected, x, weight)
    assert torch.equal(found, wanted)
    given = (weight, x.detach(), index, *arguments[1:])
    library.opcheck(max_pool_gradient, given, test_utils=("test_schema", "test_faketensor"))
