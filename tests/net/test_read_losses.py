"""Loss layers whose top another layer reads: Caffe's gradient, and the printed loss.

In Caffe the weight of a loss stands in the gradient of its top, where the backward pass of the
readers overwrites it. A ``loss_weight`` of the definition makes its InsertSplits give the top a
split, whose first copy has no other reader and keeps the weight.
"""

from __future__ import annotations

import copy

import pytest
import torch

from caffecompat import Net
from caffecompat.net import Stepper
from tests.net.nets import net

# The loss is read by a layer that trains with a quarter of it.
QUARTER = """
layer { name: "q" type: "Power" bottom: "l" top: "q" power_param { scale: 0.25 } loss_weight: 1 }
"""
SILENCE = 'layer { name: "quiet" type: "Silence" bottom: "l" }'


def text(own: str = "", readers: str = "", top: str = 'top: "l"') -> str:
    return f"""
name: "read"
layer {{ name: "x" type: "Input" top: "x" top: "t"
         input_param {{ shape {{ dim: 4 dim: 3 }} shape {{ dim: 4 dim: 2 }} }} }}
layer {{ name: "fc" type: "InnerProduct" bottom: "x" top: "fc" inner_product_param {{
         num_output: 2 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "l" type: "EuclideanLoss" bottom: "fc" bottom: "t" {top} {own} }}
{readers}
"""


def passed(small: Net) -> tuple[float, torch.Tensor]:
    """The loss and the gradient of the weights after a pass over the same inputs."""
    generator = torch.Generator().manual_seed(3)
    x, t = torch.randn(4, 3, generator=generator), torch.randn(4, 2, generator=generator)
    small.forward(x=x, t=t)
    small.backward()
    gradient = small.params["fc"][0].grad
    assert gradient is not None
    return float(small.loss.detach()), gradient.clone()


def plain() -> tuple[float, torch.Tensor]:
    return passed(net(text(), phase="train"))


@pytest.mark.parametrize(
    ("own", "readers", "shown", "learned"),
    [
        ("", "", 1, 1),
        ("loss_weight: 3", "", 3, 3),
        ("", QUARTER, 1 + 0.25, 0.25),
        ("loss_weight: 0", QUARTER, 0.25, 0.25),
        ("loss_weight: 3", QUARTER, 1 + 3 + 0.25, 3 + 0.25),
        ("loss_weight: 1", SILENCE, 1 + 1, 1),
        ("", QUARTER + SILENCE, 1 + 0.25, 0.25),
        ("", QUARTER + QUARTER.replace('"q"', '"p"'), 1 + 0.5, 0.5),
    ],
)
def test_loss_and_gradient(own: str, readers: str, shown: float, learned: float) -> None:
    loss, gradient = plain()
    found = passed(net(text(own, readers), phase="train"))
    assert found[0] == pytest.approx(shown * loss, rel=1e-5)
    torch.testing.assert_close(found[1], learned * gradient)


def test_a_loss_that_only_silence_reads_does_not_train() -> None:
    small = net(text("", SILENCE), phase="train")
    result = small.run(0)
    assert not result.loss.requires_grad
    torch.testing.assert_close(result.loss, net(text(), phase="train").run(0).loss.detach())


def test_a_layer_in_place_on_the_loss_reads_it() -> None:
    double = 'layer { name: "two" type: "Power" bottom: "l" top: "l" power_param { scale: 2 } %s }'
    loss, gradient = plain()
    found = passed(net(text("", double % "loss_weight: 1"), phase="train"))
    assert found[0] == pytest.approx((1 + 2) * loss, rel=1e-5)
    torch.testing.assert_close(found[1], 2 * gradient)
    small = net(text("", double % ""), phase="train")
    assert not small.run(0).loss.requires_grad
    assert small.loss_weights == {}


