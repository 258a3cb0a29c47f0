"""Sources and writers that are refused, changed as the message says, work."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from caffecompat.data.backends.database import create_database, open_database, resume_database
from caffecompat.data.codec.images import encode_image
from caffecompat.data.loader.open_readers import open_window_reader
from caffecompat.data.read_options import ReadOptions
from caffecompat.data.shard import Shard
from caffecompat.data.sources.selected_records import read_selection
from caffecompat.errors import CaffeError
from caffecompat.weights.mean_file import write_mean
from tests.data.databases import numbered
from tests.data.interrupted_writing import RECORDS, begin
from tests.data.sources.window_files import layer
from tests.net.nets import net


def read_windows(source: str, more: str, transform: str) -> None:
    with open_window_reader(layer(source, more, transform), ReadOptions(1)) as reader:
        reader.batch(0)


@pytest.mark.parametrize(
    ("bad", "words", "remedies"),
    [
        (
            ("context_pad: 5", "crop_size: 9"),
            "leaves nothing of crop_size 9; make it smaller",
            [("context_pad: 4", "crop_size: 9")],
        ),
        (
            ("", "crop_size: 9 mean_value: 1 mean_value: 2"),
            "give one, or one per channel (in B, G, R order)",
            [
                ("", "crop_size: 9 mean_value: 1"),
                ("", "crop_size: 9 mean_value: 1 mean_value: 2 mean_value: 3"),
            ],
        ),
        (
            ("", "crop_size: 9 mean_value: 1 mean_file: 'mean.binaryproto'"),
            "mean_file and mean_value are both given; remove one",
            [
                ("", "crop_size: 9 mean_value: 1"),
                ("", "crop_size: 9 mean_file: 'mean.binaryproto'"),
            ],
        ),
    ],
)
def test_windows(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bad: tuple[str, str],
    words: str,
    remedies: list[tuple[str, str]],
) -> None:
    source = request.getfixturevalue("windows")
    monkeypatch.chdir(tmp_path)
    write_mean(np.ones((3, 9, 9), np.float32), "mean.binaryproto")
    with pytest.raises(CaffeError) as caught:
        read_windows(source, *bad)
    assert words in str(caught.value)
    for good in remedies:
        read_windows(source, *good)


def test_a_batch_smaller_than_the_ranks() -> None:
    with pytest.raises(CaffeError) as caught:
        Shard(0, 3).rows(2, "db")
    assert "make it larger, or use fewer ranks" in str(caught.value)
    assert Shard(0, 3).rows(3, "db") == range(1)
    assert Shard(0, 2).rows(2, "db") == range(1)


def test_an_unfinished_database_of_other_settings(tmp_path: Path) -> None:
    target = tmp_path / "db"
    begin(target, RECORDS)
    with (
        pytest.raises(CaffeError) as caught,
        resume_database(target, "LMDB", "other", True),
    ):
        pass
    words = "give the same ones, or delete it and start again with --overwrite instead of --resume"
    assert words in str(caught.value)
    with resume_database(target, "LMDB", "purpose", True) as writer:
        assert b"1" in writer
    begin(tmp_path / "second", RECORDS)
    with resume_database(tmp_path / "second", "LMDB", "other", False, overwrite=True) as writer:
        writer.write(RECORDS)
    with open_database(tmp_path / "second") as database:
        assert len(database) == len(RECORDS)


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    own = tmp_path / "db.unfinished"
    own.mkdir()
    (own / "photo.jpg").write_bytes(b"mine")
    target = tmp_path / "db"
    with (
        pytest.raises(CaffeError) as caught,
        resume_database(target, "LMDB", "purpose", False),
    ):
        pass
    assert "is not an unfinished database; move it elsewhere" in str(caught.value)
    own.rename(tmp_path / "elsewhere")
    with resume_database(target, "LMDB", "purpose", False) as writer:
        writer.write(RECORDS)
    assert (target / "data.mdb").exists()


def test_keys_longer_than_lmdb_takes(tmp_path: Path) -> None:
    with pytest.raises(CaffeError) as caught, create_database(tmp_path / "db") as writer:
        writer.write([(b"k" * 600, b"value")])
    said = str(caught.value)
    assert "but one has 600; use shorter file names" in said
    longest = int(said.partition("keys of 1 to ")[2].split()[0])
    with create_database(tmp_path / "db") as writer:
        writer.write([(b"k" * longest, b"value")])


def test_encodings() -> None:
    pixels = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(CaffeError) as caught:
        encode_image(pixels, "xyz")
    assert "use png or jpg" in str(caught.value)
    for encoding in ("png", "jpg"):
        assert encode_image(pixels, encoding)


def test_a_list_of_records(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("\n")
    with pytest.raises(CaffeError) as caught:
        read_selection(str(path))
    assert "it names no records; give a key and a label in each line" in str(caught.value)
    path.write_text("00000001_r 4\n")
    assert read_selection(str(path)) == [(b"00000001_r", 4)]


def test_boxes_of_another_image(tmp_path: Path) -> None:
    path = tmp_path / "boxes.txt"
    (tmp_path / "a.png").write_bytes(encode_image(np.zeros((8, 10, 3), np.uint8), "png"))
    text = (
        "layer { name: 'd' type: 'BoxData' top: 'data' top: 'box' transform_param { crop_size: 6 }"
        f" image_data_param {{ source: '{path}' root_folder: '{tmp_path}/' batch_size: 1 }} }}"
    )
    path.write_text("a.png 0 1 1 20 16\n")
    with pytest.raises(CaffeError) as caught:
        net(text).forward()
    words = "so give the images that were annotated, or scale the boxes with them"
    assert words in str(caught.value)
    path.write_text("a.png 0 1 1 10 8\n")
    net(text).forward()
    path.write_text("a.png 0 1 1 20 16\n")
    (tmp_path / "a.png").write_bytes(encode_image(np.zeros((16, 20, 3), np.uint8), "png"))
    net(text).forward()


def test_rows_of_several_sizes(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    for name, size in (("a", 3), ("b", 4), ("c", 3)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["data"] = np.ones((2, size), np.float32)
    text = (
        "layer { name: 'one' type: 'HDF5Data' top: 'data' "
        f"hdf5_data_param {{ source: '{tmp_path}/files.txt' batch_size: 4 }} }}"
    )

    def run(*names: str) -> None:
        (tmp_path / "files.txt").write_text("".join(f"{tmp_path}/{name}.h5\n" for name in names))
        net(text).forward()

    with pytest.raises(CaffeError) as caught:
        run("a", "b")
    assert "rows of one size" in str(caught.value)
    run("a", "c")


def test_rows_that_are_packed_tightly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    h5py = pytest.importorskip("h5py")
    monkeypatch.setattr("caffecompat.data.sources.hdf5_rows._MIN_LIMIT", 1 << 16)
    monkeypatch.setattr("caffecompat.data.sources.hdf5_rows.CLAIM_ALLOWANCE", 1 << 16)
    rows = np.arange(20) * np.ones((4000, 1))

    def write(name: str, values: np.ndarray, **packing: int | str) -> None:
        with h5py.File(tmp_path / name, "w") as file:
            file.create_dataset("data", data=values.astype(np.uint8), **packing)

    def run(*names: str) -> list[float]:
        (tmp_path / "files.txt").write_text("".join(f"{tmp_path}/{name}\n" for name in names))
        built = net(
            "layer { name: 'one' type: 'HDF5Data' top: 'data' "
            f"hdf5_data_param {{ source: '{tmp_path}/files.txt' batch_size: 4000 }} }}"
        )
        built.forward()
        return [float(value) for value in np.asarray(built.blobs["data"].data).sum(0)]

    wanted = [4000.0 * column for column in range(20)]
    write("old.h5", rows, compression=9)
    with pytest.raises(CaffeError) as caught:
        run("old.h5")
    words = (
        "if you trust the file, write it without compression (h5repack -f NONE old.h5 new.h5) or "
        "divide its rows among several files"
    )
    assert words in str(caught.value)
    for k in range(4):
        write(f"part{k}.h5", rows[k * 1000 : (k + 1) * 1000], compression=9)
    assert run(*(f"part{k}.h5" for k in range(4))) == wanted
    if shutil.which("h5repack") is None:
        write("new.h5", rows)
    else:
        command = shlex.split("h5repack -f NONE old.h5 new.h5")
        subprocess.run(command, check=True, cwd=tmp_path)
    assert run("new.h5") == wanted


def test_a_file_that_is_no_lmdb(tmp_path: Path) -> None:
    good = numbered(tmp_path / "good", 2)
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "data.mdb").write_bytes(bytes(8192))
    with pytest.raises(CaffeError) as caught:
        open_database(copy)
    assert "; copy it again, or create it again" in str(caught.value)
    (copy / "data.mdb").write_bytes(Path(good, "data.mdb").read_bytes())
    with open_database(copy) as database:
        assert len(database) == 2
    shutil.rmtree(copy)
    with open_database(numbered(copy, 3)) as database:
        assert len(database) == 3
