#!/usr/bin/env python3
"""Write the nets and solvers of prototxt/ from Table 1 of Simonyan and Zisserman (2014).

The table stands below in the paper's own notation (``x2`` repeats the layer before it), then how
nets, solvers and files are made from it::

    python tools/generate_prototxt.py            # writes prototxt/
    python tools/generate_prototxt.py --check    # exit code 1 when a file there is stale

docs/paper-nets.md gives the reasons for the numbers.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "prototxt"

TABLE_1 = {
    "A": "conv3-64 | conv3-128 | conv3-256 x2 | conv3-512 x2 | conv3-512 x2",
    "A-LRN": "conv3-64 LRN | conv3-128 | conv3-256 x2 | conv3-512 x2 | conv3-512 x2",
    "B": "conv3-64 x2 | conv3-128 x2 | conv3-256 x2 | conv3-512 x2 | conv3-512 x2",
    "C": "conv3-64 x2 | conv3-128 x2 | conv3-256 x2 conv1-256"
    " | conv3-512 x2 conv1-512 | conv3-512 x2 conv1-512",
    "D": "conv3-64 x2 | conv3-128 x2 | conv3-256 x3 | conv3-512 x3 | conv3-512 x3",
    "E": "conv3-64 x2 | conv3-128 x2 | conv3-256 x4 | conv3-512 x4 | conv3-512 x4",
    # Sect. 4.1: net B with each pair of 3x3 layers replaced by one 5x5 layer.
    "B_5x5": "conv5-64 | conv5-128 | conv5-256 | conv5-512 | conv5-512",
    # Not of the paper: the same principles at the size of tools/quickstart.sh.
    "quickstart": "conv3-16 x2 | conv3-32 x2 | conv3-64 x2",
}

FILLERS = {
    "gaussian": 'weight_filler { type: "gaussian" std: 0.01 }',
    "xavier": 'weight_filler { type: "xavier" variance_norm: AVERAGE }',
}
BIAS_FILLER = 'bias_filler { type: "constant" value: 0 }'


# Krizhevsky et al. (2012) on ILSVRC: deviations along the principal axes of colour, and the axes in
# the order B, G, R; the widely published constants.
COLOUR_SHIFT = (
    "colour_shift_std: 0.1",
    "colour_eigenvalue: 55.46",
    "colour_eigenvalue: 4.794",
    "colour_eigenvalue: 1.148",
    *(
        f"colour_eigenvector: {component}"
        for axis in (
            (-0.5836, -0.5808, -0.5675),
            (-0.6948, -0.0045, 0.7192),
            (0.4203, -0.8140, 0.4009),
        )
        for component in axis
    ),
)
SCALE_JITTER = ("img_rand_resize_lower: 256", "img_rand_resize_upper: 512")


@dataclass(frozen=True)
class Data:
    """Where the images come from and how they enter the net; ``augment`` is for TRAIN only."""

    train: str
    test: str
    channels: int = 3
    crop: int = 224
    mirror: bool = True
    pixels: tuple[str, ...] = ("mean_value: 103.939", "mean_value: 116.779", "mean_value: 123.68")
    augment: tuple[str, ...] = COLOUR_SHIFT
    train_batch: int = 256
    test_batch: int = 50


@dataclass(frozen=True)
class Net:
    """One net: a column of the table, what stands around its convolutions, its first values."""

    column: str
    data: Data
    filler: str = "gaussian"
    # The two hidden fully-connected layers and the classes; one hidden layer is possible too.
    widths: tuple[int, ...] = (4096, 4096, 1000)
    top_k: tuple[int, ...] = (1, 5)

    @property
    def blocks(self) -> list[list[str]]:
        """The layers between two poolings, e.g. ``[["conv3-64", "LRN"], ["conv3-128"], ...]``."""
        blocks: list[list[str]] = []
        for items in TABLE_1[self.column].split("|"):
            blocks.append([])
            for item in items.split():
                times = int(item[1:]) - 1 if item.startswith("x") else 1
                blocks[-1] += [blocks[-1][-1] if item.startswith("x") else item] * times
        return blocks

    @property
    def depth(self) -> int:
        """The number of layers with weights."""
        convolutions = [item for items in self.blocks for item in items if item != "LRN"]
        return len(convolutions) + len(self.widths)

    @property
    def scores(self) -> str:
        """The blob with one score per class."""
        return f"fc{len(self.blocks) + len(self.widths)}"


# ---- Text ---------------------------------------------------------------------------------------


def block(name: str, *content: str | list[str]) -> list[str]:
    """The lines of ``name { ... }``; parts of the content are lines or lists of lines."""
    parts = [[part] if isinstance(part, str) else part for part in content]
    return [f"{name} {{", *(f"  {line}" for part in parts for line in part), "}"]


def layer(
    name: str, kind: str, bottoms: list[str], tops: list[str], *content: str | list[str]
) -> list[str]:
    head = [f'name: "{name}"', f'type: "{kind}"']
    wiring = [f'bottom: "{b}"' for b in bottoms] + [f'top: "{t}"' for t in tops]
    return block("layer", head, wiring, *content)


# ---- Layers -------------------------------------------------------------------------------------


def convolution(name: str, bottom: str, size: int, width: int, filler: str | None) -> list[str]:
    """A convolution that keeps the height and width of its input."""
    shape = [f"num_output: {width}", f"pad: {size // 2}", f"kernel_size: {size}"]
    return weighted(name, "Convolution", "convolution_param", bottom, shape, filler)


def inner_product(name: str, bottom: str, width: int, filler: str | None) -> list[str]:
    shape = [f"num_output: {width}"]
    return weighted(name, "InnerProduct", "inner_product_param", bottom, shape, filler)


def weighted(
    name: str, kind: str, message: str, bottom: str, shape: list[str], filler: str | None
) -> list[str]:
    """A layer with a weight and a bias; without ``filler`` it has no training settings."""
    if filler is None:
        return layer(name, kind, [bottom], [name], block(message, shape))
    rates = ["param { lr_mult: 1 decay_mult: 1 }", "param { lr_mult: 2 decay_mult: 0 }"]
    fillers = [FILLERS[filler], BIAS_FILLER]
    return layer(name, kind, [bottom], [name], rates, block(message, shape, fillers))


def relu(name: str, blob: str) -> list[str]:
    return layer(name, "ReLU", [blob], [blob])


def lrn(name: str, bottom: str) -> list[str]:
    # Krizhevsky et al. (2012) multiply the sum of squares by 1e-4, Caffe by alpha / local_size.
    message = block("lrn_param", "local_size: 5", "alpha: 0.0005", "beta: 0.75", "k: 2")
    return layer(name, "LRN", [bottom], [name], message)


def max_pool(name: str, bottom: str) -> list[str]:
    message = block("pooling_param", "pool: MAX", "kernel_size: 2", "stride: 2")
    return layer(name, "Pooling", [bottom], [name], message)


def dropout(name: str, blob: str) -> list[str]:
    return layer(name, "Dropout", [blob], [blob], block("dropout_param", "dropout_ratio: 0.5"))


def database(data: Data, phase: str) -> list[str]:
    """The data layer of one phase: augmented random crops in TRAIN, the centre crop in TEST."""
    train = phase == "TRAIN"
    mirror = ["mirror: true"] if train and data.mirror else []
    augment = list(data.augment) if train else []
    transform = block(
        "transform_param", mirror, f"crop_size: {data.crop}", list(data.pixels), augment
    )
    source = block(
        "data_param",
        f'source: "{data.train if train else data.test}"',
        f"batch_size: {data.train_batch if train else data.test_batch}",
        "backend: LMDB",
    )
    include = f"include {{ phase: {phase} }}"
    return layer("data", "Data", [], ["data", "label"], include, transform, source)


# ---- Nets ---------------------------------------------------------------------------------------


def body(net: Net, filler: str | None) -> list[list[str]]:
    """All layers between the data and the loss, named as in the published files."""
    layers: list[list[str]] = []
    blob = "data"
    for number, items in enumerate(net.blocks, start=1):
        for position, item in enumerate(items, start=1):
            if item == "LRN":
                layers.append(lrn(f"norm{number}", blob))
                blob = f"norm{number}"
                continue
            size, width = (int(part) for part in item.removeprefix("conv").split("-"))
            # A 5x5 layer stands for the whole block: with a name of its own, it never meets the
            # 3x3 weights of a net that the training starts from.
            suffix = f"{number}" if size == 5 else f"{number}_{position}"
            layers.append(convolution(f"conv{suffix}", blob, size, width, filler))
            blob = f"conv{suffix}"
            layers.append(relu(f"relu{suffix}", blob))
        layers.append(max_pool(f"pool{number}", blob))
        blob = f"pool{number}"
    return layers + fully_connected(net, blob, filler)


def fully_connected(net: Net, blob: str, filler: str | None) -> list[list[str]]:
    """The hidden layers, each with ReLU and dropout, and the layer of the class scores."""
    layers: list[list[str]] = []
    for number, width in enumerate(net.widths, start=len(net.blocks) + 1):
        layers.append(inner_product(f"fc{number}", blob, width, filler))
        blob = f"fc{number}"
        if blob != net.scores:
            layers += [relu(f"relu{number}", blob), dropout(f"drop{number}", blob)]
    return layers


def accuracy(net: Net, top_k: int) -> list[str]:
    name = "accuracy" if net.top_k == (1,) else f"accuracy/top-{top_k}"
    message = [] if top_k == 1 else block("accuracy_param", f"top_k: {top_k}")
    include = "include { phase: TEST }"
    return layer(name, "Accuracy", [net.scores, "label"], [name], include, message)


def train_val(net: Net, name: str) -> list[str]:
    layers = [database(net.data, "TRAIN"), database(net.data, "TEST"), *body(net, net.filler)]
    layers += [accuracy(net, top_k) for top_k in net.top_k]
    layers.append(layer("loss", "SoftmaxWithLoss", [net.scores, "label"], ["loss"]))
    return [f'name: "{name}"', *(line for lines in layers for line in lines)]


def deploy(net: Net, name: str) -> list[str]:
    extents = (10, net.data.channels, net.data.crop, net.data.crop)
    shape = "shape { " + " ".join(f"dim: {extent}" for extent in extents) + " }"
    layers = [layer("data", "Input", [], ["data"], block("input_param", shape)), *body(net, None)]
    layers.append(layer("prob", "Softmax", [net.scores], ["prob"]))
    return [f'name: "{name}"', *(line for lines in layers for line in lines)]


# ---- Solvers ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Schedule:
    """The learning rate of one training, its length, and what it starts from."""

    base_lr: str
    drops: int
    max_iter: int
    reason: tuple[str, ...]
    weights: str = ""


FROM_RANDOM = Schedule(
    base_lr="0.01",
    drops=3,
    max_iter=370000,
    reason=(
        "Three drops to a tenth, each when the validation accuracy has stopped improving, and an",
        "end after 370K iterations (74 epochs). The paper does not say how long to wait for an",
        "improvement: five epochs are our choice.",
    ),
)
FROM_SINGLE_SCALE = Schedule(
    base_lr="0.001",
    drops=2,
    max_iter=200000,
    reason=(
        "The paper starts at 1e-3. It gives neither drops nor length: these drops end at the same",
        "rate as the training from random values, and 40 epochs are our choice.",
    ),
)


def solver(name: str, schedule: Schedule) -> list[str]:
    """Sect. 3.1 of the paper."""
    weights = [f'weights: "{schedule.weights}"'] if schedule.weights else []
    return [
        f'net: "prototxt/{name}_train_val.prototxt"',
        *weights,
        "",
        "# 50 000 validation images in batches of 50, after about every epoch.",
        "test_iter: 1000",
        "test_interval: 5000",
        "test_initialization: false",
        "",
        *(f"# {line}" for line in schedule.reason),
        f"base_lr: {schedule.base_lr}",
        'lr_policy: "plateau"',
        "gamma: 0.1",
        'plateau_metric: "accuracy/top-5"',
        "plateau_winsize: 25000",
        f"plateau_drops: {schedule.drops}",
        f"max_iter: {schedule.max_iter}",
        "",
        "# Batches of 256. Where they do not fit the memory, train with --auto-iter-size; by hand:",
        "# batch_size: 32 in the TRAIN data layer, iter_size: 8 here. The gradient stays the same.",
        "momentum: 0.9",
        "weight_decay: 0.0005",
        "",
        "display: 20",
        "average_loss: 20",
        "snapshot: 10000",
        f'snapshot_prefix: "vgg_{name}"',
    ]


def quickstart_solver() -> list[str]:
    return [
        'net: "prototxt/quickstart_train_val.prototxt"',
        "",
        "# 360 held-out images in batches of 40.",
        "test_iter: 9",
        "test_interval: 100",
        "",
        "base_lr: 0.01",
        'lr_policy: "multistep"',
        "gamma: 0.1",
        "stepvalue: 400",
        "max_iter: 500",
        "momentum: 0.9",
        "weight_decay: 0.0005",
        "",
        "display: 20",
        "average_loss: 20",
        "snapshot: 250",
        'snapshot_prefix: "quickstart-run/digits"',
        "random_seed: 1",
        "solver_mode: CPU",
    ]


# ---- Files --------------------------------------------------------------------------------------


def ilsvrc(train: str, test: str) -> Data:
    return Data(train=f"data/ilsvrc12_train_{train}_lmdb", test=f"data/ilsvrc12_val_{test}_lmdb")


DIGITS = Data(
    train="quickstart-run/train_lmdb",
    test="quickstart-run/test_lmdb",
    channels=1,
    crop=28,
    mirror=False,
    pixels=("mean_value: 80", "scale: 0.0078125"),
    augment=(),
    train_batch=64,
    test_batch=40,
)
QUICKSTART = Net("quickstart", DIGITS, filler="xavier", widths=(128, 10), top_k=(1,))
PAPER = {
    column: Net(column, ilsvrc("S256", "S256")) for column in TABLE_1 if column != "quickstart"
}
STARTED_FROM_A = ("B", "C", "D", "E")
# Sect. 3.1: the first four convolutions and the fully-connected layers.
LAYERS_OF_A = "conv1_1,conv2_1,conv3_1,conv3_2,fc6,fc7,fc8"


@dataclass(frozen=True)
class Training:
    """One training of one net: a train_val and a solver of the same name."""

    name: str
    net: Net
    schedule: Schedule
    about: str
    options: str = ""
    notes: tuple[str, ...] = ()


def trainings() -> list[Training]:
    """Every training of the paper's nets in prototxt/."""
    start = f" --weights vgg_A_iter_{FROM_RANDOM.max_iter}.caffemodel --layers {LAYERS_OF_A}"
    found = [
        Training(
            name,
            net,
            FROM_RANDOM,
            "training at S = 256, Gaussian first values",
            options=start if name in STARTED_FROM_A else "",
        )
        for name, net in PAPER.items()
    ]
    found += [
        Training(
            f"{name}_xavier",
            replace(PAPER[name], filler="xavier"),
            FROM_RANDOM,
            "training at S = 256, every layer from Glorot's first values",
        )
        for name in STARTED_FROM_A
    ]
    return [*found, *other_scales(PAPER["D"])]


