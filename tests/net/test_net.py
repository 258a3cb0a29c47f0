"""The interface of Net: blobs, parameters, passes, sharing, loading, and what it refuses."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from caffecompat import LayerWeights, Net, Weights
from caffecompat.errors import (
    BlobError,
    FileProblem,
    LayerError,
    NetError,
    TextError,
    UnknownName,
    WeightsError,
)
from caffecompat.proto import schema
from tests.net.nets import CLASSIFIER, net, saved


def batch(seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "data": rng.standard_normal((3, 2, 7, 5)).astype(np.float32),
        "label": np.array([1, 5, 0], dtype=np.float32),
    }


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


class TestBadInput:
    def test_missing_file(self) -> None:
        with pytest.raises(FileProblem, match=r"nosuch\.prototxt"):
            Net("nosuch.prototxt")

    def test_wrong_layer_type(self, tmp_path: Path) -> None:
        path = saved(tmp_path, CLASSIFIER.replace('"Convolution"', '"Convolutin"'))
        with pytest.raises(UnknownName) as caught:
            Net(path)
        sentence, _, layer = str(caught.value).partition("\n")
        assert sentence == (
            f"unknown layer type 'Convolutin' in {path}:5: layer 'conv1'; "
            "did you mean 'Convolution'?"
        )
        assert "@register('Convolutin')" in layer

    def test_all_unknown_types_at_once(self) -> None:
        text = CLASSIFIER.replace('"Convolution"', '"Convolutin"').replace('"ReLU"', '"Relu6"')
        with pytest.raises(NetError, match=r"(?s)Convolutin.*Relu6"):
            net(text)

    def test_dangling_bottom(self, tmp_path: Path) -> None:
        path = saved(tmp_path, CLASSIFIER.replace('bottom: "pool1"', 'bottom: "pool2"'))
        sentence = r":11: layer 'fc' \(InnerProduct\): unknown bottom blob 'pool2'; did you mean"
        with pytest.raises(NetError, match=sentence):
            Net(path)

    def test_typo_in_a_field(self, tmp_path: Path) -> None:
        path = saved(tmp_path, CLASSIFIER.replace("kernel_size: 3", "kernel_sise: 3"))
        with pytest.raises(TextError, match=r":6:.*kernel_sise.*did you mean 'kernel_size'"):
            Net(path)

    def test_shapes_that_do_not_fit(self) -> None:
        text = CLASSIFIER.replace("dim: 7 dim: 5", "dim: 1 dim: 1").replace("pad: 1", "")
        with pytest.raises(LayerError, match="layer 'conv1'"):
            net(text)

    def test_wrong_input_shape_names_the_layer(self) -> None:
        with pytest.raises(NetError, match=r"layer 'fc'.*takes 48 inputs"):
            net(CLASSIFIER).forward(data=np.ones((3, 2, 9, 9), np.float32))

    def test_unknown_input(self) -> None:
        with pytest.raises(BlobError, match=r"no input blob 'dta'.*did you mean 'data'"):
            net(CLASSIFIER).forward(dta=np.ones((3, 2, 7, 5), np.float32))

    def test_unknown_blob_and_layer(self) -> None:
        small = net(CLASSIFIER)
        with pytest.raises(BlobError, match=r"no blob 'pol1'.*'pool1'"):
            _ = small.blobs["pol1"]
        with pytest.raises(BlobError, match="no layer with parameters 'relu1'"):
            _ = small.params["relu1"]

    @pytest.mark.parametrize("value", [None, "text", [[1, 2], [3]], np.ones(3, np.complex64)])
    def test_inputs_that_are_no_numbers(self, value: object) -> None:
        with pytest.raises(NetError, match="input 'data' is no array of numbers"):
            net(CLASSIFIER).forward(data=value)  # type: ignore[arg-type]

    @pytest.mark.parametrize("source", [None, 3, schema.new("SolverParameter")])
    def test_sources_that_are_no_nets(self, source: object) -> None:
        with pytest.raises(NetError, match="built from the path of a prototxt or from a NetParam"):
            Net(source)

    def test_sizes_that_no_memory_holds(self) -> None:
        for dims in ("dim: 0 dim: 3", "dim: 1000000000000 dim: 1000000000"):
            shape = f"input_param {{ shape {{ {dims} }} }}"
            with pytest.raises(LayerError, match=r"layer 'x' \(Input\): the"):
                net(f'layer {{ name: "x" type: "Input" top: "x" {shape} }}')
        text = CLASSIFIER.replace("num_output: 6", "num_output: 4000000000")
        with pytest.raises(LayerError, match=r"layer 'fc' .*weight is 4000000000x48, 715 GiB"):
            net(text)

    def test_gradients_must_have_their_blobs_shape(self) -> None:
        small = net("force_backward: true\n" + CLASSIFIER)
        small.forward(**batch())
        with pytest.raises(NetError, match=r"gradient of blob 'prob' is 6x3, the blob is 3x6"):
            small.backward(prob=np.ones((6, 3), np.float32))

    def test_backward_twice(self) -> None:
        small = net(CLASSIFIER, phase="train")
        small.forward(**batch())
        small.backward()
        with pytest.raises(NetError, match="has run for this pass already"):
            small.backward()

    def test_settings_without_effect_are_noted(self) -> None:
        text = CLASSIFIER.replace('top: "conv1" }', 'top: "conv1" pooling_param { } }')
        assert any("pooling_param has no effect" in note for note in net(text).notes)

    def test_unknown_filler_in_a_net_that_is_only_looked_at(self) -> None:
        text = CLASSIFIER.replace('type: "xavier"', 'type: "xaver"')
        with pytest.raises(UnknownName, match=r"filler 'xaver'.*did you mean 'xavier'"):
            net(text, shapes_only=True)

    def test_backward_before_forward(self) -> None:
        with pytest.raises(NetError, match=r"call forward\(\) first"):
            net(CLASSIFIER, phase="train").backward()

    def test_phase_and_device(self) -> None:
        with pytest.raises(NetError, match="phase is 'tset'"):
            net(CLASSIFIER, phase="tset")
        with pytest.raises(NetError, match="unknown device 'gpu0'"):
            net(CLASSIFIER, device="gpu0")

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
    def test_no_gpu(self) -> None:
        with pytest.raises(NetError, match="no CUDA device"):
            net(CLASSIFIER, device="cuda")


def test_a_dropped_net_is_gone_at_once() -> None:
    """No reference cycle keeps the net; what torch.fx holds waits for the garbage collector."""
    made = net(CLASSIFIER, phase="train")
    made.forward(**batch())
    made.backward()
    dropped = weakref.ref(made)
    gc.collect()
    gc.disable()
    try:
        del made
        assert dropped() is None
    finally:
        gc.enable()
