"""Old definitions that are refused, changed as the messages say, are upgraded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.proto import files
from caffecompat.proto.text.parser import parse_text
from tests.commands import Run, verb_runner
from tests.solver.small import write_training


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a verb in an empty folder; returns its error, "" when it succeeded."""
    monkeypatch.chdir(tmp_path)
    return verb_runner(capfd)


def net(text: str) -> Any:
    return parse_text(text, "NetParameter")[0]


PADDED = """input: 'x' input_dim: [1, 2, 6, 5]
layers { layer { name: 'p' type: 'padding' pad: 1 } bottom: 'x' top: 'y' %s }
layers { layer { name: 'l' kernelsize: 2 type: %s } bottom: 'y' top: 'z' }"""
# A text, the words that say what to do, and the text as they want it.
NETS = [
    (
        PADDED % ("", "'relu'"),
        "expected a layer that can pad (conv or pool)",
        [PADDED % ("", "'pool'"), PADDED % ("", "'conv' num_output: 3")],
    ),
    (
        PADDED % ("top: 'other'", "'pool'"),
        "both must have one bottom, and the padding layer one top",
        [PADDED % ("", "'pool'")],
    ),
    (
        "input: ['x', 'y'] input_dim: [1, 2, 3, 4, 5]",
        "but there are only 5 input_dim; give 4 for each input",
        ["input: ['x', 'y'] input_dim: [1, 2, 3, 4, 5, 6, 7, 8]"],
    ),
    (
        "input: ['x', 'y'] input_shape { dim: 2 }",
        "but there are only 1 input_shape; add one for each input",
        ["input: ['x', 'y'] input_shape { dim: 2 } input_shape { dim: 3 dim: 4 }"],
    ),
    (
        "input: 'x' input_shape { dim: 2 } layer { name: 'a' type: 'ReLU' bottom: 'x' top: 'y' } "
        "layers { name: 'b' type: RELU bottom: 'y' top: 'z' }",
        "entries, whose order is unknown; write all as layer",
        [
            "input: 'x' input_shape { dim: 2 } layer { name: 'a' type: 'ReLU' bottom: 'x' top: 'y'}"
            " layer { name: 'b' type: 'ReLU' bottom: 'y' top: 'z' }",
        ],
    ),
    (
        "input: 'x' input_dim: [1, 2, 3, 4] layers { layer { name: 'r' type: 'reluu' } "
        "bottom: 'x' top: 'y' }",
        "the first generation had no type 'reluu'; did you mean 'relu'?",
        [
            "input: 'x' input_dim: [1, 2, 3, 4] layers { layer { name: 'r' type: 'relu' } "
            "bottom: 'x' top: 'y' }"
        ],
    ),
]


@pytest.mark.parametrize(("bad", "words", "remedies"), NETS)
def test_old_nets(run: Run, bad: str, words: str, remedies: list[str]) -> None:
    Path("old.prototxt").write_text(bad)
    assert words in run("upgrade-net old.prototxt new.prototxt")
    for good in remedies:
        Path("old.prototxt").write_text(good)
        assert not run("upgrade-net old.prototxt new.prototxt")
        Net("new.prototxt").forward()


def test_names_of_old_nets_that_are_not_utf_8(run: Run) -> None:
    text = "input: 'f?' input_shape { dim: 2 } layers { name: 'r' type: RELU bottom: 'f?' top: 'y'}"
    data = net(text).SerializeToString()
    Path("old.bin").write_bytes(data.replace(b"f?", b"f\xe4"))
    words = "cannot be upgraded; correct it in the prototxt that the file was made from"
    assert words in run("upgrade-net --binary old.bin new.bin")
    Path("made_from.prototxt").write_bytes(text.encode().replace(b"f?", b"f\xe4"))
    assert run("upgrade-net made_from.prototxt new.prototxt")
    Path("made_from.prototxt").write_text(text.replace("f?", "fa"))
    assert not run("upgrade-net made_from.prototxt new.prototxt")
    Net("new.prototxt").forward()


