"""Nets, weights and calls that Net refuses, and what it says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from caffecompat import Net
from caffecompat.errors import (
    BlobError,
    FileProblem,
    LayerError,
    NetError,
    TextError,
    UnknownName,
)
from caffecompat.proto import schema
from tests.net.nets import CLASSIFIER, batch, net, saved


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
        with pytest.raises(LayerError, match=r"layer 'fc' ") as caught:
            net(text)
        assert re.search(
            r": out of memory: weight of 4000000000x48 needs 715 GiB, .* are free; is the layer's "
            "size right[?]$",
            str(caught.value),
        )

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
        with pytest.raises(NetError, match="unknown device None"):
            net(CLASSIFIER, device=None)

    @pytest.mark.parametrize("device", ["xpu", "mps"])
    def test_a_device_that_torch_has_not_here(self, device: str) -> None:
        if getattr(torch, device).is_available():
            pytest.skip(f"there is an {device} device here")
        with pytest.raises(NetError, match=f"device '{device}' was asked for.*; use the CPU"):
            net(CLASSIFIER, device=device)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
    def test_no_gpu(self) -> None:
        with pytest.raises(NetError, match="no CUDA device"):
            net(CLASSIFIER, device="cuda")
