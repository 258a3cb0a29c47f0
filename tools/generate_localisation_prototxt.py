#!/usr/bin/env python3
"""Write the localisation nets and solvers of prototxt/localisation/ (the paper's Appendix A).

They are net D of ``tools/generate_prototxt.py`` with another last layer, data layer and loss::

    python tools/generate_localisation_prototxt.py            # writes prototxt/localisation/
    python tools/generate_localisation_prototxt.py --check    # exit code 1 when a file is stale

docs/localisation.md gives the reasons for the numbers.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.generate_prototxt import FROM_RANDOM, PAPER, run
from tools.vgg_nets import COLOUR_SHIFT, Net, block, body, layer

FOLDER = Path(__file__).resolve().parents[1] / "prototxt" / "localisation"
CLASSES = 1000
BOX = "fc8_box"
FROZEN = "param { lr_mult: 0 decay_mult: 0 }"
TOOL = "tools/generate_localisation_prototxt.py"


@dataclass(frozen=True)
class Training:
    """One training of Table 8 or 9.

    Attributes:
        per_class: a box for each class (PCR), or one for all (SCR).
        side: the training scale S.
        weights: of the classification net trained at that scale.
        all_layers: fine-tune all layers, or the fully connected ones only.
    """

    per_class: bool
    side: int
    weights: str
    all_layers: bool = True

    @property
    def kind(self) -> str:
        return "PCR" if self.per_class else "SCR"

    @property
    def name(self) -> str:
        return f"D_{self.kind}_S{self.side}" + ("" if self.all_layers else "_fc")

    @property
    def classes(self) -> int:
        return CLASSES if self.per_class else 1

    @property
    def about(self) -> str:
        boxes = "a box for each class" if self.per_class else "one box for all classes"
        layers = "all layers" if self.all_layers else "the fully connected layers"
        return (
            f"Localisation by net D, {boxes} ({self.kind}): {layers} fine-tuned at S = {self.side}."
        )


S256 = f"vgg_D_iter_{FROM_RANDOM.max_iter}.caffemodel"
S384 = "vgg_D_S384_iter_200000.caffemodel"
TRAININGS = (
    Training(False, 384, S384, all_layers=False),
    Training(True, 384, S384, all_layers=False),
    Training(True, 384, S384),
    Training(True, 256, S256),
)


def trunk(classes: int, filler: str | None, all_layers: bool = True) -> list[list[str]]:
    """Net D whose last layer predicts four numbers for each class."""
    d = PAPER["D"]
    layers = body(replace(d, widths=(*d.widths[:2], 4 * classes)), filler)
    renamed = [line.replace(f'"{d.scores}"', f'"{BOX}"') for line in layers[-1]]
    layers[-1] = renamed
    return layers if all_layers else [frozen(lines) for lines in layers]


def frozen(lines: list[str]) -> list[str]:
    """A layer that does not learn, if it is a convolution."""
    if '  type: "Convolution"' not in lines:
        return lines
    return [f"  {FROZEN}" if line.startswith("  param {") else line for line in lines]


def boxes(training: Training, net: Net, phase: str) -> list[str]:
    """The data layer of one phase."""
    train = phase == "TRAIN"
    part = "train" if train else "val"
    tops = ["data", "box", "mask"] if training.per_class else ["data", "box"]
    transform = block(
        "transform_param",
        ["mirror: true"] if train else [],
        f"crop_size: {net.data.crop}",
        list(net.data.pixels),
        [f"img_rand_resize_lower: {training.side}", f"img_rand_resize_upper: {training.side}"],
        list(COLOUR_SHIFT) if train else [],
    )
    source = block(
        "image_data_param",
        f'source: "data/ilsvrc12_{part}_boxes.txt"',
        f'root_folder: "data/ilsvrc12_{part}/"',
        f"batch_size: {net.data.train_batch if train else net.data.test_batch}",
        ["shuffle: true"] if train else [],
    )
    settings = block("box_data_param", f"classes: {training.classes}")
    include = f"include {{ phase: {phase} }}"
    return layer("data", "BoxData", [], tops, include, transform, source, settings)


def loss(training: Training) -> list[list[str]]:
    """Half the squared distance of the box of the image's class from the target."""
    if not training.per_class:
        return [layer("loss", "EuclideanLoss", [BOX, "box"], ["loss"])]
    product = block("eltwise_param", "operation: PROD")
    return [
        layer("own_box", "Eltwise", [BOX, "mask"], ["own_box"], product),
        layer("loss", "EuclideanLoss", ["own_box", "box"], ["loss"]),
    ]


def train_val(training: Training) -> list[str]:
    net = PAPER["D"]
    layers = [
        boxes(training, net, "TRAIN"),
        boxes(training, net, "TEST"),
        *trunk(training.classes, net.filler, training.all_layers),
        *loss(training),
    ]
    return [f'name: "VGG_{training.name}"', *(line for lines in layers for line in lines)]


def deploy(kind: str, classes: int) -> list[str]:
    data = PAPER["D"].data
    extents = (10, data.channels, data.crop, data.crop)
    shape = "shape { " + " ".join(f"dim: {extent}" for extent in extents) + " }"
    layers = [layer("data", "Input", [], ["data"], block("input_param", shape))]
    layers += trunk(classes, None)
    return [f'name: "VGG_D_{kind}"', *(line for lines in layers for line in lines)]


def solver(training: Training) -> list[str]:
    return [
        f'net: "prototxt/localisation/{training.name}_train_val.prototxt"',
        f'weights: "{training.weights}"',
        "",
        "# 50 000 validation images in batches of 50, after about every epoch.",
        "test_iter: 1000",
        "test_interval: 5000",
        "test_initialization: false",
        "",
        "# The paper starts at 1e-3. It gives neither drops nor length: they are our choice.",
        "base_lr: 0.001",
        'lr_policy: "multistep"',
        "gamma: 0.1",
        "stepvalue: 60000",
        "stepvalue: 90000",
        "max_iter: 100000",
        "",
        "momentum: 0.9",
        "weight_decay: 0.0005",
        "",
        "display: 20",
        "average_loss: 20",
        "snapshot: 10000",
        f'snapshot_prefix: "vgg_{training.name}"',
    ]


def text(comments: tuple[str, ...], lines: list[str]) -> str:
    head = [f"# {comment}" for comment in (*comments, f"Written by {TOOL}.")]
    return "\n".join([*head, "", *lines]) + "\n"


def all_files() -> dict[str, str]:
    """File name -> content of every file in prototxt/localisation/."""
    files = {}
    guide = "docs/localisation.md says how its lists of boxes are made."
    for training in TRAININGS:
        path = f"prototxt/localisation/solver_{training.name}.prototxt"
        command = f"caffecompat train --gpu 0 --solver {path}"
        name = f"{training.name}_train_val.prototxt"
        files[name] = text((training.about, guide), train_val(training))
        files[f"solver_{training.name}.prototxt"] = text(
            (training.about, command), solver(training)
        )
    for kind, classes in (("SCR", 1), ("PCR", CLASSES)):
        comments = (
            f"Net D, {kind}: boxes as fractions of 224x224 crops: centre x and y, width, height.",
            "Pixels: B G R, 0 to 255, minus 103.939 116.779 123.68.",
        )
        files[f"D_{kind}_deploy.prototxt"] = text(comments, deploy(kind, classes))
    return files


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or compare them with ``--check``; returns the exit code."""
    return run((__doc__ or "").splitlines()[0], all_files(), FOLDER, TOOL, arguments)


if __name__ == "__main__":
    sys.exit(main())
