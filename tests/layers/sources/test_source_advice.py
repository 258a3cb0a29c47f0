"""A data layer whose files are missing: the commands of its message make the net build and run."""

from __future__ import annotations

import shlex
import subprocess
from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import pytest

from caffecompat.cli.main import main
from caffecompat.data.codec.images import encode_image
from caffecompat.errors import FileProblem, LayerError, ShapesUnknown
from caffecompat.net import Net
from tests.net.nets import saved

pytest.importorskip("cv2")


def command_of(path: Path) -> str:
    """What the message about missing files says to run."""
    with pytest.raises(FileProblem, match="or create the files: ") as caught:
        Net(path, shapes_only=True)
    return str(caught.value).rpartition(", run: ")[2]


def test_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lmdb")
    monkeypatch.chdir(tmp_path)
    path = saved(
        tmp_path,
        """layer { name: "d" type: "Data" top: "data" top: "label"
                   data_param { source: "some_lmdb" batch_size: 2 backend: LMDB } }""",
    )
    command = command_of(path)
    (tmp_path / "IMAGES").mkdir()
    for number in range(2):
        pixels = np.full((5, 6, 3), number + 7, np.uint8)
        (tmp_path / "IMAGES" / f"{number}.png").write_bytes(encode_image(pixels, "png"))
    (tmp_path / "VAL.txt").write_text("0.png 3\n1.png 4\n")
    program, *arguments = shlex.split(command)
    assert program == "caffecompat"
    assert main(arguments) == 0
    with closing(Net(path, shapes_only=True)) as net:
        assert net.blobs["data"].shape == (2, 3, 5, 6)
    with closing(Net(path)) as net:
        found = net.forward()
    assert found["data"][:, 0, 0, 0].tolist() == [7, 8]
    assert found["label"].tolist() == [3, 4]


def test_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = saved(
        tmp_path,
        """layer { name: "rows" type: "HDF5Data" top: "data" top: "label"
                   hdf5_data_param { source: "rows.txt" batch_size: 2 } }""",
    )
    command = command_of(path)
    (tmp_path / "FOLDER").mkdir()
    with h5py.File(tmp_path / "FOLDER" / "one.h5", "w") as file:
        file["data"] = np.ones((4, 3), np.float32)
        file["label"] = np.arange(4, dtype=np.float32)
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
    with closing(Net(path, shapes_only=True)) as net:
        assert net.blobs["data"].shape == (2, 3)
    with closing(Net(path)) as net:
        assert net.forward()["label"].tolist() == [0, 1]


def test_a_net_for_shapes_reads_no_data(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "one.h5", "w") as file:
        file["data"] = np.ones((4, 3), np.float32)
    (tmp_path / "rows.txt").write_text(f"{tmp_path}/one.h5\n")
    path = saved(
        tmp_path,
        f"""layer {{ name: "rows" type: "HDF5Data" top: "data"
                     hdf5_data_param {{ source: "{tmp_path}/rows.txt" batch_size: 2 }} }}""",
    )
    with closing(Net(path, shapes_only=True, shapes={"data": (2, 3)})) as net:
        with pytest.raises(LayerError) as caught:
            net.forward()
        assert str(caught.value).endswith("reads no data; build it without shapes_only to run it")
    with closing(Net(path)) as net:
        assert net.forward()["data"].shape == (2, 3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("new_height: 5", "there is no crop_size, nor new_height and new_width"),
        (
            "new_height: 5 new_width: 6 } transform_param { img_rand_resize_lower: 5 "
            "img_rand_resize_upper: 9",
            "images are resized without a crop_size",
        ),
    ],
)
def test_images_of_unknown_sizes(tmp_path: Path, settings: str, words: str) -> None:
    path = saved(
        tmp_path,
        f"""layer {{ name: "d" type: "ImageData" top: "data"
                     image_data_param {{ source: "none.txt" batch_size: 2 {settings} }} }}""",
    )
    with pytest.raises(ShapesUnknown) as caught:
        Net(path, shapes_only=True)
    assert f"its files are missing, and {words}; state it with --shape data=3x224x224," in str(
        caught.value
    )
    with closing(Net(path, shapes_only=True, shapes={"data": (3, 224, 224)})) as net:
        assert net.blobs["data"].shape == (2, 3, 224, 224)