@pytest.mark.parametrize("own", ["", "loss_weight: 3"])
def test_layer_by_layer(own: str) -> None:
    small = net(text(own, QUARTER + SILENCE), phase="train")
    loss, gradient = passed(small)
    for parameter in small.parameters():
        parameter.grad = None
    stepper = Stepper(small)
    stepper.begin(0)
    for i in range(len(small.layers)):
        stepper.forward_layer(i)
    for i in reversed(range(len(small.layers))):
        stepper.backward_layer(i)
    assert stepper.loss == pytest.approx(loss)
    torch.testing.assert_close(small.params["fc"][0].grad, gradient)
    diff = small.blobs["l"].diff
    first = next(v for v in stepper.gradients if v.blob == "l")
    torch.testing.assert_close(stepper.gradients[first], diff)
    assert float(diff) == (3.25 if own else 0.25)


def test_compiled() -> None:
    small, compiled = (net(text("", QUARTER), phase="train", seed=2) for _ in range(2))
    compiled.compile(backend="aot_eager")
    for one in (small, compiled):
        one.blobs["x"].data[...] = torch.linspace(-1, 1, 12).view(4, 3)
        one.run(0).loss.backward()
    torch.testing.assert_close(compiled.params["fc"][0].grad, small.params["fc"][0].grad)


def test_a_copy_keeps_the_weight_that_a_split_took_over() -> None:
    small = net(text("loss_weight: 3", QUARTER), phase="train")
    again = copy.deepcopy(small)
    loss, gradient = passed(small)
    found = passed(again)
    assert found[0] == loss
    assert torch.equal(found[1], gradient)


def test_notes() -> None:
    def notes(own: str, readers: str) -> list[str]:
        return [n for n in net(text(own, readers), phase="train").notes if "'l'" in n]

    (implicit,) = notes("", QUARTER)
    assert (
        "gradient comes from its readers alone; write loss_weight: 1 to train by both" in implicit
    )
    # The advice, followed to the letter.
    loss, gradient = plain()
    torch.testing.assert_close(
        passed(net(text("loss_weight: 1", QUARTER), phase="train"))[1], 1.25 * gradient
    )
    (explicit,) = notes("loss_weight: 3", QUARTER)
    assert "counts it 3 + 1 times" in explicit
    assert "the gradient is that of 3 and of the readers" in explicit
    assert not notes("loss_weight: 0", QUARTER)
    assert not notes("loss_weight: 3", "")
    assert loss > 0


SLICED = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 4 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc" inner_product_param {
        num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "s" type: "Slice" bottom: "fc" top: "a" top: "b" loss_weight: 2 loss_weight: 5 }
layer { name: "r" type: "TanH" bottom: "a" top: "r" }
"""


def test_a_split_takes_the_weights_of_all_tops() -> None:
    """Caffe's InsertSplits clears the layer's weights; those of unread tops are gone then."""
    small = net(SLICED, phase="train")
    assert small.loss_weights == {"a_s_0_split_0": 2}
    (note,) = [n for n in small.notes if "loss_weight" in n]
    assert "its loss_weight 5 of 'b' has no effect, as in Caffe" in note
    both = net(SLICED + 'layer { name: "q" type: "TanH" bottom: "b" top: "q" }', phase="train")
    assert both.loss_weights == {"a_s_0_split_0": 2, "b_s_1_split_0": 5}
    assert not any("no effect" in n for n in both.notes)


def test_a_loss_of_two_tops_has_what_its_split_took() -> None:
    two = """
layer { name: "x" type: "Input" top: "x" top: "y" top: "h" input_param {
        shape { dim: 3 dim: 4 } shape { dim: 3 } shape { dim: 4 dim: 4 } } }
layer { name: "l" type: "InfogainLoss" bottom: "x" bottom: "y" bottom: "h" top: "l" top: "p"
        loss_weight: 2 loss_weight: 0 }
layer { name: "q" type: "Power" bottom: "l" top: "q" loss_weight: 1 }
"""
    assert net(two, phase="train").loss_weights == {"l_l_0_split_0": 2, "q": 1}
