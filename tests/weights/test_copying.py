"""Weights into a net: the report, mismatches, subsets, HDF5's shared layers."""

from __future__ import annotations

import logging
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from caffecompat import Net
from caffecompat.errors import WeightsError
from caffecompat.net import LoadReport
from caffecompat.proto.text.parser import parse_text
from caffecompat.weights import LayerWeights, Weights, load_weights, save_weights

NET = """
layer { name: "data" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 4 } } }
layer { name: "conv1_1" type: "Convolution" bottom: "x" top: "c1"
        convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "conv1_2" type: "Convolution" bottom: "c1" top: "c2"
        convolution_param { num_output: 3 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "fc6" type: "InnerProduct" bottom: "c2" top: "f6"
        inner_product_param { num_output: 7 weight_filler { type: "xavier" } } }
layer { name: "fc8" type: "InnerProduct" bottom: "f6" top: "f8"
        inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
"""
SHARING = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "one" type: "InnerProduct" bottom: "x" top: "a" param { name: "w" }
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "two" type: "InnerProduct" bottom: "a" top: "b" param { name: "w" }
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
"""


def net(text: str = NET, seed: int = 0) -> Net:
    return Net(parse_text(text, "NetParameter")[0], seed=seed)


def other_weights() -> Weights:
    """Of the same net with other values, fc8 with 5 outputs instead of 2."""
    return net(NET.replace("num_output: 2", "num_output: 5"), seed=9).to_weights()


def values(of: Net) -> dict[str, list[np.ndarray]]:
    return {name: [t.detach().numpy().copy() for t in of.params[name]] for name in of.params}


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


class TestMismatches:
    def test_error_copies_nothing_and_names_the_remedy(self) -> None:
        ours = net()
        before = values(ours)
        with pytest.raises(WeightsError) as caught:
            ours.load_weights(other_weights())
        (sentence,) = str(caught.value).splitlines()
        assert "weight (blob 0) is 5x7 in the file, the net needs 2x7" in sentence
        assert "bias (blob 1) is 5 in the file, the net needs 2" in sentence
        assert "rename the layer" in sentence
        assert "--on-mismatch skip" in sentence
        assert all(same(before[name], now) for name, now in values(ours).items())

    def test_skip_keeps_what_the_layer_has(self) -> None:
        ours = net()
        with torch.no_grad():
            ours.params["fc8"][0].fill_(77)
        report = ours.load_weights(other_weights(), on_mismatch="skip")
        assert report.loaded == ["conv1_1", "conv1_2", "fc6"]
        assert list(report.mismatched) == ["fc8"]
        assert report.missing == []
        assert (ours.params["fc8"][0] == 77).all()
        theirs = other_weights()
        assert same(values(ours)["fc6"], theirs["fc6"].blobs)
        lines = report.sentences()
        assert lines[0] == "loaded 3 of 4 layers with parameters"
        assert lines[1].startswith("layer 'fc8' was left as it was: ")
        assert "on_mismatch" not in lines[1]

    def test_reinit_fills_as_a_new_net_does(self) -> None:
        ours, fresh = net(seed=5), values(net(seed=5))
        with torch.no_grad():
            ours.params["fc8"][0].fill_(77)
            ours.params["fc8"][1].fill_(77)
        report = ours.load_weights(other_weights(), on_mismatch="reinit")
        assert same(values(ours)["fc8"], fresh["fc8"])
        assert "layer 'fc8' was filled afresh" in report.sentences()[1]

    def test_another_number_of_blobs(self) -> None:
        weights = other_weights()
        del weights["fc8"].blobs[1], weights["fc8"].legacy[1]
        report = net().load_weights(weights, on_mismatch="skip")
        assert "the file has 1 parameter blobs, the net's layer has 2" in report.mismatched["fc8"]

    def test_fully_connected_and_convolution_of_one_count(self) -> None:
        weights = net().to_weights()
        weights["fc6"].blobs[0] = weights["fc6"].blobs[0].reshape(7, 3, 3, 2)
        with pytest.raises(WeightsError, match=r"7x3x3x2 in the file, the net needs 7x18.*reshape"):
            net().load_weights(weights)

    def test_unknown_word(self) -> None:
        with pytest.raises(WeightsError, match="on_mismatch is 'skipp'; did you mean 'skip'"):
            net().load_weights(other_weights(), on_mismatch="skipp")


class TestSubsets:
    def test_names_and_patterns(self) -> None:
        ours, before = net(), values(net())
        report = ours.load_weights(other_weights(), layers=["conv1_*", "fc6"])
        assert report.loaded == ["conv1_1", "conv1_2", "fc6"]
        assert report.left_out == ["fc8"]
        assert same(values(ours)["fc8"], before["fc8"])
        assert same(values(ours)["conv1_2"], other_weights()["conv1_2"].blobs)
        assert "not asked for: fc8" in report.sentences()

    def test_what_is_not_asked_for_need_not_fit(self) -> None:
        assert net().load_weights(other_weights(), layers=["fc6"]).loaded == ["fc6"]

    @pytest.mark.parametrize(
        ("names", "sentence"),
        [
            (["conv1_3"], "the net has no layer 'conv1_3' with parameters; did you mean 'conv1_2'"),
            (["data"], "the net has no layer 'data' with parameters"),
            (["pool*"], r"the net has no layer 'pool\*'"),
        ],
    )
    def test_names_that_are_not_there(self, names: list[str], sentence: str) -> None:
        with pytest.raises(WeightsError, match=sentence):
            net().load_weights(other_weights(), layers=names)

    def test_a_name_that_the_file_lacks(self) -> None:
        weights = other_weights()
        weights["fc6"].name = "fc_6"
        with pytest.raises(WeightsError, match="has no layer 'fc6'; did you mean 'fc_6'"):
            net().load_weights(weights, layers=["fc6"])

    def test_the_papers_recipe(self) -> None:
        """The first four convolutions and the last three layers of net A start a deeper one."""
        prototxt = Path(__file__).resolve().parents[2] / "prototxt"
        shapes = Net(prototxt / "A_deploy.prototxt", shapes_only=True)
        weights = Weights(
            [
                LayerWeights(built.name, built.type, [np.zeros(s.shape, np.float32) for s in specs])
                for built in shapes.layers
                if (specs := built.module.layer.specs if built.module else [])
            ]
        )
        names = ["conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8"]
        deeper = Net(prototxt / "D_deploy.prototxt", shapes_only=True)
        report = deeper.load_weights(weights, layers=names)
        assert report.loaded == names
        assert len(report.left_out) == 9


def test_missing_layers_come_with_the_nearest_name_of_the_file() -> None:
    weights = other_weights()
    weights["fc8"].name = "fc8_new"
    report = net().load_weights(weights)
    assert (report.missing, report.ignored) == (["fc8"], ["fc8_new"])
    assert "the file has 'fc8_new', which the net has not" in report.sentences()[1]
    assert "in the file only: fc8_new" in report.sentences()


def test_ignored_layers_are_logged_with_the_words_of_caffe(
    caplog: pytest.LogCaptureFixture,
) -> None:
    weights = other_weights()
    weights["fc8"].name = "fc8_new"
    with caplog.at_level(logging.INFO, "weights"):
        net().load_weights(weights).write_to(logging.getLogger("weights"))
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert lines[:2] == [
        ("INFO", "Ignoring source layer fc8_new"),
        ("WARNING", "loaded 3 of 4 layers with parameters"),
    ]
    assert not any("in the file only" in line for _, line in lines)


class TestShared:
    def write(self, path: Path, **datasets: np.ndarray) -> Path:
        with h5py.File(path, "w") as file:
            for layer in ("x", "one", "two"):
                file.create_group(f"data/{layer}")
            for key, array in datasets.items():
                file[f"data/{key.replace('__', '/')}"] = array
        return path

    def test_a_sharer_without_its_shared_blob_loads_from_hdf5(self, tmp_path: Path) -> None:
        weight, bias = np.arange(9, dtype=np.float32).reshape(3, 3), np.ones(3, np.float32)
        path = self.write(
            tmp_path / "x.h5", one__0=weight, one__1=bias, two__1=np.full(3, 5, np.float32)
        )
        assert load_weights(path)["two"].indices == [1]
        ours = net(SHARING)
        assert ours.load_weights(path).loaded == ["one", "two"]
        np.testing.assert_array_equal(ours.params["two"][0].detach().numpy(), weight)
        np.testing.assert_array_equal(ours.params["two"][1].detach().numpy(), [5, 5, 5])

    def test_hdf5_has_shared_values_with_their_owner_and_all_gradients(
        self, tmp_path: Path
    ) -> None:
        """As BVLC Caffe writes them."""
        ours = net(SHARING)
        ours.save(tmp_path / "x.h5", diffs=True)
        with h5py.File(tmp_path / "x.h5") as file:
            stored = {part: {n: sorted(file[part][n]) for n in ("one", "two")} for part in file}
        assert stored["data"] == {"one": ["0", "1"], "two": ["1"]}
        assert stored["diff"] == {"one": ["0", "1"], "two": ["0", "1"]}
        assert net(SHARING).load_weights(tmp_path / "x.h5").loaded == ["one", "two"]

    def test_an_empty_group_will_do_where_all_is_shared(self, tmp_path: Path) -> None:
        text = SHARING.replace('param { name: "w" }', 'param { name: "w" } param { name: "b" }')
        weight, bias = np.arange(9, dtype=np.float32).reshape(3, 3), np.ones(3, np.float32)
        path = self.write(tmp_path / "x.h5", one__0=weight, one__1=bias)
        ours = net(text)
        report = ours.load_weights(path)
        assert report.missing == []
        np.testing.assert_array_equal(ours.params["two"][0].detach().numpy(), weight)

    def test_what_a_layer_owns_must_be_there(self, tmp_path: Path) -> None:
        weight = np.arange(9, dtype=np.float32).reshape(3, 3)
        path = self.write(tmp_path / "x.h5", one__0=weight, one__1=np.ones(3, np.float32))
        with pytest.raises(WeightsError, match=r"'two'.*has 0 parameter blobs"):
            net(SHARING).load_weights(path)

    def test_a_binary_file_must_have_all(self, tmp_path: Path) -> None:
        weights = net(SHARING).to_weights()
        weights["two"].blobs, weights["two"].legacy = [], []
        save_weights(weights, tmp_path / "x.caffemodel")
        with pytest.raises(WeightsError, match=r"'two'.*has 0 parameter blobs"):
            net(SHARING).load_weights(tmp_path / "x.caffemodel")

    def test_gaps_go_into_hdf5_and_nothing_else(self, tmp_path: Path) -> None:
        weight, bias = np.arange(9, dtype=np.float32).reshape(3, 3), np.ones(3, np.float32)
        path = self.write(tmp_path / "x.h5", one__0=weight, one__1=bias, two__1=bias)
        weights = load_weights(path)
        save_weights(weights, tmp_path / "y.h5")
        assert load_weights(tmp_path / "y.h5")["two"].indices == [1]
        for name in ("y.caffemodel", "y.npz"):
            with pytest.raises(WeightsError, match="because it shares the others"):
                save_weights(weights, tmp_path / name)


@pytest.mark.parametrize("folder", ["convnet", "shared", "misc_params"])
def test_recorded_hdf5_file_goes_into_its_net(folder: str, golden: Path) -> None:
    """As in BVLC Caffe, shared parameters included."""
    case = golden / "files" / folder
    ours = Net(case / "net.prototxt")
    report: LoadReport = ours.load_weights(case / "v2.caffemodel.h5")
    assert report.missing == []
    with np.load(case / "io.npz") as reference:
        for key in reference.files:
            kind, *rest = key.split("/")
            if kind == "param":
                found = ours.params[rest[0].replace("__", "/")][int(rest[1])]
                assert found.detach().numpy().tobytes() == reference[key].tobytes(), key


def test_mapped_memory_is_given_back_but_weights_of_the_caller_stay(tmp_path: Path) -> None:
    weights = other_weights()
    weights["fc8"].blobs = net().to_weights()["fc8"].blobs
    path = tmp_path / "x.caffemodel"
    save_weights(weights, path)
    mine = load_weights(path)
    mine["fc6"].blobs[0][...] = 3
    ours = net()
    ours.load_weights(mine)
    assert (ours.params["fc6"][0] == 3).all()
    assert (mine["fc6"].blobs[0] == 3).all()
    ours.load_weights(path)
    assert same(values(ours)["fc6"], weights["fc6"].blobs)
