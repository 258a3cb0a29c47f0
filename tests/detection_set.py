"""A made-up detection set of coloured rectangles on noise, and a small SSD that learns it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from caffecompat.data.codec.images import encode_image
from caffecompat.data.tools.convert_annoset import AnnosetSettings, convert_annoset

SIDE = 64
# B, G, R of each class from 1 on.
COLOURS = ((40, 40, 220), (40, 200, 40))
LABEL_MAP = """
item { name: "none_of_the_above" label: 0 display_name: "background" }
item { name: "red" label: 1 display_name: "a red one" }
item { name: "green" label: 2 display_name: "a green one" }
"""


def draw_image(generator: np.random.Generator) -> tuple[np.ndarray, list[tuple[int, list[int]]]]:
    """An image, and label and box of each of its one or two rectangles, which do not overlap."""
    pixels = generator.integers(90, 166, (SIDE, SIDE, 3)).astype(np.uint8)
    objects: list[tuple[int, list[int]]] = []
    taken = np.zeros((SIDE, SIDE), bool)
    for _ in range(int(generator.integers(1, 3))):
        width, height = generator.integers(14, 33, 2)
        left, top = generator.integers(0, SIDE - width), generator.integers(0, SIDE - height)
        place = np.s_[top : top + height, left : left + width]
        if taken[place].any():
            continue
        taken[place] = True
        label = int(generator.integers(1, len(COLOURS) + 1))
        pixels[place] = COLOURS[label - 1]
        objects.append((label, [int(v) for v in (left, top, left + width, top + height)]))
    return pixels, objects


def write_images(folder: Path, count: int, seed: int, name: str = "images") -> Path:
    """Images and XML files in ``folder``, and the list of them, whose path is returned."""
    generator = np.random.default_rng(seed)
    lines = []
    names = {1: "red", 2: "green"}
    for index in range(count):
        pixels, objects = draw_image(generator)
        stem = f"{name}_{index:04}"
        (folder / f"{stem}.png").write_bytes(encode_image(pixels, "png"))
        boxes = "".join(
            f"<object><name>{names[label]}</name><difficult>0</difficult><bndbox><xmin>{box[0]}"
            f"</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox>"
            "</object>"
            for label, box in objects
        )
        size = f"<size><width>{SIDE}</width><height>{SIDE}</height></size>"
        (folder / f"{stem}.xml").write_text(f"<annotation>{size}{boxes}</annotation>")
        lines.append(f"{stem}.png {stem}.xml\n")
    listing = folder / f"{name}.txt"
    listing.write_text("".join(lines))
    return listing


def write_database(folder: Path, count: int, seed: int, name: str) -> Path:
    """An LMDB of made-up images."""
    listing = write_images(folder, count, seed, name)
    label_map = folder / "labelmap.prototxt"
    label_map.write_text(LABEL_MAP)
    settings = AnnosetSettings(
        anno_type="detection", label_map_file=str(label_map), encoded=True, workers=1
    )
    database = folder / f"{name}_lmdb"
    convert_annoset(f"{folder}/", str(listing), str(database), settings)
    return database


def _convolution(name: str, bottom: str, channels: int, stride: int, relu: bool = True) -> str:
    text = f"""
layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}"
  convolution_param {{ num_output: {channels} kernel_size: 3 pad: 1 stride: {stride}
    weight_filler {{ type: "msra" }} }} }}"""
    if relu:
        text += f'\nlayer {{ name: "{name}_relu" type: "ReLU" bottom: "{name}" top: "{name}" }}'
    return text


def _head(feature: str, sizes: str) -> str:
    """The predictions of one feature map and its priors, four at each position."""
    parts = []
    for kind, channels in (("loc", 16), ("conf", 12)):
        name = f"{feature}_{kind}"
        parts.append(_convolution(name, feature, channels, 1, relu=False))
        parts.append(f"""
layer {{ name: "{name}_perm" type: "Permute" bottom: "{name}" top: "{name}_perm"
  permute_param {{ order: 0 order: 2 order: 3 order: 1 }} }}
layer {{ name: "{name}_flat" type: "Flatten" bottom: "{name}_perm" top: "{name}_flat" }}""")
    parts.append(f"""
layer {{ name: "{feature}_prior" type: "PriorBox" bottom: "{feature}" bottom: "data"
  top: "{feature}_prior" prior_box_param {{ {sizes} aspect_ratio: 2 clip: false
    variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 }} }}""")
    return "".join(parts)


def _concat(kind: str, part: str, axis: int) -> str:
    return f"""
