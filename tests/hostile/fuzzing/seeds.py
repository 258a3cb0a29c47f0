"""Small valid files of every kind, that damage starts from: made here, or recorded from Caffe."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from caffecompat.data.backends.database import create_database
from caffecompat.data.codec.images import encode_image
from caffecompat.net.parameters.state_dict_names import torch_naming
from caffecompat.proto import schema
from caffecompat.proto.files import read_text
from caffecompat.proto.text.parser import parse_text
from caffecompat.weights import (
    LayerWeights,
    SolverState,
    Weights,
    save_weights,
    write_mean,
    write_state,
)
from tests.hostile.fuzzing.later_seeds import later_files
from tests.places import COPIES, REPOSITORY

WEIGHTS = COPIES / "files"
RECORDS = COPIES / "data"
PROTOTXT = REPOSITORY / "prototxt"

# A file larger than this makes a poor start: the damage is lost in it.
_LARGEST = 70_000

Files = dict[str, bytes]

LOG = b"""I1127 14:46:01.000001  4711 solver.cpp:273] Solving quickstart
I1127 14:46:01.000002  4711 solver.cpp:274] Learning Rate Policy: multistep
I1127 14:46:01.100000  4711 solver.cpp:331] Iteration 0, Testing net (#0)
I1127 14:46:02.200000  4711 solver.cpp:398]     Test net output #0: accuracy = 0.09
I1127 14:46:02.200001  4711 solver.cpp:398]     Test net output #1: loss = 2.31 (* 1 = 2.31 loss)
I1127 14:46:03.000000  4711 solver.cpp:219] Iteration 0 (0 iter/s, 1.5s/20 iters), loss = 2.3
I1127 14:46:03.000001  4711 solver.cpp:238]     Train net output #0: loss = 2.3 (* 1 = 2.3 loss)
I1127 14:46:03.000002  4711 sgd_solver.cpp:105] Iteration 0, lr = 0.01
I1127 23:59:59.999999  4711 solver.cpp:219] Iteration 20 (5.2 iter/s, 3.8s/20 iters), loss = 1.9
I1127 23:59:59.999999  4711 solver.cpp:238]     Train net output #0: loss = nan (* 1 = nan loss)
I1128 00:00:00.000000  4711 sgd_solver.cpp:105] Iteration 20, lr = 1e-05
I1128 00:00:01.000000  4711 solver.cpp:448] Snapshotting to binary proto file a_iter_20.caffemodel
I20251231 23:59:59 4711 solver.cpp:331] Iteration 40, Testing net (#0)
I1128 00:00:04.000000  4711 solver.cpp:253] Optimization Done.
"""

WINDOWS = b"""# 0
a.png
3
12
16
3
1 0.9 0 0 5 5
2 0.7 3 2 11 9
0 0.1 1 1 8 8
# 1
b.jpg
3 8 10 2
3 1 0 0 9 7
0 0 2 2 4 4
"""


@dataclass(frozen=True)
class Seeds:
    """The valid files by kind: single files, and folders of several files."""

    single: dict[str, list[bytes]]
    folders: dict[str, list[Files]]
    images: Files = field(default_factory=dict)


def make_seeds(folder: Path) -> Seeds:
    """All valid files; ``folder`` is an empty one to make them in."""
    made = _weight_files(folder)
    layers = sorted((COPIES / "layers").glob("*/*.prototxt"))
    nets = [path.read_bytes() for path in [*layers, *sorted(PROTOTXT.glob("quickstart*"))]]
    solvers = [*PROTOTXT.glob("solver_A*")]
    for kind in ("cli", "solver"):
        solvers += (COPIES / kind).rglob("*solver*.prototxt")
    images = _images()
    made["prototxt"] = [*nets, OLD_NET, V0_NET]
    made["binary-net"] = [*made["caffemodel"], *_binary_nets(layers)]
    made["solver"] = [path.read_bytes() for path in sorted(solvers)]
    made["log"] = [LOG, _start(COPIES / "cli" / "debug_info.log")]
    made["image"] = list(images.values())
    made["datum"] = _datums(images)
    made["image-list"] = [b"".join(b"%s %d\n" % (n.encode(), i) for i, n in enumerate(images))]
    made["windows"] = [WINDOWS]
    made["hdf5-data"] = [path.read_bytes() for path in sorted((RECORDS / "hdf5").glob("?.h5"))]
    made |= later_files(folder)
    folders = {"lmdb": _lmdbs(folder), "leveldb": _leveldbs()}
    return Seeds(made, folders, images)


def _weight_files(folder: Path) -> dict[str, list[bytes]]:
    weights = Weights(
        [
            LayerWeights("data", "Input", tops=["data"]),
            LayerWeights(
                "conv",
                "Convolution",
                [np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2), np.ones(2, np.float32)],
                bottoms=["data"],
                tops=["conv"],
                phase=1,
            ),
            LayerWeights("fc/6", "InnerProduct", [np.full((2, 5), 0.5, np.float32)]),
        ],
        "net",
    )
    weights.layers[1].diffs = [np.zeros_like(blob) for blob in weights.layers[1].blobs]
    save_weights(weights, folder / "v2.caffemodel")
    save_weights(weights, folder / "v1.caffemodel", format="caffemodel-v1")
    save_weights(weights, folder / "x.npz")
    weights.layers[2].name = "fc6"
    save_weights(weights, folder / "x.caffemodel.h5")
    save_weights(weights, folder / "x.pt", naming=torch_naming())
    save_weights(weights, folder / "x.safetensors", naming=torch_naming())
    state = SolverState(7, "net_iter_7.caffemodel", [np.ones((2, 3), np.float32)] * 2, 1, 5)
    write_state(state, folder / "x.solverstate")
    write_state(state, folder / "x.solverstate.h5")
    write_mean(np.arange(24, dtype=np.float32).reshape(3, 4, 2), folder / "x.binaryproto")
    convnet, states = WEIGHTS / "convnet", WEIGHTS / "solverstate"
    made = [folder / "v1.caffemodel", folder / "v2.caffemodel"]
    paths = {
        "caffemodel": [*sorted(convnet.glob("*.caffemodel")), *made],
        "solverstate": [*sorted(states.glob("*_bin_iter_5.solverstate")), folder / "x.solverstate"],
        "mean": [*sorted((WEIGHTS / "mean").glob("*.binaryproto")), folder / "x.binaryproto"],
        "npz": [folder / "x.npz"],
        "pt": [folder / "x.pt"],
        "safetensors": [folder / "x.safetensors"],
        "hdf5": [*sorted(convnet.glob("*.h5")), folder / "x.caffemodel.h5"],
        "solverstate-hdf5": [
            *sorted(states.glob("adam_h5_iter_5.solverstate.h5")),
            folder / "x.solverstate.h5",
        ],
    }
    return {kind: [path.read_bytes() for path in files] for kind, files in paths.items()}


def _start(path: Path) -> bytes:
    return path.read_bytes()[:6000]


def _binary_nets(paths: list[Path]) -> list[bytes]:
    """Definitions without weights, each layer type once."""
    once = {path.parent.name: path for path in paths}
    nets = [read_text(path, "NetParameter")[0] for path in once.values()]
    nets += [parse_text(text.decode(), "NetParameter", "old")[0] for text in (OLD_NET, V0_NET)]
    return [net.SerializeToString(deterministic=True) for net in nets]


def _images() -> Files:
    """Encoded images by file name, of 16x12 pixels and less."""
    chance = np.random.Generator(np.random.PCG64(0))
    colour = chance.integers(0, 256, (12, 16, 3), np.uint8)
    smooth = np.linspace(0, 255, 12 * 16 * 3).reshape(12, 16, 3).astype(np.uint8)
    made = {
        "a.png": encode_image(colour[:6, :7], "png"),
        "b.jpg": encode_image(smooth[:8, :10], "jpg"),
        "c.bmp": encode_image(colour[:3, :5], "bmp"),
        "d.png": encode_image(colour[:5, :4, 0], "png"),
        "e.jpg": encode_image(smooth[..., 0], "jpg"),
        "f.tif": encode_image(colour[:4, :4], "tiff"),
        "g.webp": encode_image(smooth, "webp"),
        "h.ppm": encode_image(colour[:3, :4], "ppm"),
    }
    recorded = ("deep16.png", "mix3.png", "mixgray.png", "eqgray.jpg", "eqj0.jpg")
    return made | {name: (RECORDS / "images" / name).read_bytes() for name in recorded}


def _datum(data: bytes, shape: tuple[int, int, int], encoded: bool = False) -> Any:
    datum = schema.new("Datum")
    datum.channels, datum.height, datum.width = shape
    datum.data, datum.label, datum.encoded = data, 3, encoded
    return datum


def _datums(images: Files) -> list[bytes]:
    floats = schema.new("Datum")
    floats.channels, floats.height, floats.width, floats.label = 2, 2, 3, 1
    floats.float_data.extend(range(12))
    made = [_datum(bytes(range(60)), (3, 4, 5)), floats]
    made += [_datum(data, (3, 12, 16), True) for data in images.values()]
    return [datum.SerializeToString(deterministic=True) for datum in made]


def _lmdbs(folder: Path) -> list[Files]:
    """Databases of one page, of several levels, and with values that fill pages of their own."""
    chance = random.Random(0)
    counts = {"few": (5, 60), "many": (150, 60), "large": (4, 5000)}
    made = []
    for name, (count, size) in counts.items():
        with create_database(folder / name) as writer:
            value = _datum(chance.randbytes(size), (1, size, 1)).SerializeToString()
            writer.write((b"%08d_%d.png" % (i, i), value) for i in range(count))
        made.append(folder / name / "data.mdb")
    recorded = sorted((RECORDS / "db").glob("*_lmdb/data.mdb"))
    return [{"db/data.mdb": path.read_bytes()} for path in [*made, *recorded]]


def _leveldbs() -> list[Files]:
    """Recorded ones: with a log alone, and with tables."""
    folders = sorted((RECORDS / "db").glob("*leveldb*"))
    found = [{f"db/{p.name}": p.read_bytes() for p in sorted(f.iterdir())} for f in folders]
    return [files for files in found if sum(map(len, files.values())) < _LARGEST]


OLD_NET = b"""name: "old"
input: "data" input_dim: 1 input_dim: 1 input_dim: 8 input_dim: 8
layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" blobs_lr: 1 blobs_lr: 2
  weight_decay: 1 weight_decay: 0
  convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: "xavier" } } }
