"""Layer names as torch module names, reversibly.

torch splits module paths at dots and looks names up as attributes, so a layer called ``conv.1`` or
``train`` needs another spelling in a state dict: percent-encoding of UTF-8, as in addresses. Torch
also writes module names into the code that it generates from a traced net. Characters with a
meaning in a Python string or format are therefore encoded too: quotes, backslashes, braces, control
characters and all characters outside of ASCII.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, catalogue
from caffecompat.layers.inner_product import InnerProduct

if TYPE_CHECKING:
    from caffecompat.weights import LayerWeights, Naming

# Public attributes of torch.nn.Module and torch.fx.GraphModule, listed here so that a caffemodel
# can be converted without importing torch; a test compares the list with torch.
_RESERVED_WORDS = """
    T_destination add_module add_submodule apply bfloat16 buffers call_super_init children
    code compile cpu cuda delete_all_unused_submodules delete_submodule double dump_patches
    eval extra_repr float forward get_buffer get_extra_state get_parameter get_submodule
    graph half ipu load_state_dict meta modules mtia named_buffers named_children
    named_modules named_parameters parameters print_readable recompile
    register_backward_hook register_buffer register_forward_hook register_forward_pre_hook
    register_full_backward_hook register_full_backward_pre_hook
    register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module
    register_parameter register_state_dict_post_hook register_state_dict_pre_hook
    requires_grad_ set_extra_state set_submodule shape_env share_memory state_dict to
    to_empty to_folder train training type xpu zero_grad
"""
RESERVED = frozenset(_RESERVED_WORDS.split())


# The names of parameters of all layer types in the order of their blobs, listed here for the same
# reason; a test compares them with the types.
_PARAMETERS = """
    weight weight_x iteration mean_image mean variance scale_factor correction scale
    c_attn_weight c_attn_bias c_proj_weight c_proj_bias fc_weight fc_bias proj_weight proj_bias
    spatial_weight bilateral_weight compatibility
    bias weight_x_static weight_h weight_o bias_o
"""
_POSITIONS = {name: position for position, name in enumerate(_PARAMETERS.split())}

# Every other character is percent-encoded.
_PLAIN = frozenset(string.ascii_letters + string.digits + "_-/+ ()[]:@=,#&~!*<>^|;?")


def module_name(layer: str) -> str:
    """The module name for a layer name; different layer names have different module names."""
    escaped = "".join(c if c in _PLAIN else _encode(c) for c in layer)
    if not escaped:
        return "%"
    if layer in RESERVED or layer.startswith("_"):
        return _encode(escaped[0]) + escaped[1:]
    return escaped


def layer_name(module: str) -> str:
    """The layer name that :func:`module_name` turned into ``module``."""
    if module == "%":
        return ""
    encoded = module.encode("utf-8", "surrogatepass")
    decoded = re.sub(b"%([0-9A-F]{2})", lambda match: bytes([int(match[1], 16)]), encoded)
    try:
        return decoded.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:  # not a result of module_name
        return module


def _encode(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def torch_naming() -> Naming:
    """The names of a weight file's blobs in a net's ``state_dict``: ``conv1_1.weight``.

    The names depend on the layer types, which a caffemodel contains, so that it can be converted
    without its prototxt. Blobs of an unknown type are called weight, bias, blob2 ...
    """
    from caffecompat.weights import Naming

    return Naming(names=_state_names, layer=layer_name, order=blob_order)


def blob_order(names: Sequence[str]) -> list[str]:
    """The names of a layer's parameters in the order of its blobs; others stay in their order.

    Only Lstm of caffe-lstm has another order, with its bias behind both weights.
    """
    positions = {name: _position(name) for name in names}
    if None in positions.values():
        return list(names)
    return sorted(names, key=lambda name: positions[name] or 0)


def _position(name: str) -> int | None:
    further = re.fullmatch("blob([0-9]{1,9})", name)
    return len(_POSITIONS) + int(further[1]) if further else _POSITIONS.get(name)


def _state_names(layer: LayerWeights) -> list[str]:
    count = len(layer.blobs)
    # Forks' definitions of one type differ in the number or the shapes of their blobs.
    known: list[type[Layer]] = [*catalogue.definitions(layer.type), InnerProduct]
    shapes = [blob.shape for blob in layer.blobs]
    kind = next((one for one in known if one.fits_blobs(shapes)), known[0])
    module = module_name(layer.name)
    return [f"{module}.{name}" for name in kind.parameter_names(count)]
