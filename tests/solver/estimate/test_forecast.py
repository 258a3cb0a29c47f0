"""What a training needs, said in advance; smaller batches with the same updates; labels."""

from __future__ import annotations

import re
from pathlib import Path

import lmdb
import numpy as np
import pytest
import torch

from caffecompat.cli.main import main
from caffecompat.errors import DataError, SolverError
from caffecompat.net import Net
from caffecompat.net.allocation import available
from caffecompat.proto import schema
from caffecompat.reporting.units import format_memory as size
from caffecompat.solver import Solver
from caffecompat.solver.estimate.memory import footprint
from caffecompat.solver.setup.compute import ComputeOptions
from tests.solver.estimate.plain_run import little_memory, write_plain
from tests.solver.log.caffe_log import Lines
from tests.solver.peak_memory import PeakMemory
from tests.solver.small import write_training


def test_what_is_coming(tmp_path: Path, lines: Lines) -> None:
    Solver(write_training(tmp_path / "run"), forecast=True)
    data, memory, snapshots = lines.containing("Forecast:")
    assert data == (
        "Forecast: 6 images per iteration, 11 per epoch (1.83333 iterations); "
        "max_iter 12 is 6.54545 epochs"
    )
    # 4x3x3x3 + 4 weights, 3x36 + 3, and 4 + 4 + 1 statistics, which learn nothing.
    parameters = 4 * (108 + 4 + 108 + 3 + 9)
    assert f"parameters {size(parameters)}, gradients {size(parameters - 36)}" in memory
    assert f"history {size(parameters)}, " in memory
    assert " free" in memory
    assert snapshots.startswith(f"Forecast: 3 snapshot(s) of {size(2 * parameters)}, ")