DATA = "net_param { layer { type: 'Data' data_param { batch_size: 48 } } } "
BY_ITER_SIZE = "; replace it by iter_size (batchsize divided by the data layer's batch_size)"
BREAKPOINT = "base_lr: 0.1 breakpoint: 3 "
SOLVERS = [
    (
        "solver_type: ADAM type: 'SGD'",
        "gives both solver_type on line 1 and type ('SGD' on line 1); remove solver_type",
        ["type: 'SGD'"],
    ),
    (
        BREAKPOINT + "lr_policy: 'step'",
        "and lr_policy 'step' or stepvalue says otherwise; remove the one or the other",
        [BREAKPOINT, "base_lr: 0.1 lr_policy: 'step'"],
    ),
    (
        BREAKPOINT + "stepvalue: 5",
        "and lr_policy '' or stepvalue says otherwise; remove the one or the other",
        [BREAKPOINT, "base_lr: 0.1 stepvalue: 5"],
    ),
    (
        BREAKPOINT + "gamma: 0.5",
        'remove gamma, or replace breakpoint by stepvalue and lr_policy: "multistep"',
        [BREAKPOINT, 'base_lr: 0.1 stepvalue: 3 lr_policy: "multistep" gamma: 0.5'],
    ),
    (
        DATA + "iter_size: 2 batchsize: 96",
        "and iter_size are given; remove batchsize",
        [DATA + "iter_size: 2"],
    ),
    (
        DATA + "batchsize: 100",
        "which is no multiple of the data layer's batch of 48; change one of them",
        [DATA + "batchsize: 96", DATA.replace("48", "50") + "batchsize: 100"],
    ),
    ("batchsize: 96", f"needs the train net{BY_ITER_SIZE}", ["iter_size: 2"]),
    (
        "train_net: 'none' batchsize: 96",
        f"){BY_ITER_SIZE}",
        ["train_net: 'none' iter_size: 2"],
    ),
    (
        "net_param { name: 'n' } batchsize: 96",
        f"needs one batch size in the train net, found none{BY_ITER_SIZE}",
        ["net_param { name: 'n' } iter_size: 2"],
    ),
]


@pytest.mark.parametrize(("bad", "words", "remedies"), SOLVERS)
def test_old_solvers(run: Run, bad: str, words: str, remedies: list[str]) -> None:
    Path("old.prototxt").write_text(bad)
    assert words in run("upgrade-solver old.prototxt new.prototxt")
    for good in remedies:
        Path("old.prototxt").write_text(good)
        assert not run("upgrade-solver old.prototxt new.prototxt")


def test_fields_of_2013_that_are_dropped_from_solvers(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_training(tmp_path / "training")
    today = path.read_text().replace("max_iter: 12", "max_iter: 5")
    path.write_text(today + " display_debug: 1 load_solver_state: true snapshot_history_length: 1")
    command = ["train", "--solver", str(path), "--cpu", "--no-log"]
    assert main(command) == 0
    said = "".join(capfd.readouterr())
    assert "dropped display_debug; debug_info: true prints every layer" in said
    words = "dropped load_solver_state; the state to resume from is given to train (--snapshot)"
    assert words in said
    assert "dropped snapshot_history_length; all snapshots are kept" in said
    assert "[Forward] Layer conv" not in said
    path.write_text(today.replace("max_iter: 5", "max_iter: 6") + " debug_info: true")
    assert main([*command, "--snapshot", str(tmp_path / "training/snap_iter_5.solverstate")]) == 0
    said = "".join(capfd.readouterr())
    assert "[Forward] Layer conv" in said
    assert "Iteration 6" in said
    states = {found.name for found in (tmp_path / "training").glob("*.solverstate")}
    assert states == {"snap_iter_5.solverstate", "snap_iter_6.solverstate"}


IMAGES = """layers { layer { name: 'data' type: 'images' source: 'list.txt' batchsize: 2 %s }
  top: 'data' top: 'label' }"""


def test_augmentation_of_2013(run: Run) -> None:
    cv2 = pytest.importorskip("cv2")
    cv2.imwrite("a.png", np.full((30, 20, 3), 7, np.uint8))
    Path("list.txt").write_text("a.png 0\na.png 1\n")
    Path("old.prototxt").write_text(IMAGES % "img_aug_type: 3")
    (words,) = [note for note in files.read_net("old.prototxt")[1].notes if "img_aug" in note]
    advice = "write mirror, crop_size and img_rand_resize_lower/upper in transform_param"
    assert words.endswith(f"the meaning of its values is not public; {advice}")
    Path("old.prototxt").write_text(IMAGES % "")
    assert not run("upgrade-net old.prototxt new.prototxt")
    fields = "mirror: true crop_size: 5 img_rand_resize_lower: 9 img_rand_resize_upper: 11"
    text = Path("new.prototxt").read_text()
    at = text.index("  image_data_param")
    text = f"{text[:at]}  transform_param {{ {fields} }}\n{text[at:]}"
    Path("new.prototxt").write_text(text)
    built = Net("new.prototxt", phase="TRAIN")
    assert built.forward() is not None
    assert built.blobs["data"].data.shape == (2, 3, 5, 5)