layers { name: "relu" type: RELU bottom: "conv" top: "conv" }
layers { name: "pool" type: POOLING bottom: "conv" top: "pool"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layers { name: "fc" type: INNER_PRODUCT bottom: "pool" top: "fc"
  inner_product_param { num_output: 3 } }
layers { name: "prob" type: SOFTMAX bottom: "fc" top: "prob" }
"""

V0_NET = b"""name: "v0"
input: "data" input_dim: 1 input_dim: 1 input_dim: 8 input_dim: 8
layers { layer { name: "pad" type: "padding" pad: 1 } bottom: "data" top: "pad" }
layers { layer { name: "conv" type: "conv" num_output: 2 kernelsize: 3 stride: 1
    weight_filler { type: "gaussian" std: 0.01 } bias_filler { type: "constant" }
    blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0 } bottom: "pad" top: "conv" }
layers { layer { name: "relu" type: "relu" } bottom: "conv" top: "conv" }
layers { layer { name: "pool" type: "pool" pool: MAX kernelsize: 2 stride: 2 }
  bottom: "conv" top: "pool" }
layers { layer { name: "norm" type: "lrn" local_size: 5 alpha: 0.0001 beta: 0.75 }
  bottom: "pool" top: "norm" }
layers { layer { name: "fc" type: "innerproduct" num_output: 3 } bottom: "norm" top: "fc" }
layers { layer { name: "prob" type: "softmax" } bottom: "fc" top: "prob" }
"""