def test_a_full_disk_is_foreseen(
    tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caffecompat.solver.estimate.forecast._free_disk", lambda prefix: 100)
    Solver(write_training(tmp_path / "run"), forecast=True)
    assert lines.containing("but only 100 B are free on the disk; ")


KEEPING = """
layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ dim: [5, 3, 10, 12] }} }} }}
layer {{ name: "c" type: "Convolution" bottom: "x" top: "c"
  convolution_param {{ num_output: 8 kernel_size: 3 pad: 1 }} }}
{more}
"""


@pytest.mark.parametrize(
    ("more", "kept"),
    [
        # The convolution keeps its input, the backward pass needs the output's gradient too.
        ("", 5 * 3 * 120 + 5 * 8 * 120),
        # A sigmoid keeps what it gives, but a convolution does not.
        (
            'layer { name: "s" type: "Sigmoid" bottom: "c" top: "s" }',
            5 * 3 * 120 + 5 * 8 * 120,
        ),
    ],
)
def test_memory_follows_what_autograd_keeps(more: str, kept: int, tmp_path: Path) -> None:
    path = tmp_path / "n.prototxt"
    path.write_text(KEEPING.format(more="") + more)
    net = Net(path, shapes_only=True)
    need = footprint(net, history_slots=2, scratch=True)
    weights = 4 * (8 * 3 * 9 + 8)
    assert (need.parameters, need.gradients, need.history) == (weights, weights, 2 * weights)
    assert 4 * kept <= need.activations <= 4 * (kept + 3 * 5 * 8 * 120) + weights
    assert need.total == need.fixed + max(need.activations, weights)
    assert not any(parameter.requires_grad for parameter in net.parameters())


MIDDLING = """
layer {{ name: "d" type: "DummyData" top: "x" top: "label" dummy_data_param {{
  shape {{ dim: [6, 3, 48, 40] }} shape {{ dim: 6 }} data_filler {{ type: "gaussian" std: 1 }}
  data_filler {{ type: "constant" value: 1 }} }} }}
layer {{ name: "c1" type: "Convolution" bottom: "x" top: "c1"
  convolution_param {{ num_output: 16 kernel_size: 3 pad: 1 weight_filler {{ type: "msra" }} }} }}
{more}
layer {{ name: "r1" type: "ReLU" bottom: "c1" top: "c1" }}
layer {{ name: "c2" type: "Convolution" bottom: "c1" top: "c2"
  convolution_param {{ num_output: 24 kernel_size: 3 pad: 1 weight_filler {{ type: "msra" }} }} }}
layer {{ name: "r2" type: "ReLU" bottom: "c2" top: "c2" }}
layer {{ name: "p" type: "Pooling" bottom: "c2" top: "p"
  pooling_param {{ pool: MAX kernel_size: 2 stride: 2 }} }}
layer {{ name: "f" type: "InnerProduct" bottom: "p" top: "f"
  inner_product_param {{ num_output: 50 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "drop" type: "Dropout" bottom: "f" top: "f" }}
layer {{ name: "s" type: "InnerProduct" bottom: "f" top: "s"
  inner_product_param {{ num_output: 7 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "s" bottom: "label" top: "loss" }}
"""
NORMALISED = """
layer { name: "n" type: "BatchNorm" bottom: "c1" top: "c1" }
layer { name: "a" type: "Scale" bottom: "c1" top: "c1" scale_param { bias_term: true } }
"""
LOCAL = 'layer { name: "l" type: "LRN" bottom: "c1" top: "c1" lrn_param { local_size: 5 } }'


@pytest.mark.parametrize(
    ("more", "precision"),
    [("", "fp32"), (NORMALISED, "fp32"), (LOCAL, "fp32"), ("", "bf16"), (NORMALISED, "bf16")],
    ids=["plain", "normalised", "local", "plain bf16", "normalised bf16"],
)
def test_memory_is_as_foreseen(more: str, precision: str, tmp_path: Path) -> None:
    """Within 15 %, measured storage by storage while a pass runs."""
    path = tmp_path / "n.prototxt"
    path.write_text(MIDDLING.format(more=more))
    net, mode = Net(path, phase="train"), ComputeOptions(precision)
    mode.prepare(net, train=True)

    def run(index: int) -> None:
        with mode.forward(net.device):
            result = net.run(index)
        result.loss.backward()

    run(0)
    known = [tensor for entry in net.learnable for tensor in (entry.tensor, entry.tensor.grad)]
    with PeakMemory(tensor for tensor in known if tensor is not None) as memory:
        run(1)
    shapes = Net(path, phase="train", shapes_only=True)
    mode.prepare(shapes, train=True)
    need = footprint(shapes, history_slots=1, scratch=False, half=mode.half)
    assert need.activations == pytest.approx(memory.peak, rel=0.15)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_memory_on_a_gpu_is_as_foreseen(precision: str, tmp_path: Path) -> None:
    # Large, since the workspaces of torch's libraries are no part of the forecast.
    text = MIDDLING.format(more="").replace("dim: [6, 3", "dim: [2048, 3")
    net, solver_path = tmp_path / "net.prototxt", tmp_path / "solver.prototxt"
    net.write_text(text.replace("dim: 6 }", "dim: 2048 }"))
    solver_path.write_text(f'net: "{net}" base_lr: 0.01 lr_policy: "fixed" momentum: 0.9')
    before = torch.cuda.memory_allocated()
    # The forecast is that of layers one by one.
    solver = Solver(
        solver_path,
        device="cuda",
        precision=precision,
        fused=False,
        kernels=False,
        cuda_graph=False,
    )
    solver.step(1)
    torch.cuda.reset_peak_memory_stats()
    solver.step(2)
    found = torch.cuda.max_memory_allocated() - before
    shapes = Net(net, phase="train", shapes_only=True)
    need = footprint(shapes, history_slots=1, scratch=False, half=ComputeOptions(precision).half)
    assert need.total == pytest.approx(found, rel=0.15)


def test_there_is_some_memory_here() -> None:
    free = available(torch.device("cpu"))
    assert free is None or free > 1 << 20


def test_too_little_memory_is_foreseen(
    tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_plain(tmp_path / "run")
    little_memory(monkeypatch, 0.4)(path)
    Solver(path, forecast=True)
    (warning,) = lines.containing("this training needs about")
    assert "with batch_size 2 and iter_size 6 the gradients are equal and it fits" in warning
    little_memory(monkeypatch, 0.01)(path)
    Solver(path, forecast=True)
    assert lines.containing("not even one image per pass would fit")
    with pytest.raises(SolverError, match=r"--auto-iter-size: .*not even one image"):
        Solver(path, auto_iter_size=True)


@pytest.mark.parametrize("clip", ["", "clip_gradients: 0.3"])
def test_smaller_batches_make_the_same_updates(
    clip: str, tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_plain(tmp_path / "run", f"random_seed: 7 {clip}")
    whole = Solver(path)
    whole.step(9)
    little_memory(monkeypatch, 0.4)(path)
    split = Solver(path, auto_iter_size=True)
    assert lines.containing("--auto-iter-size: batch_size is 2 and iter_size 6 now")
    assert lines.events.count("Effective batch size: 12 (batch size 2 x iter_size 6, on 1 device)")
    assert split.net.blobs["data"].shape[0] == 2
    assert split.test_nets[0].blobs["data"].shape[0] == 2
    split.step(9)
    assert split.loss == pytest.approx(whole.loss, rel=1e-5)
    for ours, theirs in zip(split.net.learnable, whole.net.learnable, strict=True):
        np.testing.assert_allclose(
            ours.tensor.detach(), theirs.tensor.detach(), rtol=1e-4, atol=1e-6
        )
    if clip:
        assert len(lines.containing("Gradient clipping")) == 18


def test_nothing_changes_where_memory_suffices(tmp_path: Path) -> None:
    solver = Solver(write_plain(tmp_path / "run"), auto_iter_size=True)
    assert solver.net.blobs["data"].shape[0] == 6


def test_what_a_pass_sees_as_a_whole_is_said(
    tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_training(tmp_path / "run")
    little_memory(monkeypatch, 0.7)(path)
    Solver(path, forecast=True)
    assert lines.containing(
        "layer 'norm' (BatchNorm) takes its statistics from the whole batch, which will be smaller"
    )


def relabel(path: Path, label: int, at: int) -> None:
    with lmdb.open(str(path)) as environment, environment.begin(write=True) as t:
        key, value = list(t.cursor())[at]
        datum = schema.message_class("Datum").FromString(value)
        datum.label = label
        t.put(key, datum.SerializeToString())


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (
            3,
            "label 3 of 'label' is none of its 3 classes, expected 0 to 2; "
            "the labels of all 11 records reach 3: make num_output 4, or give ignore_label",
        ),
        (-1, "label -1 of 'label' is negative, expected 0 to 2; is ignore_label: -1 missing"),
    ],
)
def test_labels_that_are_no_classes(
    label: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_training(tmp_path / "run")
    relabel(tmp_path / "run" / "train_lmdb", label, 4)
    with pytest.raises(DataError, match=r"layer 'loss' \(SoftmaxWithLoss\): label"):
        Solver(path).solve()
    assert main(["train", "--solver", str(path)]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(errors) == 1
    assert words in errors[0]


def test_a_label_to_ignore_is_not_the_number_of_classes(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run")
    relabel(tmp_path / "run" / "train_lmdb", 255, 9)
    relabel(tmp_path / "run" / "train_lmdb", 7, 0)
    net = tmp_path / "run" / "net.prototxt"
    loss = 'top: "loss" loss_param { ignore_label: 255 }'
    net.write_text(net.read_text().replace('top: "loss"', loss))
    with pytest.raises(DataError, match="the largest label of the data, which is at least 7"):
        Solver(path).solve()


@pytest.mark.parametrize("label", [255, -1])
def test_a_label_that_the_loss_ignores_is_no_class_of_the_accuracy(
    label: int, tmp_path: Path
) -> None:
    """As in SegNet's published definitions: one class more would be the wrong advice."""
    path = write_training(tmp_path / "run")
    relabel(tmp_path / "run" / "train_lmdb", label, 4)
    net = tmp_path / "run" / "net.prototxt"
    text = net.read_text()
    text = text.replace('top: "loss"', f'top: "loss" loss_param {{ ignore_label: {label} }}')
    net.write_text(text.replace('top: "accuracy"\n  include { phase: TEST }', 'top: "accuracy"'))
    with pytest.raises(DataError) as caught:
        Solver(path).solve()
    found = re.search(
        r"layer 'accuracy' .*label -?\d+ of 'label' is none of its 3 classes, and layer 'loss' "
        r"ignores it; add the same to this layer: (.*)$",
        str(caught.value),
    )
    assert found is not None, caught.value
    net.write_text(net.read_text().replace('top: "accuracy"', f'top: "accuracy" {found[1]}'))
    Solver(path).solve()


def test_ignored_labels_are_fine(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run")
    relabel(tmp_path / "run" / "train_lmdb", 255, 4)
    net = tmp_path / "run" / "net.prototxt"
    loss = 'top: "loss" loss_param { ignore_label: 255 }'
    text = net.read_text().replace('top: "loss"', loss)
    net.write_text(
        text.replace('top: "accuracy"', 'top: "accuracy" accuracy_param { ignore_label: 255 }')
    )
    solver = Solver(path)
    solver.solve()
    assert solver.iter == solver.max_iter


def test_sizes_for_people() -> None:
    assert [size(n) for n in (0, 999, 1024, 3 << 29, 5 << 50)] == [
        "0 B", "999 B", "1 KiB", "1.5 GiB", "5.12e+03 TiB",
    ]  # fmt: skip
