"""Nets whose data is not there can be summarised: by their crop, or by what ``--shape`` states."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from caffecompat.cli.main import main
from caffecompat.errors import FileProblem, LayerError, NetError
from tests.net.nets import net, saved

DATA = """
layer { name: "images" type: "Data" top: "data" top: "label"
        data_param { source: "none_lmdb" batch_size: 64 } TRANSFORM }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 8 kernel_size: 3 } }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
        inner_product_param { num_output: 10 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" }
"""
ROWS = """
layer { name: "rows" type: "HDF5Data" top: "data" top: "label"
        hdf5_data_param { source: "none.txt" batch_size: 10 } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param { num_output: 3 } }
"""


def with_transform(text: str = "") -> str:
    return DATA.replace("TRANSFORM", f"transform_param {{ {text} }}" if text else "")


def summary(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(["summary", *arguments])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


class TestOneShape:
    @pytest.mark.parametrize(
        ("stated", "batch"), [("data=1x28x28", 64), ("data=5x1x28x28", 5), ("data=5,1,28,28", 5)]
    )
    def test_is_enough(
        self, stated: str, batch: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = str(saved(tmp_path, with_transform("mean_file: 'none.binaryproto'")))
        code, out = summary(capsys, path, "--shape", stated)
        assert code == 0
        assert f"{batch}x1x28x28 {batch}\n" in out
        assert f"{batch}x8x26x26" in out
        assert "# " not in out

    @pytest.mark.parametrize("verb", ["inspect", "graph"])
    def test_for_other_verbs(
        self, verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = str(saved(tmp_path, with_transform()))
        assert main([verb, path, "-shape", "data=1x28x28"]) == 0
        assert "conv" in capsys.readouterr().out

    def test_the_advice_works_to_the_letter(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = str(saved(tmp_path, with_transform()))
        code, out = summary(capsys, path)
        assert code == 1
        assert "layer 'images' (Data): the shape of its images is unknown" in out
        advice = shlex.split(out.partition("state it with ")[2].partition(",")[0])
        assert summary(capsys, path, *advice)[0] == 0

    def test_of_rows(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = str(saved(tmp_path, ROWS))
        code, out = summary(capsys, path)
        assert code == 1
        advice = shlex.split(out.partition("state them (")[2].partition(")")[0])
        assert advice == ["--shape", "data=10x1", "--shape", "label=10x1"]
        assert summary(capsys, path, *advice)[0] == 0
        code, out = summary(capsys, path, "--shape", "data=10x4", "--shape", "label=10")
        assert code == 0
        assert "3x4 3" in out

    def test_replaces_that_of_an_input_layer(self) -> None:
        text = """
            layer { name: "in" type: "Input" top: "a" top: "b" input_param { shape { dim: 2 } } }
            layer { name: "r" type: "ReLU" bottom: "a" top: "r" }"""
        built = net(text, shapes_only=True, shapes={"a": (7, 5)})
        assert [built.blobs[name].shape for name in ("a", "b", "r")] == [(7, 5), (2,), (7, 5)]


class TestCrop:
    def test_says_it_for_a_missing_mean_file(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = str(saved(tmp_path, with_transform("crop_size: 9 mean_file: 'no.binaryproto'")))
        code, out = summary(capsys, path)
        assert code == 0
        assert "64x3x9x9 64\n" in out
        assert "3 channels are assumed; state another number with --shape data=1x9x9" in out
        code, out = summary(capsys, path, "--shape", "data=1x9x9")
        assert (code, "assumed" in out, "64x1x9x9" in out) == (0, False, True)


class TestMistakes:
    @pytest.mark.parametrize("text", ["data", "data=", "=3x4", "data=3xx4", "data=-1x3", "data=a"])
    def test_no_shape(self, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code, out = summary(capsys, str(saved(tmp_path, with_transform())), f"--shape={text}")
        assert code == 2
        assert "write data=3x227x227" in out

    @pytest.mark.parametrize(
        ("text", "shapes", "message"),
        [
            (with_transform(), {"dta": (3, 4, 5)}, "'dta', which no data .* did you mean 'data'"),
            (with_transform(), {"conv": (3, 4, 5)}, "'conv', which no data or input layer has"),
            (with_transform(), {"data": (3, 0, 5)}, "shape of 'data' is 3x0x5; give sizes"),
            (with_transform(), {"data": (3, 4)}, "is 3x4; state channels x height x width"),
            (ROWS, {"data": (10, 4)}, "state the shape of 'label' too"),
            (ROWS, {"data": (4,), "label": (10,)}, "must begin with the batch_size, 10"),
        ],
    )
    def test_that_does_not_fit(
        self, text: str, shapes: dict[str, tuple[int, ...]], message: str
    ) -> None:
        with pytest.raises((NetError, LayerError), match=message):
            net(text, shapes_only=True, shapes=shapes)

    def test_a_net_that_would_read(self) -> None:
        with pytest.raises(NetError, match="built with shapes_only=True"):
            net(with_transform(), shapes={"data": (1, 28, 28)})

    def test_files_are_still_wanted_by_a_net_that_reads(self) -> None:
        with pytest.raises(FileProblem, match="none_lmdb"):
            net(with_transform("crop_size: 9"))