def other_scales(net: Net) -> list[Training]:
    """The trainings of Sect. 3.1 beyond S = 256, each begun from the one before."""
    fixed = Training(
        f"{net.column}_S384",
        replace(net, data=ilsvrc("S384", "S384")),
        replace(
            FROM_SINGLE_SCALE, weights=f"vgg_{net.column}_iter_{FROM_RANDOM.max_iter}.caffemodel"
        ),
        "training at S = 384, from the weights of S = 256",
    )
    jittered = Training(
        f"{net.column}_multiscale",
        replace(net, data=replace(ilsvrc("S512", "S384"), augment=(*SCALE_JITTER, *COLOUR_SHIFT))),
        replace(
            FROM_SINGLE_SCALE, weights=f"vgg_{fixed.name}_iter_{fixed.schedule.max_iter}.caffemodel"
        ),
        "multi-scale training, S in [256;512], from the weights of S = 384",
        notes=(
            "S is drawn anew each time an image is used. The images of the database have the",
            "largest scale already, so that none is ever enlarged.",
        ),
    )
    return [fixed, jittered]


def title(net: Net) -> str:
    if net.column == "B_5x5":
        return f"The shallow net of Sect. 4.1 ({net.depth} weight layers)"
    return f"VGG net {net.column} ({net.depth} weight layers)"


