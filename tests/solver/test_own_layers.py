"""A user's own layer types are treated as built-in ones: ranks, labels, fields, batches."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from caffecompat.cli.main import main
from caffecompat.data.shard import Shard
from caffecompat.errors import DataError
from caffecompat.layers import ReceptiveField
from caffecompat.net import Net
from caffecompat.net.analysis.receptive_field import receptive_fields
from caffecompat.proto.text.parser import parse_text
from caffecompat.solver import Solver
from caffecompat.solver.diagnostics.label_check import check_labels
from caffecompat.solver.distributed.loss_sharding import sharding_warnings
from caffecompat.solver.setup.net_plans import NetPlanner, planned_batch, scaled_plan
from caffecompat.solver.setup.settings import read_settings
from tests.solver import own_layers
from tests.solver.distributed.rank_processes import RankProcesses
from tests.solver.distributed.small_run import a_run, assert_same, seen
from tests.solver.small import write_training

assert own_layers

NET = """
name: "own"
layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: TRAIN }}
  data_param {{ source: "{folder}/train_lmdb" backend: LMDB batch_size: 7 }}
  transform_param {{ crop_size: 5 mirror: true scale: 0.0078125 mean_value: 110 }} }}
layer {{ name: "score" type: "InnerProduct" bottom: "data" top: "score"
  inner_product_param {{ num_output: 3 weight_filler {{ type: "gaussian" std: 0.1 }} }} }}
{losses}
"""
SOLVER = """
net: "{folder}/net.prototxt"
base_lr: 0.05 lr_policy: "fixed" momentum: 0.9 display: 1 max_iter: 6 random_seed: 7
snapshot_after_train: false
"""


def loss(type_name: str, weight: float = 0.1) -> str:
    return (
        f'layer {{ name: "{type_name}" type: "{type_name}" bottom: "score" bottom: "label" '
        f'top: "{type_name}" loss_weight: {weight} }}'
    )


def write(folder: Path, losses: str) -> str:
    write_training(folder)
    (folder / "net.prototxt").write_text(NET.format(folder=folder, losses=losses))
    path = folder / "own.solver.prototxt"
    path.write_text(SOLVER.format(folder=folder))
    return str(path)


def test_losses_on_two_ranks(tmp_path: Path, rank_processes: RankProcesses) -> None:
    """A sum stays a sum, and a mean is one over the whole batch, for any slices."""
    types = ("OwnSumLoss", "OwnMeanLoss", "OwnCountedLoss", "OwnSilentLoss")
    solver = write(tmp_path / "run", "\n".join(loss(name) for name in types))
    outs = [tmp_path / "one.npz", tmp_path / "two.npz"]
    rank_processes.carry_out(tmp_path, a_run(outs[0], 1, solver), a_run(outs[1], 2, solver))
    one, two = seen(outs[0]), seen(outs[1])
    assert np.abs(one["shown"]).min() > 0
    assert_same(two, one)


def net_of(*layers: str, text: str = "") -> Net:
    source = """layer { name: "in" type: "Input" top: "data" top: "label"
      input_param { shape { dim: 4 dim: 3 } shape { dim: 4 } } }
    layer { name: "score" type: "InnerProduct" bottom: "data" top: "score"
      inner_product_param { num_output: 3 } }"""
    return Net(parse_text(source + "\n".join(layers) + text, "NetParameter")[0], phase="train")


def test_environment_of_the_ranks() -> None:
    assert sharding_warnings(net_of(loss("OwnSumLoss"), loss("OwnMeanLoss"))) == []
    (silent,) = sharding_warnings(net_of(loss("OwnSilentLoss")))
    assert silent == (
        "layer 'OwnSilentLoss' (OwnSilentLoss) gives a loss and does not say how it depends on the "
        "size of the batch; it is taken for a mean over the batch"
    )
    centred = 'layer { name: "c" type: "OwnCentred" bottom: "score" top: "c" }'
    (coupled,) = sharding_warnings(net_of(centred))
    assert coupled == (
        "layer 'c' (OwnCentred) subtracts the mean of the whole batch, of which each rank has a "
        "slice: its results are not those of one device"
    )
    normalised = 'layer { name: "n" type: "BatchNorm" bottom: "score" top: "n" }'
    (statistics,) = sharding_warnings(net_of(normalised))
    assert statistics.endswith("; the statistics that are saved are those of rank 0")


def test_what_is_made_from_a_loss_is_no_other_loss() -> None:
    """A weighted number of a layer that reads a loss is a part already."""
    read = 'layer { name: "p" type: "Power" bottom: "OwnSumLoss" top: "p" loss_weight: 1 }'
    (sentence,) = sharding_warnings(net_of(loss("OwnSumLoss"), read))
    assert "another layer reads its loss" in sentence


def test_a_number_with_a_weight_is_a_loss() -> None:
    """For any loss_reduction of its type, and without one."""
    own = net_of(
        'layer { name: "r" type: "Reduction" bottom: "score" top: "r" loss_weight: 1 }',
        'layer { name: "p" type: "Parameter" top: "p" loss_weight: 1 }',
    )
    (sentence,) = sharding_warnings(own)
    assert sentence.startswith("layer 'p' (Parameter) gives a loss and does not say")


def test_smaller_batches_are_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    solver = write(tmp_path / "run", loss("OwnSumLoss"))
    monkeypatch.setattr("caffecompat.solver.estimate.auto_iter_size.available", lambda device: 5500)
    assert main(["train", "--solver", solver, "--auto-iter-size"]) == 0
    said = capsys.readouterr().err
    assert "batch_size is 1 and iter_size 7 now" in said
    assert (
        "layer 'OwnSumLoss' (OwnSumLoss) adds up its batch, but passes are averaged: its loss "
        "counts less"
    ) in said


def test_labels_of_an_own_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels are 0 to 2, and 2 is ignored unless the layer says otherwise."""
    solver = write(tmp_path / "run", loss("OwnCountedLoss"))
    assert check_labels(Net(tmp_path / "run" / "net.prototxt", phase="train"), 0) == []
    monkeypatch.setattr(own_layers.OwnCountedLoss, "ignored", None)
    with pytest.raises(DataError, match=r"OwnCountedLoss.*: label 2 of 'label' is none of its 2"):
        Solver(solver).solve()


