"""The Python source of a whole net."""

from __future__ import annotations

import caffecompat
from caffecompat.errors import ExportError
from caffecompat.export.fork_settings import redefined_by, unwritten_settings, writer_name
from caffecompat.export.outputs import without_layers
from caffecompat.export.python_code.caffe_definitions import DEFINITIONS, NEEDS
from caffecompat.export.python_code.layer import (
    INDENT,
    CodeLayer,
    Source,
    identifier,
    writers,
)
from caffecompat.export.value_names import is_same
from caffecompat.graph import Version
from caffecompat.layers.silence import Silence
from caffecompat.net import Net
from caffecompat.net.setup.build import BuiltLayer

HEAD = '''"""{title}

Written by caffecompat {version}. load() takes the weights that "caffecompat convert" writes from
the caffemodel as .safetensors or .pt.
"""

import torch
import torch.nn.functional as F
from torch import nn
'''

# Fields of forks in BVLC Caffe's layer types that the writers know.
KNOWN_FORK_FIELDS = (
    "pooling_param.ceil_mode",
    *(f"pooling_param.{name}_list" for name in ("kernel_size", "stride", "pad")),
    "pooling_param.dilation",
    "pooling_param.pool: AVE_EXC_PAD",
    "pooling_param.pool: AVE_TF",
    "inner_product_param.normalize",
    "dropout_param.scale_train",
    "dropout_param.sample_weights_test",
)

LOAD = '''

def load(path):
    """The net with the weights of a state dict in a .safetensors or .pt file."""
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file

        weights = load_file(path)
    else:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    net = Net()
    net.load_state_dict(weights)
    return net.eval()
'''


def check_known(net: Net, path: str) -> None:
    """Refuses a net with layers that cannot be written.

    Raises:
        ExportError: names them all.
    """
    unknown = [
        b for b in net.layers if _is_written(b) and (writer_name(b) not in writers or _unwritten(b))
    ]
    if unknown:
        raise ExportError(
            f"{path or net.name}: Python source has no code for {without_layers(net, unknown)}; "
            ".pt2 has programs of any layer"
        )


def python_source(net: Net) -> str:
    """The source of a module that computes what a net in phase TEST does.

    Args:
        net: may be built with ``shapes_only``; its weights are not used.

    Raises:
        ExportError: a layer cannot be written.
    """
    source = Source()
    taken: set[str] = set(DEFINITIONS) | {"Net", "load"}
    variables: dict[Version, str] = {}
    inputs = [top for built in net.layers if built.source is not None for top in built.tops]
    for built in net.layers:
        _name_tops(built, variables, taken)
        if _is_written(built):
            writers.find(writer_name(built), built.place)(_layer(net, built, variables, source))
    last = {top.blob: top for built in net.layers for top in built.tops}
    results = [f"{blob!a}: {variables[last[blob]]}" for blob in net.outputs]
    arguments = ", ".join(["self", *(variables[top] for top in inputs)])
    body = [
        "class Net(nn.Module):",
        f"{INDENT}def __init__(self):",
        f"{INDENT * 2}super().__init__()",
        *source.modules,
        "",
        f"{INDENT}def forward({arguments}):",
        *source.steps,
        *_returned(results),
    ]
    title = f"{_plain_text(net.name) or 'A net'}: a Caffe net in torch."
    head = HEAD.format(title=title, version=caffecompat.__version__)
    return "\n".join([head, *_definitions(source.needed), "", *body]) + "\n" + LOAD


def _unwritten(built: BuiltLayer) -> str:
    """The fields of forks in a layer that its writer would miss."""
    return "" if redefined_by(built) else unwritten_settings(built, KNOWN_FORK_FIELDS)


def _is_written(built: BuiltLayer) -> bool:
    return built.module is not None and not (is_same(built) or isinstance(built.layer, Silence))


def _name_tops(built: BuiltLayer, variables: dict[Version, str], taken: set[str]) -> None:
    """In-place layers keep the variable; a copy has the variable of what it copies."""
    for top in built.tops:
        before = Version(top.blob, top.number - 1)
        if built.node.automatic or is_same(built):
            variables[top] = variables[built.bottoms[0]]
        elif before in variables and _only_reader(before, variables):
            variables[top] = variables[before]
        else:
            variables[top] = identifier(top.blob, taken)


def _only_reader(version: Version, variables: dict[Version, str]) -> bool:
    """Whether no other blob is a copy of a version and has its variable."""
    own = variables[version]
    return all(v.blob == version.blob for v, name in variables.items() if name == own)


def _layer(net: Net, built: BuiltLayer, variables: dict[Version, str], source: Source) -> CodeLayer:
    return CodeLayer(
        name=built.name,
        layer=built.layer,
        bottoms=tuple(variables[bottom] for bottom in built.bottoms),
        tops=tuple(variables[top] for top in built.tops),
        shapes=tuple(net.shape_of(bottom) for bottom in built.bottoms),
        source=source,
    )


def _returned(results: list[str]) -> list[str]:
    lines = [f"{INDENT * 2}return {{{', '.join(results)}}}"]
    if len(lines[0]) <= 88:
        return lines
    inner = [f"{INDENT * 3}{result}," for result in results]
    return [f"{INDENT * 2}return {{", *inner, f"{INDENT * 2}}}"]


def _definitions(needed: set[str]) -> list[str]:
    """The definitions that the layers need, and those that these need."""
    every = needed | {name for definition in needed for name in NEEDS.get(definition, ())}
    return ["\n".join(("", DEFINITIONS[name].strip(), "")) for name in sorted(every)]


def _plain_text(name: str) -> str:
    """A name as it may stand in a docstring."""
    return "".join(c if c.isalnum() and c.isascii() else "_" for c in name)[:60]
