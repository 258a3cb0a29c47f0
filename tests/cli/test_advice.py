"""The advice of messages about missing inputs, followed to the letter until the job runs.

Each test gives a command to a user who has images on disk and nothing else, takes the command line
out of the message, puts the names of the images and lists in the place of its capital letters,
runs it as a shell would, and comes back.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from caffecompat.cli.main import main
from caffecompat.data.advice import suggested_side
from caffecompat.data.backends.database import open_database
from caffecompat.data.codec.datum import decode_datum, parse_datum
from tests.commands import outcome

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a verb in an empty folder with images; returns its error, empty when it succeeded."""
    monkeypatch.chdir(tmp_path)
    write_images()

    def call(*words: str) -> str:
        code, _, error = outcome(words, capfd)
        errors = [line for line in error.splitlines() if "error: " in line]
        assert (code == 0) == (not errors), error
        assert len(errors) <= 1
        return errors[0] if errors else ""

    return call


def write_images() -> None:
    """Photographs of several sizes in two classes, one of them gray, and their lists."""
    lines = []
    for number in range(12):
        name = f"{'cat' if number % 2 else 'dog'}/{number}.jpg"
        (Path("photos") / name).parent.mkdir(parents=True, exist_ok=True)
        channels = () if number == 5 else (3,)
        size = (30 + 7 * number, 90 - 5 * number, *channels)
        pixels = np.random.default_rng(number).integers(0, 256, size, np.uint8)
        assert cv2.imwrite(f"photos/{name}", pixels)
        lines.append(f"{name} {number % 2}\n")
    Path("train_list").write_text("".join(lines[:8]))
    Path("val_list").write_text("".join(lines[8:]))


def follow(message: str) -> str:
    """Runs the command that a message ends with; returns it."""
    found = re.search(r"run: (.*)$", message)
    assert found is not None, message
    command = found[1]
    for word, given in (
        ("IMAGES/", "photos/"),
        ("TRAIN.txt", "train_list"),
        ("VAL.txt", "val_list"),
        ("LIST.txt", "train_list"),
        ("FOLDER/", "tables/"),
    ):
        command = command.replace(word, given)
    for part in command.split(" && "):
        program, *words = shlex.split(part)
        # Verbs are run here, as a new Python for each takes long.
        if program == "caffecompat":
            assert main(words) == 0, part
        else:
            subprocess.run(part, shell=True, check=True)
    return command