def text(comments: tuple[str, ...], lines: list[str]) -> str:
    head = [f"# {comment}" for comment in (*comments, "Written by tools/generate_prototxt.py.")]
    return "\n".join([*head, "", *lines]) + "\n"


def training_files(training: Training) -> dict[str, str]:
    about = f"{title(training.net)}: {training.about}."
    guide = "docs/paper-nets.md says how its databases, and the weights it starts from, are made."
    solver_file = f"solver_{training.name}.prototxt"
    command = f"caffecompat train --gpu 0 --solver prototxt/{solver_file}{training.options}"
    return {
        solver_file: text((about, command), solver(training.name, training.schedule)),
        f"{training.name}_train_val.prototxt": text(
            (about, *training.notes, guide), train_val(training.net, f"VGG_{training.net.column}")
        ),
    }


def deploy_file(net: Net) -> dict[str, str]:
    comments = (
        f"{title(net)}: class posteriors of 224x224 crops.",
        "Pixels: B G R, 0 to 255, minus 103.939 116.779 123.68.",
    )
    return {f"{net.column}_deploy.prototxt": text(comments, deploy(net, f"VGG_{net.column}"))}


def quickstart_files() -> dict[str, str]:
    about = (
        "A small VGG-style net for handwritten digits: 28x28 crops of 32x32 grey images.",
        "tools/quickstart.sh makes the databases and runs the whole tour.",
    )
    return {
        "quickstart_train_val.prototxt": text(about, train_val(QUICKSTART, "quickstart")),
        "quickstart_deploy.prototxt": text(about, deploy(QUICKSTART, "quickstart")),
        "solver_quickstart.prototxt": text(about, quickstart_solver()),
    }


def all_files() -> dict[str, str]:
    """File name → content of every file in prototxt/."""
    files = quickstart_files()
    for training in trainings():
        files |= training_files(training)
    for net in PAPER.values():
        files |= deploy_file(net)
    return files


def stale_files(files: dict[str, str]) -> list[str]:
    """Names in prototxt/ that are missing, differ, or do not come from the table."""
    present = {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.prototxt")}
    return sorted(
        name for name in files.keys() | present.keys() if files.get(name) != present.get(name)
    )


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or compare them with ``--check``; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 when stale")
    options = parser.parse_args(arguments)
    files = all_files()
    stale = stale_files(files)
    if options.check:
        for name in stale:
            print(f"prototxt/{name} is stale: run tools/generate_prototxt.py")
        return 1 if stale else 0
    FOLDER.mkdir(exist_ok=True)
    for name in stale:
        if name in files:
            (FOLDER / name).write_text(files[name], "utf-8")
        else:
            (FOLDER / name).unlink()
    print(f"prototxt/: {len(files)} files, {len(stale)} of them changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
