"""Both definitions of Normalize, Permute and SmoothL1Loss, against loops over numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caffecompat.errors import LayerError
from caffecompat.layers import catalogue
from tests.layers.messages import distinct, made, message, run


def chosen(text: str, tops: int = 1, dialect: str = "") -> str:
    return catalogue.choose(message("Normalize", text, tops), dialect).fork


def test_the_settings_tell_which_normalize_is_meant() -> None:
    assert chosen("norm_param { }") == "SSD, ParseNet"
    assert chosen("normalize_param { }") == chosen("", tops=2) == "NormFace, AMSoftmax"
    assert chosen("", dialect="normface") == "NormFace, AMSoftmax"
    assert chosen("", dialect="ssd") == "SSD, ParseNet"
    with pytest.raises(LayerError, match="several forks of Caffe define the type 'Normalize'"):
        chosen("")


@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_normalize_of_ssd(across: bool, shared: bool) -> None:
    x = distinct((2, 3, 2, 4))
    scale = torch.tensor(20.0).double() if shared else torch.tensor([2.0, 3.0, 4.0]).double()
    text = f"across_spatial: {across} channel_shared: {shared} eps: 0.01".lower()
    name = "Normalize (SSD, ParseNet)"
    (top,) = run(name, f"norm_param {{ {text} }}", x, parameters=[scale])
    for n in range(2):
        for i in range(2):
            for j in range(4):
                part = x[n] if across else x[n, :, i, j]
                norm = np.sqrt(sum(float(v) ** 2 for v in part.flatten()) + 0.01)
                for c in range(3):
                    factor = float(scale if shared else scale[c])
                    expected = float(x[n, c, i, j]) / norm * factor
                    assert float(top[n, c, i, j]) == pytest.approx(expected)


def test_the_scale_of_normalize_starts_at_1() -> None:
    layer = made("Normalize (SSD, ParseNet)", "norm_param { channel_shared: false }", (1, 5, 2, 2))
    (spec,) = layer.specs
    assert spec.shape == (5,)
    assert spec.filler.value == 1
    layer = made("Normalize (SSD, ParseNet)", "norm_param { scale_filler { value: 20 } }", (1, 5))
    assert (layer.specs[0].shape, layer.specs[0].filler.value) == ((), 20)


@pytest.mark.parametrize("kind", ["L1", "L2"])
def test_normalize_of_normface(kind: str) -> None:
    x = distinct((2, 4))
    text = f'normalize_param {{ normalize_type: "{kind}" }}'
    top, norm = run("Normalize (NormFace, AMSoftmax)", text, x, tops=2)
    assert top.shape == (2, 4, 1, 1)
    assert norm.shape == (2, 1, 1, 1)
    for n in range(2):
        values = [float(v) for v in x[n]]
        size = sum(abs(v) for v in values) + 1e-6
        if kind == "L2":
            size = np.sqrt(sum(v * v for v in values) + 1e-6)
        assert float(norm[n]) == pytest.approx(size)
        assert top[n].flatten().tolist() == pytest.approx([v / size for v in values])


@pytest.mark.parametrize("passes", [False, True])
def test_the_norm_passes_a_gradient_on_only_with_bp_norm(passes: bool) -> None:
    text = f"normalize_param {{ bp_norm: {str(passes).lower()} }}"
    x = distinct((1, 3, 2, 2)).requires_grad_()
    norm = run("Normalize (NormFace, AMSoftmax)", text, x, tops=2)[1]
    assert norm.requires_grad == passes


def test_other_fields_are_refused() -> None:
    with pytest.raises(LayerError, match="norm_param: add_eps_before_sqrt: from another Caffe"):
        made("Normalize (SSD, ParseNet)", "norm_param { add_eps_before_sqrt: false }", (1, 3))
    with pytest.raises(LayerError, match="normalize_type is 'L3', expected 'L1' or 'L2'"):
        made("Normalize (NormFace, AMSoftmax)", "normalize_param { normalize_type: 'L3' }", (1, 3))


def test_permute_appends_axes_that_are_not_named() -> None:
    x = distinct((2, 3, 4, 5))
    assert torch.equal(
        run("Permute", "permute_param { order: 2 order: 0 }", x)[0], x.permute(2, 0, 1, 3)
    )
    with pytest.raises(LayerError, match="order is 4, but the bottom has 4 axes 2x3x4x5"):
        made("Permute", "permute_param { order: 4 }", (2, 3, 4, 5))
    with pytest.raises(LayerError, match="names an axis twice"):
        made("Permute", "permute_param { order: 1 order: 1 }", (2, 3))


@pytest.mark.parametrize("weights", [0, 1, 2])
def test_smooth_l1_loss(weights: int) -> None:
    bottoms = [distinct((2, 3, 2), seed) for seed in range(2 + weights)]
    (loss,) = run("SmoothL1Loss", "smooth_l1_loss_param { sigma: 3 }", *bottoms)
    total = 0.0
    for values in zip(*(bottom.flatten().tolist() for bottom in bottoms), strict=True):
        x, target, *factors = values
        inside, outside = [*factors, 1, 1][:2] if weights < 2 else factors
        size = abs(inside * (x - target))
        total += outside * (4.5 * size**2 if size < 1 / 9 else size - 0.5 / 9)
    assert float(loss) == pytest.approx(total / 2)