LAYERS = """
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


def data_layer(phase: str, source: str, transform: str, backend: str = "backend: LMDB") -> str:
    return (
        f'layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: {phase} }} '
        f"transform_param {{ {transform} }} "
        f'data_param {{ source: "{source}" batch_size: 4 {backend} }} }}\n'
    )


def write_net(*data: str) -> None:
    Path("net.prototxt").write_text("".join(data) + LAYERS)
    Path("solver.prototxt").write_text(
        'net: "net.prototxt" test_iter: 1 test_interval: 2 base_lr: 0.0001 lr_policy: "fixed" '
        'max_iter: 2 display: 1 snapshot_prefix: "net" solver_mode: CPU'
    )


TRAIN = ("train", "--solver", "solver.prototxt")


def shapes(path: str) -> set[tuple[int, ...]]:
    with open_database(path) as database:
        return {decode_datum(parse_datum(database.read(n)[1])).shape for n in range(len(database))}


def labels(path: str) -> list[int]:
    with open_database(path) as database:
        return [parse_datum(database.read(n)[1]).label for n in range(len(database))]


def test_the_papers_net_names_both_databases_with_their_scale(run: Run) -> None:
    """As ``train --solver prototxt/solver_D.prototxt``: the net is as large, so it is not built."""
    (Path("prototxt")).symlink_to(ROOT / "prototxt")
    message = run("train", "--solver", "prototxt/solver_D.prototxt")
    assert "D_train_val.prototxt:6: layer 'data' (Data): " in message
    assert message.endswith(
        "run: caffecompat convert-imageset --encoded --min-side 256 --shuffle IMAGES/ TRAIN.txt "
        "data/ilsvrc12_train_S256_lmdb && caffecompat convert-imageset --encoded --min-side 256 "
        "IMAGES/ VAL.txt data/ilsvrc12_val_S256_lmdb"
    )
    message = run("train", "--solver", "prototxt/solver_D_multiscale.prototxt")
    assert "--min-side 512 --shuffle IMAGES/ TRAIN.txt data/ilsvrc12_train_S512_lmdb" in message
    assert "--min-side 384 IMAGES/ VAL.txt data/ilsvrc12_val_S384_lmdb" in message


def test_a_net_of_that_kind_trains_after_one_command(run: Run) -> None:
    crop = "crop_size: 28 mean_value: 103 mean_value: 116 mean_value: 123"
    write_net(
        data_layer("TRAIN", "data/small_train_S40_lmdb", f"mirror: true {crop}"),
        data_layer("TEST", "data/small_val_S40_lmdb", crop),
    )
    command = follow(run(*TRAIN))
    assert command.count("convert-imageset") == 2
    assert run(*TRAIN) == ""
    assert all(min(shape[1:]) == 40 for shape in shapes("data/small_train_S40_lmdb"))
    # Shuffled for training, in the order of the list for the test.
    assert labels("data/small_train_S40_lmdb") != [n % 2 for n in range(8)]
    assert labels("data/small_val_S40_lmdb") == [n % 2 for n in range(4)]


def test_the_verb_test_follows_the_same_way(run: Run) -> None:
    crop = "crop_size: 28 mean_value: 100"
    write_net(data_layer("TRAIN", "a_lmdb", crop), data_layer("TEST", "b_lmdb", crop))
    follow(run(*TRAIN))
    assert run(*TRAIN) == ""
    words = ("test", "--model", "net.prototxt", "--iterations", "1")
    for name in ("a_lmdb", "b_lmdb"):
        os.rename(name, f"{name}_old")
    weights = ("--weights", "net_iter_2.caffemodel")
    message = run(*words, *weights)
    assert message.index("VAL.txt b_lmdb") < message.index("TRAIN.txt a_lmdb")
    follow(message)
    assert run(*words, *weights) == ""


def test_summary_of_a_net_whose_database_is_missing(run: Run) -> None:
    write_net(data_layer("TRAIN", "a_lmdb", "crop_size: 28"), data_layer("TEST", "a_lmdb", ""))
    follow(run("summary", "net.prototxt"))
    assert run("summary", "net.prototxt") == ""


def test_a_database_and_its_mean(run: Run) -> None:
    transform = 'crop_size: 28 mean_file: "data/mean.binaryproto"'
    write_net(
        data_layer("TRAIN", "data/a lmdb", transform), data_layer("TEST", "data/b_lmdb", transform)
    )
    message = run(*TRAIN)
    assert "caffecompat compute-image-mean 'data/a lmdb' data/mean.binaryproto" in message
    follow(message)
    assert shapes("data/a lmdb") == {(3, 32, 32)}
    assert run(*TRAIN) == ""
    # The mean alone, into a folder that is not there, and the databases of its size.
    Path("data/mean.binaryproto").unlink()
    assert follow(run(*TRAIN)).count("caffecompat") == 1
    assert run(*TRAIN) == ""
    os.rename("data/a lmdb", "data/old")
    assert "--resize-height 32 --resize-width 32" in follow(run(*TRAIN))
    assert run(*TRAIN) == ""


def test_without_a_crop_images_of_one_size_are_asked_for(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    write_net(data_layer("TRAIN", "a_lmdb", ""), data_layer("TEST", "a_lmdb", ""))
    message = run(*TRAIN)
    with pytest.raises(AssertionError, match="--check-size"):
        follow(message)
    assert "give resize_width and resize_height" in capfd.readouterr().err
    assert not Path("a_lmdb").exists()
    for path in Path("photos").rglob("*.jpg"):
        assert cv2.imwrite(str(path), np.zeros((20, 20, 3), np.uint8))
    follow(message)
    assert run(*TRAIN) == ""


def test_the_backend_of_the_layer(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from caffecompat.data import advice

    write_net(data_layer("TRAIN", "a", "crop_size: 28", ""))
    monkeypatch.setattr(advice.importlib.util, "find_spec", lambda name: object())
    assert run(*TRAIN).endswith("--shuffle --backend leveldb IMAGES/ TRAIN.txt a")
    monkeypatch.setattr(advice.importlib.util, "find_spec", lambda name: None)
    message = run(*TRAIN)
    assert "write 'backend: LMDB' into data_param first" in message
    follow(message)
    write_net(data_layer("TRAIN", "a", "crop_size: 28"), data_layer("TEST", "a", "crop_size: 28"))
    assert run(*TRAIN) == ""


def test_databases_of_caffes_examples_come_from_their_own_files(run: Run) -> None:
    write_net(
        data_layer("TRAIN", "examples/mnist/mnist_train_lmdb", "scale: 0.00390625"),
        data_layer("TEST", "examples/mnist/mnist_test_lmdb", "scale: 0.00390625"),
    )
    for name, count in (("train", 8), ("t10k", 4)):
        sizes = [count.to_bytes(4, "big"), (28).to_bytes(4, "big"), (28).to_bytes(4, "big")]
        head = (2051).to_bytes(4, "big") + b"".join(sizes)
        Path(f"{name}-images-idx3-ubyte").write_bytes(head + bytes(count * 784))
        head = (2049).to_bytes(4, "big") + sizes[0]
        Path(f"{name}-labels-idx1-ubyte").write_bytes(head + bytes(count))
    follow(run(*TRAIN))
    assert run(*TRAIN) == ""
    write_net(
        data_layer("TRAIN", "x/cifar10_train_lmdb", ""),
        data_layer("TEST", "x/cifar10_test_lmdb", ""),
    )
    Path("cifar-10-batches-bin").mkdir()
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        Path(f"cifar-10-batches-bin/{name}.bin").write_bytes(bytes(3073 * 2))
    assert follow(run(*TRAIN)).count("caffecompat") == 1
    assert run(*TRAIN) == ""


@pytest.mark.parametrize("root", ["", "photos/", "photos"])
def test_a_list_of_images_and_its_mean(run: Run, root: str) -> None:
    def layer(phase: str) -> str:
        return (
            'layer { name: "data" type: "ImageData" top: "data" top: "label" '
            f"include {{ phase: {phase} }} transform_param {{ crop_size: 28 "
            'mean_file: "means/mean.binaryproto" } image_data_param { source: "lists/all.txt" '
            f'root_folder: "{root}" batch_size: 4 new_height: 30 new_width: 31 }} }}\n'
        )

    write_net(layer("TRAIN"), layer("TEST"))
    message = run(*TRAIN)
    assert "there is no list of images" in message
    follow(message)
    assert Path("lists/all.txt.labels").read_text() == "cat\ndog\n"
    assert shapes("lists/all_lmdb") == {(3, 30, 31)}
    assert run(*TRAIN) == ""


def test_a_list_of_hdf5_files(run: Run) -> None:
    def layer(phase: str) -> str:
        return (
            f'layer {{ name: "data" type: "HDF5Data" top: "data" top: "label" '
            f"include {{ phase: {phase} }} "
            f'hdf5_data_param {{ source: "lists/{phase.lower()}_h5" batch_size: 4 }} }}\n'
        )

    write_net(layer("TRAIN"), layer("TEST"))
    Path("tables").mkdir()
    with h5py.File("tables/a.h5", "w") as file:
        file["data"] = np.zeros((5, 3), np.float32)
        file["label"] = np.zeros(5, np.float32)
    message = run(*TRAIN)
    assert "lists/train_h5: there is no list of HDF5 files (from " in message
    follow(message)
    assert run(*TRAIN) == ""


def test_the_mean_for_windows(run: Run) -> None:
    Path("windows").write_text(
        "# 0\nphotos/dog/0.jpg\n3\n30\n90\n2\n1 0.9 0 0 20 20\n0 0.1 30 5 60 25\n"
    )
    write_net(
        'layer { name: "data" type: "WindowData" top: "data" top: "label" transform_param { '
        'crop_size: 20 mean_file: "mean.binaryproto" } '
        'window_data_param { source: "windows" batch_size: 2 } }\n'
    )
    message = run(*TRAIN)
    for path in Path("photos").rglob("*.jpg"):
        assert cv2.imwrite(str(path), np.zeros((20, 20, 3), np.uint8))
    assert run("convert-imageset", "photos/", "train_list", "DB") == ""
    follow(message)
    write_images()
    assert run(*TRAIN) == ""


def test_a_test_net_alone_asks_for_the_mean_of_the_training_images(run: Run) -> None:
    write_net(data_layer("TEST", "b_lmdb", 'crop_size: 28 mean_file: "m"'))
    Path("w").touch()
    message = run("test", "--model", "net.prototxt", "--weights", "w", "--iterations", "1")
    assert "DB: the database that the net is trained on" in message
    assert message.endswith("VAL.txt b_lmdb && caffecompat compute-image-mean DB m")


def test_records_smaller_than_the_crop(run: Run) -> None:
    write_net(data_layer("TRAIN", "a", "crop_size: 50"), data_layer("TEST", "a", "crop_size: 50"))
    assert run("convert-imageset", "photos/", "train_list", "a") == ""
    message = run(*TRAIN)
    assert "smaller than crop_size 50; make the database again with larger images" in message
    found = re.search(r"convert-imageset --min-side \d+", message)
    assert found is not None
    os.rename("a", "old")
    assert run(*found[0].split(), "photos/", "train_list", "a") == ""
    assert run(*TRAIN) == ""


@pytest.mark.parametrize(
    ("crop", "side"), [(224, 256), (227, 256), (256, 256), (28, 32), (299, 342)]
)
def test_the_side_for_a_crop(crop: int, side: int) -> None:
    assert suggested_side(crop) == side
