"""A training on ranks, and what it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.solver.small import write_training

# Every way that a loss can be divided, losses that are read, shared parameters, a parameter that
# does not learn, dropout and random crops.
NET = """
name: "ranked"
layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: TRAIN }}
  data_param {{ source: "{folder}/train_lmdb" backend: LMDB batch_size: 7 }}
  transform_param {{ crop_size: 5 mirror: true scale: 0.0078125 mean_value: 110 }} }}
layer {{ name: "tested" type: "Data" top: "data" top: "label" include {{ phase: TEST }}
  data_param {{ source: "{folder}/train_lmdb" backend: LMDB batch_size: 4 }}
  transform_param {{ crop_size: 5 scale: 0.0078125 mean_value: 110 }} }}
layer {{ name: "noise" type: "DummyData" top: "noise"
  dummy_data_param {{ shape {{ dim: [{batch}, 3] }}
    data_filler {{ type: "gaussian" std: 1 }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
  param {{ lr_mult: 1 decay_mult: 1 }} param {{ lr_mult: 0 }}
  convolution_param {{ num_output: 4 kernel_size: 3 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" }}
layer {{ name: "drop" type: "Dropout" bottom: "conv" top: "conv"
  dropout_param {{ dropout_ratio: 0.4 }} }}
layer {{ name: "score" type: "InnerProduct" bottom: "conv" top: "score"
  param {{ name: "shared" }} param {{ name: "bias" }}
  inner_product_param {{ num_output: 3 weight_filler {{ type: "gaussian" std: 0.1 }} }} }}
layer {{ name: "half" type: "Power" bottom: "conv" top: "half" power_param {{ scale: 0.5 }} }}
layer {{ name: "other" type: "InnerProduct" bottom: "half" top: "other"
  param {{ name: "shared" }} param {{ name: "bias" }}
  inner_product_param {{ num_output: 3 }} }}
layer {{ name: "valid" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "valid"
  loss_param {{ ignore_label: 2 }} }}
layer {{ name: "full" type: "SoftmaxWithLoss" bottom: "other" bottom: "label" top: "full"
  loss_param {{ ignore_label: 0 normalization: FULL }} loss_weight: 0.5 }}
layer {{ name: "rows" type: "SigmoidCrossEntropyLoss" bottom: "score" bottom: "noise" top: "rows"
  loss_weight: 0.1 }}
layer {{ name: "none" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "none"
  loss_param {{ normalization: NONE }} loss_weight: 0.02 }}
layer {{ name: "near" type: "EuclideanLoss" bottom: "other" bottom: "noise" top: "near"
  loss_weight: 0.05 }}
layer {{ name: "total" type: "Reduction" bottom: "score" top: "total"
  reduction_param {{ operation: SUMSQ }} loss_weight: 0.01 }}
layer {{ name: "mean" type: "Reduction" bottom: "other" top: "mean"
  reduction_param {{ operation: MEAN }} loss_weight: 0.3 }}
layer {{ name: "each" type: "Reduction" bottom: "other" top: "each"
  reduction_param {{ axis: 1 operation: SUMSQ }} loss_weight: 0.01 }}
layer {{ name: "quarter" type: "Power" bottom: "valid" top: "quarter"
  power_param {{ scale: 0.25 }} loss_weight: 1 }}
layer {{ name: "double" type: "Power" bottom: "near" top: "double"
  power_param {{ scale: 2 }} loss_weight: 0.1 }}
layer {{ name: "accuracy" type: "Accuracy" bottom: "score" bottom: "label" top: "accuracy" }}
"""


SOLVER = """
net: "{folder}/net.prototxt"
test_iter: 2 test_interval: 4
base_lr: 0.05 lr_policy: "plateau" gamma: 0.5 plateau_winsize: 2
momentum: 0.9 weight_decay: 0.01 iter_size: 2 clip_gradients: 4
display: 1 average_loss: 3 max_iter: 12
snapshot: 4 snapshot_prefix: "{folder}/{prefix}" random_seed: 7
"""


def write(folder: Path, prefix: str, more: str = "") -> str:
    if not folder.exists():
        write_training(folder)
        net = NET.format(folder=folder, batch="{batch}").replace("{batch}", "7")
        # The noise of the test net has the rows of its data.
        train = net.replace('top: "noise"\n', 'top: "noise" include { phase: TRAIN }\n', 1)
        start = train.index('layer { name: "noise"')
        block = train[start : train.index('layer { name: "conv"')]
        tested = block.replace("TRAIN", "TEST").replace("[7, 3]", "[4, 3]")
        (folder / "net.prototxt").write_text(train.replace(block, block + tested))
    path = folder / f"{prefix}.solver.prototxt"
    path.write_text(SOLVER.format(folder=folder, prefix=prefix) + more)
    return str(path)


def a_run(out: Path, ranks: int, solver: str, steps: int = 6, **more: Any) -> dict[str, Any]:
    run = {"ranks": ranks, "solver": solver, "steps": steps, "out": str(out)}
    return {**run, "what": "train", "snapshot": None, "options": {}, **more}


def seen(out: Path) -> dict[str, np.ndarray]:
    with np.load(out) as archive:
        return {key: archive[key] for key in archive.files}


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if key.startswith("feed/"):
            np.testing.assert_array_equal(found[key], value, key)
        else:
            scale = np.abs(value).max()
            np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-5 * scale, err_msg=key)
