"""Sizes and fillers that layers refuse: what the refusal advises makes the net build and run."""

from __future__ import annotations

import numpy as np
import pytest

from caffecompat.errors import CaffeError
from tests.layers.refusals.advice import Case, check_advice
from tests.net.nets import net

CASES = [
    Case(
        "Deconvolution",
        [(2, 3, 2, 4)],
        "convolution_param { num_output: 2 kernel_size: 1 pad: 1 }",
        "would be empty with pad 1x1; reduce the padding",
        "convolution_param { num_output: 2 kernel_size: 1 pad: 0 }",
    ),
    Case(
        "Deconvolution",
        [(2, 3, 2, 4)],
        "convolution_param { num_output: 2 kernel_size: 1 pad_l: 3 pad_r: 1 }",
        "would be empty with pad_t 0, pad_b 0, pad_l 3 and pad_r 1; reduce the padding",
        "convolution_param { num_output: 2 kernel_size: 1 pad_l: 2 pad_r: 1 }",
    ),
    Case(
        "SPP",
        [(2, 3, 6, 7)],
        "spp_param { pyramid_height: 4 pool: MAX }",
        "is too small for 8 x 8 bins; reduce pyramid_height",
        "spp_param { pyramid_height: 2 pool: MAX }",
    ),
    Case(
        "Upsample",
        [(2, 3, 6, 5), (2, 3, 6, 5)],
        "upsample_param { scale: 2 upsample_h: 12 }",
        "give both upsample_h and upsample_w",
        "upsample_param { scale: 2 upsample_h: 12 upsample_w: 10 }",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_a_refusal_advises_runs(case: Case) -> None:
    check_advice(case)


def test_a_gaussian_without_width() -> None:
    def weights(filler: str) -> np.ndarray:
        built = net(
            "layer { name: 'in' type: 'Input' top: 'x' input_param { shape { dim: 2 dim: 3 } } } "
            "layer { name: 'fc' type: 'InnerProduct' bottom: 'x' top: 'fc' inner_product_param { "
            f"num_output: 4 weight_filler {{ {filler} }} }} }}"
        )
        built.forward()
        return np.asarray(built.params["fc"][0].data)

    with pytest.raises(CaffeError) as caught:
        weights("type: 'gaussian' std: 0")
    assert "std is 0, it must be positive (zeros: type 'constant')" in str(caught.value)
    assert np.ptp(weights("type: 'gaussian' std: 0.1")) > 0
    assert (weights("type: 'constant'") == 0).all()