def test_receptive_fields_of_own_layers() -> None:
    text = """
    layer { name: "in" type: "Input" top: "x"
      input_param { shape { dim: [1, 2, 9, 8] } } }
    layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
      convolution_param { num_output: 2 kernel_size: 3 } }
    layer { name: "c" type: "OwnCentred" bottom: "conv" top: "c" }
    layer { name: "wide" type: "OwnShift" bottom: "c" top: "wide" }
    layer { name: "end" type: "OwnUnsaid" bottom: "wide" top: "end" }
    """
    net = Net(parse_text(text, "NetParameter")[0], shapes_only=True)
    rows = dict(zip([b.name for b in net.layers], receptive_fields(net.layers), strict=True))
    assert str(rows["c"].field) == "3 /1"
    assert rows["wide"].field == ReceptiveField((7, 3), (Fraction(2), Fraction(1)))
    assert "its type does not define a field" in rows["end"].reason


DATA = """
layer { name: "d" type: "OwnData" top: "x" data_param { batch_size: 5 } }
layer { name: "score" type: "InnerProduct" bottom: "x" top: "score"
  inner_product_param { num_output: 2 } }
layer { name: "loss" type: "Reduction" bottom: "score" top: "loss" loss_weight: 1 }
"""


def test_batches_of_an_own_source() -> None:
    """Ranks get their rows of it, and its batch is found and multiplied in its definition."""
    definition = parse_text(DATA, "NetParameter")[0]
    whole = Net(definition, phase="train").feeds(1)[0]
    parts = [Net(definition, phase="train", shard=Shard(rank, 2)) for rank in range(2)]
    assert [len(part.feeds(1)[0]) for part in parts] == [2, 3]
    np.testing.assert_array_equal(np.concatenate([part.feeds(1)[0] for part in parts]), whole)
    assert [part.samples and part.samples.total for part in parts] == [5, 5]
    text = f'net_param {{ {DATA} }} base_lr: 1 lr_policy: "fixed"'
    plan = NetPlanner(read_settings(parse_text(text, "SolverParameter")[0])).train_net()
    assert planned_batch(plan) == 5
    assert planned_batch(scaled_plan(plan, Fraction(3))) == 15
