"""``caffecompat convert``: generations, formats, refusals; every result is read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import caffecompat
from caffecompat.cli.main import main
from caffecompat.weights import LayerWeights, Weights, load_weights, save_weights
from tests.places import COPIES

DATA = COPIES / "files"


def run(*arguments: object) -> int:
    return main(["convert", *map(str, arguments)])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.caffemodel"
    path.write_bytes((DATA / "convnet" / "v2.caffemodel").read_bytes())
    return path


def test_generations_and_hdf5_round_trip(model: Path, tmp_path: Path) -> None:
    v1, h5, back = tmp_path / "v1.caffemodel", tmp_path / "x.caffemodel.h5", tmp_path / "b.npz"
    assert run(model, v1, "--format", "caffemodel-v1") == 0
    assert load_weights(v1).generation == "V1"
    assert run(v1, h5) == 0
    assert run(h5, back) == 0
    original, found = load_weights(model), load_weights(back)
    for layer in original.values():
        for a, b in zip(layer.blobs, found[layer.name].blobs if layer.blobs else [], strict=True):
            assert a.shape == b.shape
            assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("generation", ["v1", "v0"])
def test_old_generations_become_todays(generation: str, tmp_path: Path) -> None:
    target = tmp_path / "new.caffemodel"
    assert run(DATA / "convnet" / f"{generation}.caffemodel", target) == 0
    assert load_weights(target).generation == "V2"


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        ([], "net.safetensors"),
        (["--to", "torch"], "net.pt"),
        (["--format", "npz"], "net.npz"),
        (["--to", "hdf5"], "net.caffemodel.h5"),
    ],
)
def test_default_targets(model: Path, arguments: list[str], written: str) -> None:
    assert run(model, *arguments) == 0
    assert (model.parent / written).exists()


def test_refusals(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "x.caffemodel"
    assert run(model, "--format", "caffemodel-v1") == 1
    assert "source and target are one file" in capsys.readouterr().err
    assert run(tmp_path / "none", target) == 1
    assert "there is no such file" in capsys.readouterr().err
    assert run(model, target, "--to", "nzp") == 2
    assert "unknown form of a model 'nzp'; did you mean 'npz'?" in capsys.readouterr().err
    assert run(model, tmp_path / "x.onyx") == 1
    assert "unknown file name suffix '.onyx'" in capsys.readouterr().err
    assert run(DATA / "convnet" / "v2.caffemodel.h5", target, "--format", "caffemodel-v1") == 1
    assert "has no type in the file it was read from" in capsys.readouterr().err
    assert not target.exists()


@pytest.mark.parametrize("source", ["many.npz", "many.pt"])
@pytest.mark.parametrize("target", ["out.caffemodel", "out.caffemodel.h5"])
def test_more_axes_than_a_blob_has_are_refused_before_anything_is_written(
    source: str, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = (1,) * 32 + (2,)
    if source.endswith(".npz"):
        if np.lib.NumpyVersion(np.__version__) < "2.0.0":
            pytest.skip("arrays of numpy 1 have at most 32 axes")
        np.savez(tmp_path / source, **{"fc/0": np.ones(shape)})  # type: ignore[arg-type]
    else:
        torch.save({"fc.weight": torch.ones(shape)}, tmp_path / source)
    path = tmp_path / target
    path.write_bytes(b"as it was")
    assert main(["convert", str(tmp_path / source), str(path), "--force"]) == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert path.read_bytes() == b"as it was"
    if np.lib.NumpyVersion(np.__version__) < "2.0.0":
        assert "has 33 axes, more than an array of numpy 1" in error
        return
    assert "layer 'fc', blob 0 has 33 axes, but Caffe's blobs have at most 32; write .npz" in error
    assert main(["convert", str(tmp_path / source), str(tmp_path / "out.npz")]) == 0


def test_a_model_gives_types_to_hdf5(tmp_path: Path) -> None:
    net, source = tmp_path / "net.prototxt", tmp_path / "x.caffemodel.h5"
    net.write_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
        'layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y"\n'
        "  inner_product_param { num_output: 4 } }\n"
    )
    blobs = [np.arange(12, dtype=np.float32).reshape(4, 3), np.ones(4, np.float32)]
    save_weights(Weights([LayerWeights("fc", "", blobs)]), source)
    target = tmp_path / "v1.caffemodel"
    assert run(source, target, "--model", net, "--format", "caffemodel-v1") == 0
    layer = load_weights(target)["fc"]
    assert (layer.type, layer.blobs[0].shape) == ("InnerProduct", (1, 1, 4, 3))


def test_batch_norm_of_nvcaffe(tmp_path: Path) -> None:
    blobs = [np.full(count, 2, np.float32) for count in (3, 3, 1, 3, 3)]
    source, target = tmp_path / "nv.caffemodel", tmp_path / "bvlc.caffemodel"
    save_weights(Weights([LayerWeights("bn", "BatchNorm", blobs)]), source)
    assert run(source, target, "--bvlc-batch-norm") == 0
    assert list(load_weights(target)) == ["bn", "bn_scale"]


def test_a_damaged_result_is_noticed(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from caffecompat.export.convert import weight_files

    def damaging(weights: Weights, path: Path, **options: object) -> None:
        other = Weights(
            [LayerWeights(x.name, x.type, [b + 1 for b in x.blobs]) for x in weights.layers]
        )
        save_weights(other, path)

    monkeypatch.setattr(weight_files, "save_weights", damaging)
    assert run(model, tmp_path / "x.caffemodel") == 1
    assert "differs from what was written" in capsys.readouterr().err


class TestLoadingLines:
    """The lines that are shown load the file, pasted as they are."""

    NET = """
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
        layer { name: "one" type: "InnerProduct" bottom: "x" top: "y"
                inner_product_param { num_output: 4 } }
        layer { name: "two.b" type: "InnerProduct" bottom: "y" top: "z"
                inner_product_param { num_output: 2 } }"""

    @pytest.fixture
    def files(self, tmp_path: Path) -> tuple[Path, Path]:
        definition = tmp_path / "net.prototxt"
        definition.write_text(self.NET)
        source = tmp_path / "net's.caffemodel"
        caffecompat.Net(definition, seed=3).save(source)
        return definition, source

    def test_in_plain_torch(
        self, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        definition, source = files
        assert run(source, "--model", definition, "--to", "torch") == 0
        out = capsys.readouterr().out
        assert "4 arrays equal bit for bit" in out
        assert "keys: one.weight, one.bias, two%2Eb.weight, ... (4)" in out
        found: dict[str, Any] = {}
        exec("\n".join(line[2:] for line in out.splitlines() if line.startswith("  ")), found)
        plain = torch.nn.Linear(3, 4)
        plain.load_state_dict(
            {k.removeprefix("one."): v for k, v in found["state"].items() if "one." in k}
        )
        expected = caffecompat.Net(definition, seed=3).state_dict()
        assert list(found["state"]) == list(expected)
        assert torch.equal(plain.weight, expected["one.weight"])
        call = out.partition("in caffecompat: ")[2]
        net = eval(call, {"caffecompat": caffecompat})
        assert torch.equal(net.state_dict()["two%2Eb.bias"], expected["two%2Eb.bias"])

    def test_in_numpy(self, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
        assert run(files[1], "--format", "npz") == 0
        out = capsys.readouterr().out
        assert "keys: one/0, one/1, two.b/0, ... (4)" in out
        found: dict[str, Any] = {}
        exec("\n".join(line[2:] for line in out.splitlines() if line.startswith("  ")), found)
        assert found["arrays"]["one/0"].shape == (4, 3)

    def test_in_caffe(
        self, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        definition, source = files
        state = tmp_path / "folder" / "other.pt"
        state.parent.mkdir()
        torch.save({"one.weight": torch.zeros(4, 3), "one.bias": torch.zeros(4)}, state)
        assert run(state) == 0
        out = capsys.readouterr().out
        assert f"in Caffe: caffe test -model NET.prototxt -weights {state.parent}/other" in out
        assert "1 layer with parameters, 16 values" in out
        assert "--model NET.prototxt adds them" in out
        assert run(source, tmp_path / "new.caffemodel", "--model", definition) == 0
        out = capsys.readouterr().out
        assert f"-model {definition} -weights {tmp_path}/new.caffemodel" in out
        assert "adds them" not in out
