"""The nets in Table 1 of Simonyan and Zisserman (2014), as lines of prototxts.

The table is in the paper's own notation; ``x2`` repeats the layer before it.
"""

from __future__ import annotations

from dataclasses import dataclass

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