layer {{ name: "{kind}" type: "Concat" bottom: "a_{part}" bottom: "b_{part}" top: "{kind}"
  concat_param {{ axis: {axis} }} }}"""


BODY = "".join(
    [
        _convolution("conv1", "data", 16, 2),
        _convolution("conv2", "conv1", 32, 2),
        _convolution("a", "conv2", 32, 2),
        _convolution("b", "a", 48, 2),
        _head("a", "min_size: 16 max_size: 24"),
        _head("b", "min_size: 28 max_size: 36"),
        _concat("mbox_loc", "loc_flat", 1),
        _concat("mbox_conf", "conf_flat", 1),
        _concat("mbox_priorbox", "prior", 2),
    ]
)

MEAN = "mean_value: 128 scale: 0.0167"

TRAIN_DATA = """
layer { name: "data" type: "AnnotatedData" top: "data" top: "label"
  include { phase: TRAIN }
  transform_param { MEAN mirror: true
    resize_param { height: 64 width: 64 interp_mode: LINEAR interp_mode: AREA }
    emit_constraint { emit_type: CENTER }
    distort_param { brightness_prob: 0.5 brightness_delta: 20 contrast_prob: 0.5
      contrast_lower: 0.8 contrast_upper: 1.2 }
    expand_param { prob: 0.2 max_expand_ratio: 1.3 } }
  data_param { source: "SOURCE" batch_size: 16 backend: LMDB }
  annotated_data_param {
    batch_sampler { max_sample: 1 max_trials: 1 }
    batch_sampler { sampler { min_scale: 0.8 max_scale: 1 min_aspect_ratio: 0.8
      max_aspect_ratio: 1.25 } sample_constraint { min_jaccard_overlap: 0.1 }
      max_sample: 1 max_trials: 20 }
    label_map_file: "labelmap.prototxt" } }"""

TEST_DATA = """
layer { name: "data" type: "AnnotatedData" top: "data" top: "label"
  include { phase: TEST }
  transform_param { MEAN resize_param { height: 64 width: 64 } }
  data_param { source: "SOURCE" batch_size: 10 backend: LMDB } }"""

LOSS = """
layer { name: "mbox_loss" type: "MultiBoxLoss" bottom: "mbox_loc" bottom: "mbox_conf"
  bottom: "mbox_priorbox" bottom: "label" top: "mbox_loss" include { phase: TRAIN }
  propagate_down: true propagate_down: true propagate_down: false propagate_down: false
  loss_param { normalization: VALID }
  multibox_loss_param { num_classes: 3 code_type: CENTER_SIZE } }"""

DETECTIONS = """
layer { name: "mbox_conf_reshape" type: "Reshape" bottom: "mbox_conf" top: "mbox_conf_reshape"
  include { phase: TEST } reshape_param { shape { dim: 0 dim: -1 dim: 3 } } }
layer { name: "mbox_conf_softmax" type: "Softmax" bottom: "mbox_conf_reshape"
  top: "mbox_conf_softmax" include { phase: TEST } softmax_param { axis: 2 } }
layer { name: "mbox_conf_flatten" type: "Flatten" bottom: "mbox_conf_softmax"
  top: "mbox_conf_flatten" include { phase: TEST } }
layer { name: "detection_out" type: "DetectionOutput" bottom: "mbox_loc"
  bottom: "mbox_conf_flatten" bottom: "mbox_priorbox" top: "detection_out"
  include { phase: TEST }
  detection_output_param { num_classes: 3 code_type: CENTER_SIZE keep_top_k: 50
    confidence_threshold: 0.05 nms_param { nms_threshold: 0.45 top_k: 100 } } }"""

EVALUATION = """
layer { name: "detection_eval" type: "DetectionEvaluate" bottom: "detection_out" bottom: "label"
  top: "detection_eval" include { phase: TEST }
  detection_evaluate_param { num_classes: 3 evaluate_difficult_gt: false } }"""

DEPLOY = (
    'name: "rectangles" layer { name: "data" type: "Input" top: "data" '
    "input_param { shape { dim: 1 dim: 3 dim: 64 dim: 64 } } }" + BODY + DETECTIONS
)

SOLVER = """
net: "NET"
type: "Adam" base_lr: 0.002 lr_policy: "step" stepsize: 80 gamma: 0.3 max_iter: 100
display: 100 average_loss: 20
test_iter: 5 test_interval: 100 test_initialization: false
eval_type: "detection" ap_version: "11point" show_per_class_result: true
snapshot_prefix: "PREFIX" random_seed: 1
"""


def write_training(folder: Path) -> Path:
    """Databases, net and solver of a training in ``folder``; the solver's path."""
    train = write_database(folder, 200, 1, "train")
    test = write_database(folder, 50, 2, "test")
    data = TRAIN_DATA.replace("SOURCE", str(train)) + TEST_DATA.replace("SOURCE", str(test))
    net = folder / "train_val.prototxt"
    net.write_text(data.replace("MEAN", MEAN) + BODY + LOSS + DETECTIONS + EVALUATION)
    (folder / "deploy.prototxt").write_text(DEPLOY)
    solver = folder / "solver.prototxt"
    text = SOLVER.replace("NET", str(net)).replace("PREFIX", str(folder / "rectangles"))
    solver.write_text(text)
    return solver
