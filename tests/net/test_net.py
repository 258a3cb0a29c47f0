"""The interface of Net: blobs, parameters, passes, sharing, loading."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from caffecompat import LayerWeights, Net, Weights
from caffecompat.errors import (
    BlobError,
    LayerError,
    NetError,
    WeightsError,
)
from tests.net.nets import CLASSIFIER, batch, net, saved


class TestInterface:
    def test_numpy_in_numpy_out(self) -> None:
        outputs = net(CLASSIFIER).forward(**batch())
        assert list(outputs) == ["label", "prob"]
        assert isinstance(outputs["prob"], np.ndarray)
        np.testing.assert_allclose(outputs["prob"].sum(axis=1), 1, rtol=1e-6)

    def test_shapes_are_known_without_values(self) -> None:
        """Of 10 TB each."""
        shape = "shape { dim: 100 dim: 1000 dim: 5000 dim: 5000 }"
        built = net(
            f'layer {{ name: "x" type: "Input" top: "x" input_param {{ {shape} }} }}'
            'layer { name: "r" type: "ReLU" bottom: "x" top: "r" }',
            shapes_only=True,
        )
        assert [blob.shape for blob in built.blobs.values()] == [(100, 1000, 5000, 5000)] * 2

    def test_tensors_in_tensors_out_inside_autograd(self) -> None:
        x = torch.randn(3, 2, 7, 5, requires_grad=True)
        outputs = net(CLASSIFIER).forward(data=x)
        outputs["prob"][:, 0].sum().backward()
        assert x.grad is not None
        assert x.grad.abs().sum() > 0

    def test_gradients_reach_a_users_own_tensor_once_per_pass(self) -> None:
        small = net("force_backward: true\n" + CLASSIFIER, phase="train")
        source = torch.randn(3, 2, 7, 5, requires_grad=True)
        for _ in range(2):
            small.forward(data=source * 2, label=torch.tensor([1.0, 5.0, 0.0]))
            small.backward()
        diff = small.blobs["data"].diff
        assert source.grad is not None
        torch.testing.assert_close(source.grad, 4 * diff)
        small.forward()  # the stored value is no part of the finished graph
        small.backward()

    def test_is_a_module_for_torch_loops(self) -> None:
        small = net(CLASSIFIER, phase="train")
        keys = ["conv1.weight", "conv1.bias", "fc.weight", "fc.bias"]
        assert list(small.state_dict()) == keys
        optimiser = torch.optim.SGD(small.parameters(), lr=0.5)
        losses = []
        for _ in range(20):
            optimiser.zero_grad()
            tensors = {name: torch.from_numpy(value) for name, value in batch().items()}
            loss = small(**tensors)["loss"]
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.3 * losses[0]

    def test_phase_decides_at_build_time(self) -> None:
        assert net(CLASSIFIER, phase="train").outputs == ["loss"]
        assert net(CLASSIFIER, phase="TEST").eval().outputs == ["label", "prob"]

    def test_blob_shows_last_data_and_first_diff(self) -> None:
        small = net(CLASSIFIER, phase="train")
        small.forward(**batch())
        small.backward()
        conv = small.blobs["conv1"]
        assert float(conv.data.detach().min()) == 0.0  # after the in-place ReLU
        blocked = conv.data.detach() == 0
        assert float(conv.diff[blocked].abs().max()) == 0.0  # before it
        assert conv.shape == (3, 4, 7, 5)

    def test_inputs_can_be_resized(self) -> None:
        text = CLASSIFIER.split('layer { name: "fc"')[0]
        small = net(text)
        assert small.forward(data=np.ones((1, 2, 9, 11), np.float32))["pool1"].shape == (1, 4, 5, 6)
        small.blobs["data"].reshape(2, 2, 5, 3)
        assert small.forward()["pool1"].shape == (2, 4, 3, 2)

    def test_inputs_keep_their_values(self) -> None:
        small = net(CLASSIFIER)
        small.blobs["data"].data[...] = torch.from_numpy(batch()["data"])
        first = small.forward()["prob"]
        np.testing.assert_array_equal(first.detach(), small.forward(**batch())["prob"])

    def test_double_precision(self) -> None:
        small = net(CLASSIFIER).double()
        outputs = small.forward(data=torch.from_numpy(batch()["data"]).double())
        assert outputs["prob"].dtype == torch.float64
        assert small.forward(**batch())["prob"].dtype == np.float64

    def test_copies_and_pickles(self) -> None:
        original = net(CLASSIFIER, seed=3).double()
        original.forward(**batch())
        twins = [copy.deepcopy(original), pickle.loads(pickle.dumps(original))]
        expected = original.forward(**batch())["prob"]
        for twin in twins:
            np.testing.assert_array_equal(twin.forward(**batch())["prob"], expected)
            assert twin.params["fc"][0] is not original.params["fc"][0]

    def test_arrays_of_any_strides_are_copied(self) -> None:
        small = net(CLASSIFIER, phase="train")
        given = batch()
        small.forward(**given)
        small.backward()
        expected = small.params["conv1"][0].grad
        assert expected is not None
        expected = expected.clone()
        small.zero_grad()
        flipped = given["data"][..., ::-1].copy()[..., ::-1]
        small.forward(data=flipped, label=given["label"].astype(">f4"))
        flipped[...] = 7  # the owner fills the array anew
        small.backward()
        torch.testing.assert_close(small.params["conv1"][0].grad, expected)

    def test_other_types_are_cast(self) -> None:
        small = net(CLASSIFIER)
        expected = small.forward(**batch())["prob"]
        wide = torch.from_numpy(batch()["data"]).double()
        torch.testing.assert_close(small.forward(data=wide)["prob"], torch.from_numpy(expected))
        listed = small.forward(data=batch()["data"].tolist())["prob"]
        np.testing.assert_allclose(listed.detach(), expected, rtol=1e-6)

    def test_input_blobs_can_be_written_to_in_any_net(self) -> None:
        small = net("force_backward: true\n" + CLASSIFIER, phase="train")
        small.forward(**batch())
        small.blobs["data"].data[...] = 0.5
        small.forward()
        assert float(small.blobs["data"].data.mean()) == 0.5

    def test_same_seed_same_parameters(self) -> None:
        one, two, other = (net(CLASSIFIER, seed=s).params["fc"][0] for s in (3, 3, 4))
        assert torch.equal(one, two)
        assert not torch.equal(one, other)

    def test_run_keeps_all_blobs_only_when_asked(self) -> None:
        small = net(CLASSIFIER)
        small.run(0)
        with pytest.raises(BlobError, match="observe = True"):
            _ = small.blobs["pool1"].data
        small.observe = True
        small.run(0)
        assert small.blobs["pool1"].data.shape == (3, 4, 4, 3)


class TestGraph:
    def test_split_names_are_aliases(self) -> None:
        text = CLASSIFIER.replace(" include { phase: TRAIN }", "").replace(
            " include { phase: TEST }", ""
        )
        small = net(text)
        assert [b.name for b in small.layers if b.node.automatic] == ["fc_fc_0_split"]
        small.forward(**batch())
        for k in (0, 1):
            alias = small.blobs[f"fc_fc_0_split_{k}"].data
            assert alias.data_ptr() == small.blobs["fc"].data.data_ptr()

    def test_in_place_beside_another_reader_is_kept_apart(self) -> None:
        text = """
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
        layer { name: "before" type: "TanH" bottom: "x" top: "before" }
        layer { name: "relu" type: "ReLU" bottom: "x" top: "x" }
        layer { name: "after" type: "TanH" bottom: "x" top: "after" }
        """
        small = net(text)
        assert any("Caffe refuses" in note for note in small.notes)
        value = -np.ones((2, 3), np.float32)
        outputs = small.forward(x=value)
        np.testing.assert_allclose(outputs["before"], np.tanh(value), rtol=1e-6)
        np.testing.assert_allclose(outputs["after"], 0)
        with pytest.raises(NetError, match=r"'relu'.*works in place.*another layer reads"):
            net(text, strict=True)

    def test_nodes_tell_where_they_come_from(self, tmp_path: Path) -> None:
        small = Net(saved(tmp_path, CLASSIFIER))
        nodes = {n.meta.get("layer"): n for n in small.program().module.graph.nodes}
        assert nodes["relu1"].meta["blobs"] == ["conv1'"]
        assert "net.prototxt:8: layer 'relu1' (ReLU)" in nodes["relu1"].meta["place"]

    def test_layers_with_names_that_torch_reserves(self) -> None:
        text = """
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
        layer { name: "train" type: "InnerProduct" bottom: "x" top: "a"
                inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
        layer { name: "fc.1/b" type: "InnerProduct" bottom: "a" top: "blobs"
                inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
        """
        small = net(text)
        assert list(small.state_dict()) == [
            "%74rain.weight",
            "%74rain.bias",
            "fc%2E1/b.weight",
            "fc%2E1/b.bias",
        ]
        assert small.forward(x=np.ones((2, 3), np.float32))["blobs"].shape == (2, 5)
        small.load_state_dict(small.state_dict())

    def test_two_layers_of_one_name(self) -> None:
        text = """
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
        layer { name: "a" type: "InnerProduct" bottom: "x" top: "y"
                inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
        layer { name: "a" type: "InnerProduct" bottom: "y" top: "z"
                inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
        """
        assert net(text).forward(x=np.ones((2, 3), np.float32))["z"].shape == (2, 5)


SHARED = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" param { name: "w" lr_mult: 2 }
        inner_product_param { num_output: 3 bias_term: false weight_filler { type: "xavier" } } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" param { name: "w" }
        inner_product_param { num_output: 3 bias_term: false } }
layer { name: "l" type: "Reduction" bottom: "b" top: "l" loss_weight: 1 }
"""


class TestSharing:
    def test_one_tensor_one_gradient(self) -> None:
        small = net(SHARED, phase="train")
        a, b = small.params["a"][0], small.params["b"][0]
        assert a is b
        assert [(p.layer, p.lr_mult) for p in small.learnable] == [("a", 2.0)]
        small.forward(x=np.ones((2, 3), np.float32))
        small.backward()
        x, w = torch.ones(2, 3), a.detach().clone().requires_grad_()
        (x @ w.t() @ w.t()).sum().backward()
        torch.testing.assert_close(a.grad, w.grad)

    def test_shared_weights(self) -> None:
        train = net(CLASSIFIER, phase="train", seed=1)
        test = net(CLASSIFIER, phase="test", seed=2, share_with=train)
        assert test.params["fc"][0] is train.params["fc"][0]
        late = net(CLASSIFIER, phase="test", seed=3)
        assert late.share_weights(train) == ["loss"]
        assert late.params["conv1"][1] is train.params["conv1"][1]


class TestWeights:
    def test_round_trip_through_a_file(self, tmp_path: Path) -> None:
        from caffecompat import save_weights

        one = net(CLASSIFIER, seed=1)
        save_weights(one.to_weights(), tmp_path / "w.caffemodel")
        two = Net(saved(tmp_path, CLASSIFIER), weights=tmp_path / "w.caffemodel", seed=2)
        for layer in one.params:
            for a, b in zip(one.params[layer], two.params[layer], strict=True):
                assert torch.equal(a, b)

    def test_report(self) -> None:
        weights = Weights(
            [
                LayerWeights("conv1", blobs=[np.ones((4, 2, 3, 3)), np.zeros(4)]),
                LayerWeights("elsewhere", blobs=[np.ones(2)]),
                LayerWeights("relu1"),
            ]
        )
        report = net(CLASSIFIER).load_weights(weights)
        assert report.loaded == ["conv1"]
        assert report.missing == ["fc"]
        assert report.ignored == ["elsewhere"]
        assert report.without_parameters == ["relu1"]

    def test_wrong_shapes_are_all_named_and_nothing_is_copied(self) -> None:
        small = net(CLASSIFIER)
        before = small.params["conv1"][1].detach().clone()
        weights = Weights(
            [
                LayerWeights("conv1", blobs=[np.ones((4, 2, 5, 5)), np.ones(4)]),
                LayerWeights("fc", blobs=[np.ones((6, 48))]),
            ]
        )
        with pytest.raises(WeightsError) as caught:
            small.load_weights(weights)
        assert "weight (blob 0) is 4x2x5x5 in the file, the net needs 4x2x3x3" in str(caught.value)
        assert "the file has 1 parameter blobs, the net's layer has 2" in str(caught.value)
        assert torch.equal(before, small.params["conv1"][1])

    def test_filler_from_another_model(self, tmp_path: Path) -> None:
        from caffecompat import save_weights

        donor = net(CLASSIFIER, seed=1)
        path = tmp_path / "a.caffemodel"
        save_weights(donor.to_weights(), path)
        filler = f'weight_filler {{ model_path: "{path}" model_layer_name: "fc" }}'
        text = CLASSIFIER.replace('weight_filler { type: "gaussian" std: 0.3 }', filler)
        assert torch.equal(net(text, seed=2).params["fc"][0], donor.params["fc"][0])
        with pytest.raises(LayerError, match=r"weight: is 6x48, but blob 0 of layer 'conv1'"):
            net(text.replace('model_layer_name: "fc"', 'model_layer_name: "conv1"'))
        with pytest.raises(LayerError, match=r"model_path: .*there is no such file"):
            net(text.replace("a.caffemodel", "b.caffemodel"))
