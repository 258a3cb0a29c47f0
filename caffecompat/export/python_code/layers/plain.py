"""Layers without parameters."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

from caffecompat.export.python_code.layer import CodeLayer, options, pair, writers
from caffecompat.layers.pooling import Windows


def _number(value: float) -> str:
    """A number of single precision, in as few digits as tell it."""
    return f"{value:.9g}"


def _function(pattern: str, at: CodeLayer) -> None:
    at.assign(pattern.format(x=at.x))


for _type, _pattern in (
    ("Sigmoid", "{x}.sigmoid()"),
    ("TanH", "{x}.tanh()"),
    ("AbsVal", "{x}.abs()"),
    ("BNLL", "F.softplus({x}, threshold=50)"),
):
    writers.register(_type)(partial(_function, _pattern))


@writers.register("ReLU")
def relu(at: CodeLayer) -> None:
    slope = at.layer.negative_slope
    if slope == 0:
        at.write("F.relu", at.x)
    else:
        at.write("F.leaky_relu", at.x, _number(slope))


@writers.register("ELU")
def elu(at: CodeLayer) -> None:
    at.write("F.elu", at.x, _number(at.layer.alpha))


@writers.register("Swish")
def swish(at: CodeLayer) -> None:
    at.assign(f"{at.x} * ({at.x} * {_number(at.layer.beta)}).sigmoid()")


@writers.register("Clip")
def clip(at: CodeLayer) -> None:
    low, high = _number(at.layer.min), _number(at.layer.max)
    at.assign(f"{at.x}.clamp(max={high}).clamp(min={low})")


@writers.register("Threshold")
def threshold(at: CodeLayer) -> None:
    at.assign(f"({at.x} > {_number(at.layer.threshold)}).float()")


@writers.register("Power")
def power(at: CodeLayer) -> None:
    layer = at.layer
    y = f"({at.x} * {_number(layer.scale)} + {_number(layer.shift)})"
    at.assign(y if layer.power == 1 else f"{y} ** {_number(layer.power)}")


@writers.register("Exp")
def exp(at: CodeLayer) -> None:
    at.assign(f"({at.x} * {_number(at.layer.inner)}).exp() * {_number(at.layer.outer)}")


@writers.register("Log")
def log(at: CodeLayer) -> None:
    layer = at.layer
    inner = f"({at.x} * {_number(layer.scale)} + {_number(layer.shift)})"
    at.assign(f"{inner}.log() * {_number(layer.outer)}")


@writers.register("Pooling")
def pooling(at: CodeLayer) -> None:
    layer = at.layer
    if layer.method == "STOCHASTIC" or layer.mask:
        at.refuse("only MAX and AVE with one top are written")
    maximum = layer.method == "MAX"
    if layer.kernel is None:
        over = f"{at.x}.amax" if maximum else f"{at.x}.mean"
        at.write(over, "(2, 3)", "keepdim=True")
        return
    size = (at.shapes[0][2], at.shapes[0][3])
    windows = layer.windows(size)
    mode = windows.torch_mode()
    if mode is None or (layer.ceil and not _rounds_as_torch(windows)):
        at.refuse("torch's pooling has no such windows")
    at.write(
        "F.max_pool2d" if maximum else "F.avg_pool2d",
        at.x,
        pair(layer.kernel),
        *options(stride=(pair(layer.stride), pair(layer.kernel))),
        *options(padding=(pair(layer.pad), "0")),
        *options(ceil_mode=(layer.ceil and set(layer.stride) != {1}, False)),
    )


def _rounds_as_torch(windows: Windows) -> bool:
    """Whether torch's ceil mode has the same windows for any size.

    Without padding Caffe keeps windows that begin after the plane; there are some only if the
    stride is greater than the kernel.
    """
    steps = zip(windows.stride, windows.kernel, strict=True)
    return any(windows.pad) or all(stride <= kernel for stride, kernel in steps)


@writers.register("LRN")
def lrn(at: CodeLayer) -> None:
    layer = at.layer
    numbers = [str(layer.size), _number(layer.alpha), _number(layer.beta)]
    if layer.within:
        at.write(at.need("within_channel"), at.x, *numbers)
    else:
        at.write("F.local_response_norm", at.x, *numbers, _number(layer.k))


@writers.register("MVN")
def mvn(at: CodeLayer) -> None:
    x = at.x
    missing = 4 - len(at.shapes[0])
    if missing:
        x = f"{x}[({'...,' + ' None,' * missing})]"
    eps = _number(at.layer.eps) if at.layer.scaled else "None"
    at.write(at.need("mvn"), x, str(at.layer.over), eps)


@writers.register("Eltwise")
def eltwise(at: CodeLayer) -> None:
    layer = at.layer
    if layer.operation == "SUM":
        terms = [
            name if factor == 1 else f"{name} * {_number(factor)}"
            for name, factor in zip(at.bottoms, layer.coefficients, strict=True)
        ]
        at.assign(" + ".join(terms))
    elif layer.operation == "PROD":
        at.assign(" * ".join(at.bottoms))
    else:
        largest = at.bottoms[0]
        for name in at.bottoms[1:]:
            largest = f"torch.maximum({largest}, {name})"
        at.assign(largest)


@writers.register("Concat")
def concat(at: CodeLayer) -> None:
    at.write("torch.cat", f"[{', '.join(at.bottoms)}]", str(at.layer.along))


@writers.register("Slice")
def slice_(at: CodeLayer) -> None:
    along = at.layer.along
    extent = at.shapes[0][along]
    points = at.layer.points or range(extent // len(at.tops), extent, extent // len(at.tops))
    sizes = [end - start for start, end in pairwise([0, *points, extent])]
    if len(at.tops) == 1:
        at.assign(at.x)
    else:
        at.write(f"{at.x}.split", str(sizes), str(along))


@writers.register("Softmax")
def softmax(at: CodeLayer) -> None:
    at.assign(f"{at.x}.softmax({at.layer.along})")


@writers.register("Flatten")
def flatten(at: CodeLayer) -> None:
    start, end = at.layer.start, at.layer.end
    if start == end:
        at.assign(f"{at.x}.unsqueeze({start})")
    elif end == len(at.shapes[0]):
        at.assign(f"{at.x}.flatten({start})")
    else:
        at.assign(f"{at.x}.flatten({start}, {end - 1})")


@writers.register("Reshape")
def reshape(at: CodeLayer) -> None:
    layer = at.layer
    axes = len(at.shapes[0])
    start = layer.start if layer.start >= 0 else axes + layer.start + 1
    end = axes if layer.count == -1 else start + layer.count
    copied = [f"{at.x}.shape[{axis}]" for axis in range(axes)]
    new = [copied[start + i] if extent == 0 else str(extent) for i, extent in enumerate(layer.new)]
    at.write(f"{at.x}.reshape", *copied[:start], *new, *copied[end:])


@writers.register("Crop")
def crop(at: CodeLayer) -> None:
    offsets = str(tuple(at.layer.offsets))
    at.write(at.need("crop"), at.x, at.bottoms[1], str(at.layer.first), offsets)


@writers.register("Tile")
def tile(at: CodeLayer) -> None:
    times = ["1"] * len(at.shapes[0])
    times[at.layer.along] = str(at.layer.tiles)
    at.write(f"{at.x}.repeat", *times)


@writers.register("Reduction")
def reduction(at: CodeLayer) -> None:
    layer = at.layer
    flat = f"{at.x}.flatten({layer.first})"
    forms = {"SUM": ".sum(-1)", "ASUM": ".abs().sum(-1)", "SUMSQ": ".square().sum(-1)"}
    y = flat + forms.get(layer.operation, ".mean(-1)")
    at.assign(y if layer.coeff == 1 else f"{y} * {_number(layer.coeff)}")
