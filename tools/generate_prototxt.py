#!/usr/bin/env python3
"""Write the nets and solvers of prototxt/ from Table 1 of Simonyan and Zisserman (2014).

``tools/vgg_nets.py`` has the table and makes the nets; the trainings and the files are here::

    python tools/generate_prototxt.py            # writes prototxt/
    python tools/generate_prototxt.py --check    # exit code 1 when a file there is stale

docs/paper-nets.md gives the reasons for the numbers.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.vgg_nets import COLOUR_SHIFT, SCALE_JITTER, TABLE_1, Data, Net, deploy, train_val

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "prototxt"


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


def stale_files(files: dict[str, str], folder: Path = FOLDER) -> list[str]:
    """Names in a folder that are missing, differ, or do not come from the table."""
    present = {path.name: path.read_text("utf-8") for path in folder.glob("*.prototxt")}
    return sorted(
        name for name in files.keys() | present.keys() if files.get(name) != present.get(name)
    )


def run(
    about: str, files: dict[str, str], folder: Path, tool: str, arguments: list[str] | None
) -> int:
    """Write generated files, or compare them with ``--check``; returns the exit code.

    Args:
        about: the first line of the help.
        files: name -> content of every file in ``folder``.
        tool: the script that writes them, for messages.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 when stale")
    options = parser.parse_args(arguments)
    place = folder.relative_to(ROOT)
    stale = stale_files(files, folder)
    if options.check:
        for name in stale:
            print(f"{place}/{name} is stale: run {tool}")
        return 1 if stale else 0
    folder.mkdir(parents=True, exist_ok=True)
    for name in stale:
        if name in files:
            (folder / name).write_text(files[name], "utf-8")
        else:
            (folder / name).unlink()
    print(f"{place}/: {len(files)} files, {len(stale)} of them changed")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Write the files of prototxt/, or compare them with ``--check``; returns the exit code."""
    about = (__doc__ or "").splitlines()[0]
    return run(about, all_files(), FOLDER, "tools/generate_prototxt.py", arguments)


if __name__ == "__main__":
    sys.exit(main())
