"""Blobs and parameters as Caffe's users take them: numpy in and out, partial passes, repr, help."""

from __future__ import annotations

import contextlib
import copy
import io
import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import caffecompat
from caffecompat import Net
from caffecompat.errors import BlobError, LayerError, NetError, WeightsError
from caffecompat.net.blobs.array_view import BlobData, BlobParameter
from caffecompat.proto.text.parser import parse_text
from tests.net.nets import CLASSIFIER, net

STATISTICS = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 } } }
layer { name: "norm" type: "BatchNorm" bottom: "data" top: "norm" }
"""


def pixels(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((3, 2, 7, 5)).astype(np.float32)


@pytest.fixture(autouse=True)
def warnings_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


class TestReading:
    def test_data_becomes_an_array_in_a_net_that_learns(self) -> None:
        small = net(CLASSIFIER, phase="train")
        small.forward(data=pixels(), label=np.array([1, 5, 0]))
        small.backward()
        for name in ("fc", "conv1", "data", "loss"):
            data = small.blobs[name].data
            assert isinstance(np.asarray(data), np.ndarray)
            np.testing.assert_array_equal(np.asarray(data), data.numpy())
            assert not data.requires_grad
        assert float(small.blobs["loss"].data) > 0
        assert np.array(small.blobs["fc"].data, dtype=np.float64).dtype == np.float64
        assert np.asarray(small.blobs["fc"].diff).any()
        weight = small.params["fc"][0]
        np.testing.assert_array_equal(np.asarray(weight), weight.detach().numpy())
        assert np.asarray(weight.data).base is not None  # the memory is shared

    def test_run_keeps_its_graph(self) -> None:
        small = net(CLASSIFIER.replace("Input", "DummyData").replace("input_", "dummy_data_"))
        small.observe = True
        small.run(0)
        assert not small.blobs["fc"].data.requires_grad
        small.blobs["fc"].tensor.square().sum().backward()
        assert small.params["conv1"][0].grad is not None

    def test_what_torch_computes_is_a_plain_tensor(self) -> None:
        small = net(CLASSIFIER)
        small.forward(data=pixels())
        data = small.blobs["fc"].data
        for value in (data + 1, data.clone(), torch.stack([data, data]), small.params["fc"][0] * 2):
            assert type(value) is torch.Tensor
        assert type(data[0]) is BlobData
        assert type(pickle.loads(pickle.dumps(data))) is torch.Tensor
        assert torch.equal(copy.deepcopy(data), data)
        assert isinstance(torch.nn.Parameter(data), torch.nn.Parameter)
        assert isinstance(data - np.ones(6, np.float32), np.ndarray)

    def test_errors_of_numpy_methods_name_the_remedy(self) -> None:
        data = net(CLASSIFIER).blobs["data"].data
        with pytest.raises(AttributeError, match=r"has no 'astype'; convert it, np\.asarray"):
            _ = data.astype
        with pytest.raises(AttributeError, match="'BlobData' object has no attribute 'dat'"):
            _ = data.dat


class TestWriting:
    def test_inputs(self) -> None:
        small = net(CLASSIFIER)
        expected = small.forward(data=pixels())["prob"]
        small.blobs["data"].data[...] = np.zeros((3, 2, 7, 5))
        small.blobs["data"].data[...] = pixels()[..., ::-1][..., ::-1]
        np.testing.assert_array_equal(np.asarray(small.forward()["prob"].detach()), expected)
        small.blobs["data"].data[1] = pixels()[0]
        small.blobs["data"].data[2, ...] = pixels()[0].astype(">f8")
        again = np.asarray(small.forward()["prob"].detach())
        np.testing.assert_allclose(again, expected[[0, 0, 0]], rtol=1e-6)
        data = small.blobs["data"].data
        data -= 1
        data *= np.full((7, 5), 2.0)
        np.testing.assert_allclose(
            np.asarray(small.blobs["data"].data[0]), (pixels()[0] - 1) * 2, rtol=1e-6
        )
        data += torch.ones(5, dtype=torch.float64)
        data /= 2
        small.blobs["data"].data[0][0][...] = 7
        assert np.asarray(small.blobs["data"].data)[0, 0].tolist() == [[7.0] * 5] * 7

    def test_parameters(self) -> None:
        small = net(CLASSIFIER)
        weight, bias = small.params["fc"]
        weight.data[...] = np.zeros(weight.shape)
        bias.data[...] = np.arange(6)
        weight.data[0, 0] = 1
        small.forward(data=pixels())
        logits = np.asarray(small.blobs["fc"].data)
        np.testing.assert_array_equal(logits[:, 1:], [[1, 2, 3, 4, 5]] * 3)
        assert logits[:, 0].any()
        assert weight.requires_grad
        assert small.params["fc"][0] is weight
        assert weight is dict(small.named_parameters())["fc.weight"]

    def test_net_surgery_by_flat(self) -> None:
        small = net(CLASSIFIER)
        weight = small.params["fc"][0]
        values = np.arange(weight.numel(), dtype=np.float32).reshape(6, 4, 4, 3)
        weight.data.flat = values
        np.testing.assert_array_equal(np.asarray(weight), values.reshape(6, -1))
        np.testing.assert_array_equal(np.asarray(weight.data.flat), values.reshape(-1))
        with pytest.raises(NetError, match=r"3 values cannot be written where 288 \(6x48\)"):
            weight.data.flat = np.zeros(3)

    def test_statistics(self) -> None:
        small = net(STATISTICS)
        mean, variance, factor = small.params["norm"]
        mean.data[...] = np.array([1, 2, 3])
        variance.data[...] = 4
        factor.data[...] = np.ones(1)
        out = small.forward(data=np.full((4, 3), 5, np.float32))["norm"]
        np.testing.assert_allclose(out, [[2, 1.5, 1]] * 4, rtol=1e-4)
        assert not np.asarray(mean.diff).any()

    @pytest.mark.parametrize("value", ["text", [[1], [2, 3]], None, np.ones(3, np.complex64)])
    def test_what_is_no_array(self, value: object) -> None:
        small = net(CLASSIFIER)
        with pytest.raises(NetError, match="written into a blob is no array of numbers"):
            small.blobs["data"].data[...] = value

    def test_another_shape(self) -> None:
        small = net(CLASSIFIER)
        with pytest.raises(NetError, match="shape 3x224x224 cannot be written where 3x2x7x5"):
            small.blobs["data"].data[...] = np.zeros((3, 224, 224))

    def test_parameters_for_torch(self) -> None:
        """Asked for or not, they are parameters in every way that torch looks at."""
        small = net(CLASSIFIER, phase="train")
        assert all(type(p) is torch.nn.Parameter for p in small.parameters())
        weight = small.params["fc"][0]
        assert type(weight) is BlobParameter
        optimiser = torch.optim.SGD(small.parameters(), lr=0.1)
        before = weight.detach().clone()
        small(torch.from_numpy(pixels()), torch.tensor([1.0, 5, 0])).backward()
        gradient = weight.grad
        assert gradient is not None
        np.testing.assert_array_equal(np.asarray(weight.diff), gradient.numpy())
        optimiser.step()
        torch.testing.assert_close(weight.data, before - 0.1 * gradient)
        assert small.double().params["fc"][0].dtype == torch.float64
        twin = copy.deepcopy(small)
        assert torch.equal(twin.params["fc"][0], small.params["fc"][0])
        assert type(small.state_dict()["fc.weight"]) is torch.Tensor
        assert "requires_grad=True" in repr(weight)

    def test_gradients_of_parameters(self) -> None:
        weight = net(CLASSIFIER).params["fc"][0]
        assert not np.asarray(weight.diff).any()
        assert weight.grad is None  # looking at it changes nothing
        weight.diff[1] = np.full(48, 3)
        assert float(weight.diff.sum()) == 144
        weight.diff[...] = 0
        (gradient,) = (p.grad for p in [weight])
        assert gradient is not None
        assert not gradient.any()


class TestGradientsOfBlobs:
    def test_backward_begins_at_what_was_written(self) -> None:
        written, given = net(CLASSIFIER), net(CLASSIFIER)
        slope = np.random.default_rng(2).standard_normal((3, 6)).astype(np.float32)
        for _ in range(2):  # it stays, as in Caffe
            given.forward(data=pixels())
            given.backward(prob=slope)
        written.forward(data=pixels())
        written.blobs["prob"].diff[...] = slope
        written.backward()
        written.forward(data=pixels())
        written.backward()
        np.testing.assert_array_equal(
            np.asarray(written.params["conv1"][0].diff), np.asarray(given.params["conv1"][0].diff)
        )

    def test_from_a_layer_in_the_middle(self) -> None:
        small = net("force_backward: true\n" + CLASSIFIER, phase="train")
        small.forward(data=pixels(), label=np.array([1, 5, 0]))
        one = np.zeros((3, 6), np.float32)
        one[0, 4] = 1
        small.blobs["fc"].diff[...] = one
        small.backward(start="fc")
        weight = small.params["fc"][0].grad
        assert weight is not None
        features = np.asarray(small.blobs["pool1"].data)[0].reshape(-1)
        np.testing.assert_allclose(weight[4].numpy(), features, rtol=1e-6)
        assert not weight[[0, 1, 2, 3, 5]].any()
        shown = np.asarray(small.blobs["data"].diff)
        assert shown[0].any()
        assert not shown[1:].any()

    def test_nothing_written(self) -> None:
        small = net(CLASSIFIER)
        small.forward(data=pixels())
        assert not np.asarray(small.blobs["prob"].diff).any()
        with pytest.raises(NetError, match="nothing to run backward from"):
            small.backward()
        with pytest.raises(BlobError, match="no layer 'fcc' in this net; did you mean 'fc'"):
            small.backward(start="fcc")

    def test_a_blob_that_was_overwritten(self) -> None:
        small = net(CLASSIFIER, phase="train")
        small.forward(data=pixels(), label=np.array([1, 5, 0]))
        small.blobs["pool1"].data[...] = 0
        with pytest.raises(NetError, match=r"run forward\(\) again before backward"):
            small.backward()


class TestCalling:
    def test_a_tensor_gives_a_tensor(self) -> None:
        text = CLASSIFIER.replace(' top: "label"', "").replace(" shape { dim: 3 }", "")
        small = net(text)
        x = torch.from_numpy(pixels()).requires_grad_()
        prob = small(x)
        assert isinstance(prob, torch.Tensor)
        prob[:, 0].sum().backward()
        assert x.grad is not None
        array = small(pixels())
        assert isinstance(array, np.ndarray)
        np.testing.assert_array_equal(array, small.forward(data=pixels())["prob"])
        tail = torch.nn.Sequential(small, torch.nn.Linear(6, 2))
        assert tail(x).shape == (3, 2)

    def test_several_outputs_and_inputs_in_order(self) -> None:
        small = net(CLASSIFIER)
        outputs = small(torch.from_numpy(pixels()), torch.tensor([1.0, 2, 3]))
        assert list(outputs) == ["label", "prob"]
        assert outputs["label"].tolist() == [1, 2, 3]
        with pytest.raises(NetError, match="3 inputs were given, the net takes 2: data, label"):
            small(*[torch.zeros(1)] * 3)

    def test_parts_of_a_net(self) -> None:
        whole, small = net(CLASSIFIER), net(CLASSIFIER)
        expected = whole.forward(data=pixels(), blobs=["conv1", "pool1"])
        assert list(expected) == ["label", "prob", "conv1", "pool1"]
        first = small.forward(data=pixels(), end="pool1")
        assert list(first) == ["pool1"]
        np.testing.assert_array_equal(first["pool1"], expected["pool1"])
        np.testing.assert_array_equal(np.asarray(small.blobs["conv1"].data), expected["conv1"])
        rest = small.forward(start="fc")
        np.testing.assert_array_equal(rest["prob"].numpy(), expected["prob"])
        small.blobs["pool1"].data[...] = np.zeros(expected["pool1"].shape)
        changed = small.forward(start="fc", end="fc")["fc"]
        np.testing.assert_allclose(changed.numpy(), 0.1, rtol=1e-6)
        with pytest.raises(NetError, match="nothing to run backward from"):
            small.backward()

    def test_a_part_before_any_pass(self) -> None:
        text = CLASSIFIER + 'layer { name: "again" type: "ReLU" bottom: "fc" top: "again" }'
        small = net(text)
        small.blobs["fc"].data[...] = np.arange(18).reshape(3, 6)
        prob = small.forward(start="prob", end="prob")["prob"]
        assert prob.argmax(dim=1).tolist() == [5, 5, 5]
        assert float(small.blobs["fc"].data[2, 5]) == 17

    def test_parts_that_do_not_exist(self) -> None:
        small = net(CLASSIFIER)
        with pytest.raises(BlobError, match="no layer 'pool' in this net; did you mean 'pool1'"):
            small.forward(end="pool")
        with pytest.raises(BlobError, match="start and end are names of layers, found int"):
            small.forward(start=3)
        with pytest.raises(BlobError, match="no blob 'fcc'"):
            small.forward(blobs=["fcc"])
        with pytest.raises(LayerError, match=r"layer .fc. \(InnerProduct\): the weight takes 48"):
            small.forward(data=np.zeros((3, 2, 3, 3), np.float32), end="fc")

    def test_inputs_may_be_called_like_options(self) -> None:
        shape = "input_param { shape { dim: 2 } }"
        text = "\n".join(
            f'layer {{ name: "{name}" type: "Input" top: "{name}" {shape} }}'
            for name in ("start", "end", "blobs")
        )
        outputs = net(text).forward(start=np.ones(2), end=np.ones(2) * 2, blobs=np.ones(2) * 3)
        assert [outputs[k][0] for k in ("start", "end", "blobs")] == [1, 2, 3]

    def test_save_and_copy_from(self, tmp_path: object) -> None:
        one, two = net(CLASSIFIER, seed=1), net(CLASSIFIER, seed=2)
        for name in ("small.caffemodel", "small.pt"):
            one.save(f"{tmp_path}/{name}")
            assert two.copy_from(f"{tmp_path}/{name}").loaded == ["conv1", "fc"]
            assert torch.equal(one.params["fc"][0], two.params["fc"][0])
        assert list(torch.load(f"{tmp_path}/small.pt")) == list(one.state_dict())


class TestPhase:
    def test_numbers_of_caffe(self) -> None:
        assert (caffecompat.TRAIN, caffecompat.TEST) == (0, 1)
        assert net(CLASSIFIER, phase=caffecompat.TRAIN).phase == "TRAIN"
        assert net(CLASSIFIER, phase=1).phase == "TEST"

    def test_pycaffes_constructor(self) -> None:
        """``caffe.Net(file, caffe.TEST)``."""
        message = parse_text(CLASSIFIER, "NetParameter")[0]
        assert Net(message, caffecompat.TRAIN).phase == "TRAIN"
        assert Net(message, caffecompat.TEST).phase == "TEST"
        for wrong in (2, True):
            with pytest.raises(NetError, match=r"must be 'train' or 'test', or caffecompat.TRAIN"):
                Net(message, wrong)
        with pytest.raises(NetError, match="give the phase once, and weights by name"):
            Net(message, caffecompat.TEST, "w.caffemodel")

    def test_weights_that_are_no_file(self) -> None:
        small = net(CLASSIFIER)
        with pytest.raises(WeightsError, match=r"are a OrderedDict, .* is for load_state_dict"):
            small.load_weights(small.state_dict())  # type: ignore[arg-type]
        small.load_state_dict(small.state_dict())

    @pytest.mark.parametrize("phase", [2, -1, True, 1.0, "tset", None])
    def test_others_are_refused(self, phase: object) -> None:
        with pytest.raises(NetError, match=r"must be 'train' or 'test', or caffecompat.TRAIN \(0"):
            net(CLASSIFIER, phase=phase)


class TestLooks:
    def test_repr(self) -> None:
        text = CLASSIFIER + 'layer { name: "again" type: "ReLU" bottom: "fc" top: "again" }'
        lines = repr(net(text)).splitlines()
        assert lines[0] == "Net 'small', phase TEST, 7 layers, 370 parameter values"
        assert lines[1].split() == ["data", "Input", "->", "data", "3x2x7x5,", "label", "3"]
        assert lines[2].split("  ")[-1].strip() == "weight 4x2x3x3, bias 4"
        assert [line.split()[0] for line in lines[1:]] == (
            ["data", "conv1", "relu1", "pool1", "fc", "prob", "again"]
        )
        assert "split" not in repr(net(text))
        assert repr(dict(net(text).named_children())["conv1"]) == (
            "Convolution(weight 4x2x3x3, bias 4)"
        )

    def test_help_shows_the_net_and_not_torch(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            help(Net)
        text = shown.getvalue()
        assert "forward(" in text
        assert "blobs" in text
        assert "register_full_backward_hook" not in text
        assert len(text.splitlines()) < 400
        assert "state_dict" in dir(net(CLASSIFIER))
        assert "load_weights" in dir(net(CLASSIFIER))

    @pytest.mark.parametrize("name", ["set_mode_cpu", "SGDSolver", "io", "NetSpec"])
    def test_names_of_pycaffe_say_where_they_are(self, name: str) -> None:
        with pytest.raises(AttributeError, match=f"has no attribute '{name}'; ") as caught:
            getattr(caffecompat, name)
        code, use = str(caught.value).split("write '")[1].split("' and ")
        found: dict[str, Any] = {}
        exec(code, found)
        assert eval(use, found) is not None
        with pytest.raises(AttributeError, match=r"has no attribute 'set_mode_gpus'$"):
            _ = caffecompat.set_mode_gpus

    def test_dir_of_the_package(self) -> None:
        assert dir(caffecompat) == sorted([*caffecompat.__all__, "__version__"])
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            help(caffecompat)
        assert "TYPE_CHECKING" not in shown.getvalue()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here")
class TestOnGpu:
    def test_numpy_in_and_out(self) -> None:
        small = net(CLASSIFIER, device="cuda")
        small.blobs["data"].data[...] = pixels()
        small.params["fc"][1].data[...] = np.arange(6)
        small.forward()
        assert np.asarray(small.blobs["fc"].data).shape == (3, 6)
        small.blobs["prob"].diff[...] = np.ones((3, 6))
        small.backward()
        assert np.asarray(small.params["fc"][0].diff).shape == (6, 48)
