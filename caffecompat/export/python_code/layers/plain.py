"""Layers without parameters."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

from caffecompat.export.python_code.layer import (
    INDENT,
    CodeLayer,
    number,
    options,
    pair,
    writers,
)
from caffecompat.layers._pooling_windows import Windows, torch_count
from caffecompat.layers.pooling import maximum


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
        at.write("F.leaky_relu", at.x, number(slope))


@writers.register("ELU")
def elu(at: CodeLayer) -> None:
    at.write("F.elu", at.x, number(at.layer.alpha))


@writers.register("Swish")
def swish(at: CodeLayer) -> None:
    at.assign(f"{at.x} * ({at.x} * {number(at.layer.beta)}).sigmoid()")


@writers.register("Clip")
def clip(at: CodeLayer) -> None:
    low, high = number(at.layer.min), number(at.layer.max)
    at.assign(f"{at.x}.clamp(max={high}).clamp(min={low})")


@writers.register("Threshold")
def threshold(at: CodeLayer) -> None:
    at.assign(f"({at.x} > {number(at.layer.threshold)}).to({at.x}.dtype)")


@writers.register("Power")
def power(at: CodeLayer) -> None:
    layer = at.layer
    if layer.is_constant:
        at.write("torch.full_like", at.x, number(layer.constant()))
        return
    y = f"({at.x} * {number(layer.scale)} + {number(layer.shift)})"
    at.assign(y if layer.power == 1 else f"{y} ** {number(layer.power)}")


@writers.register("Exp")
def exp(at: CodeLayer) -> None:
    at.assign(f"({at.x} * {number(at.layer.inner)}).exp() * {number(at.layer.outer)}")


@writers.register("Log")
def log(at: CodeLayer) -> None:
    layer = at.layer
    inner = f"({at.x} * {number(layer.scale)} + {number(layer.shift)})"
    at.assign(f"{inner}.log() * {number(layer.outer)}")


@writers.register("Pooling")
def pooling(at: CodeLayer) -> None:
    layer = at.layer
    if layer.method == "STOCHASTIC":
        at.refuse("only MAX and AVE are written")
    maximum = layer.method == "MAX"
    if layer.kernel is None:
        if layer.mask:
            at.refuse("the place of the maximum of a whole plane is not written")
        over = f"{at.x}.amax" if maximum else f"{at.x}.mean"
        at.write(over, "(2, 3)", "keepdim=True")
        return
    windows = layer.windows(at.shapes[0][2:])
    excluded = not maximum and not windows.counts_padding
    write_pooling(
        at, windows, maximum, *options(count_include_pad=(not excluded, True)), mask=layer.mask
    )


def write_pooling(
    at: CodeLayer, windows: Windows, maximum: bool, *more: str, mask: bool = False
) -> None:
    """Pooling over the last one to three axes, one operator of torch.

    Raises:
        ExportError: torch's pooling has other windows.
    """
    if not _fits_torch(windows):
        at.refuse("torch's pooling has no such windows")
    function = f"F.{'max' if maximum else 'avg'}_pool{len(windows.size)}d"
    dilation = windows.dilation or (1,)
    arguments = [
        at.x,
        pair(windows.kernel),
        *options(stride=(pair(windows.stride), pair(windows.kernel))),
        *options(padding=(pair(windows.pad), "0")),
        *options(dilation=(pair(dilation), "1")),
        *options(ceil_mode=(windows.ceil and set(windows.stride) != {1}, False)),
        *more,
    ]
    if not mask:
        at.write(function, *arguments)
        return
    at.write(function, *arguments, "return_indices=True")
    at.source.steps.append(f"{INDENT * 2}{at.tops[1]} = {at.tops[1]}.to({at.tops[0]}.dtype)")


def _fits_torch(windows: Windows) -> bool:
    """Whether torch's pooling has the same windows for any size.

    torch allows pads up to half the kernel. Without padding Caffe keeps windows that begin after
    the plane; there are some only if the stride is greater than the kernel.
    """
    if windows.after != windows.pad:
        return False
    if any(2 * pad > kernel for pad, kernel in zip(windows.pad, windows.kernel, strict=True)):
        return False
    axes = zip(windows.size, windows.extent, windows.stride, windows.pad, strict=True)
    if tuple(torch_count(*axis, windows.ceil) for axis in axes) != windows.count:
        return False
    steps = zip(windows.stride, windows.extent, strict=True)
    return not windows.ceil or any(windows.pad) or all(s <= extent for s, extent in steps)


@writers.register("LRN")
def lrn(at: CodeLayer) -> None:
    layer = at.layer
    numbers = [str(layer.size), number(layer.alpha), number(layer.beta)]
    if layer.within:
        at.write(at.need("within_channel"), at.x, *numbers)
    else:
        at.write("F.local_response_norm", at.x, *numbers, number(layer.k))


@writers.register("MVN")
def mvn(at: CodeLayer) -> None:
    x = at.x
    missing = 4 - len(at.shapes[0])
    if missing:
        x = f"{x}[({'...,' + ' None,' * missing})]"
    eps = number(at.layer.eps) if at.layer.scaled else "None"
    at.write(at.need("mvn"), x, str(at.layer.over), eps)


@writers.register("Eltwise")
def eltwise(at: CodeLayer) -> None:
    layer = at.layer
    if layer.operation == "SUM":
        terms = [
            name if factor == 1 else f"{name} * {number(factor)}"
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
    at.assign(y if layer.coeff == 1 else f"{y} * {number(layer.coeff)}")


@writers.register("SPP")
def spp(at: CodeLayer) -> None:
    """The pooled levels, flattened; their windows are those of the size of each pass."""
    layer = at.layer
    pool = "F.max_pool2d" if layer.pool is maximum else "F.avg_pool2d"
    counts = [2**level for level in range(layer.height)]
    if not all(_fits_torch(layer.windows(at.shapes[0], count)) for count in counts):
        at.refuse("torch's pooling has no such windows")
    levels = [f"{at.need('pyramid')}({at.x}, {pool}, {count})" for count in counts]
    if len(levels) == 1:
        at.assign(levels[0])
        return
    at.source.steps += [
        f"{INDENT * 2}{at.tops[0]} = [",
        *(f"{INDENT * 3}{level}.flatten(1)," for level in levels),
        f"{INDENT * 2}]",
    ]
    at.write("torch.cat", at.tops[0], "1")


@writers.register("ArgMax")
def arg_max(at: CodeLayer) -> None:
    layer = at.layer
    if layer.along is not None:
        which = 0 if layer.values else 1
        arguments = f"{at.x}, {layer.top_k}, {layer.along}"
        at.assign(f"{at.need('greatest')}({arguments})[{which}]")
        return
    ones = (1,) * (len(at.shapes[0]) - 3)
    shape = (-1, 1 + layer.values, layer.top_k, *ones)
    found = f"{at.need('greatest')}({at.x}.flatten(1), {layer.top_k}, 1)"
    if layer.values:
        at.assign(f"torch.stack({found}[::-1], 1).reshape{shape}")
    else:
        at.assign(f"{found}[1].reshape{shape}")


@writers.register("Im2col")
def im2col(at: CodeLayer) -> None:
    g = at.layer.geometry
    if g.axes != 2 or g.channel_axis != 1:
        at.refuse("only kernels of two axes are written")
    settings = (g.kernel, g.dilation, g.pad, g.stride)
    at.write(at.need("im2col"), at.x, *(str(tuple(one)) for one in settings))


@writers.register("BatchReindex")
def batch_reindex(at: CodeLayer) -> None:
    at.assign(f"{at.x}[{at.bottoms[1]}.long()]")
