"""The lines of code that load a weight file, printed after it is written."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from caffecompat.reporting.terminal import printable

# How many names of a state dict are shown.
_SHOWN = 3


def loading_lines(target: Path, format_name: str, keys: Sequence[str], model: str) -> list[str]:
    """The content of ``target``, and two lines of a program that load it.

    Args:
        target: the file.
        format_name: the name of its format.
        keys: names of its arrays in the state dict or archive, in order.
        model: the net definition that it belongs to, or "".
    """
    path, definition = str(target), model or "NET.prototxt"
    if format_name == "torch":
        return [
            _listed("keys", keys),
            "in PyTorch:",
            "  import torch",
            f"  state = torch.load({path!r}, weights_only=True)  # a dict for load_state_dict",
            f"in caffecompat: caffecompat.Net({definition!r}, weights={path!r})",
        ]
    if format_name == "safetensors":
        return [
            _listed("keys", keys),
            "in PyTorch, with the library safetensors:",
            "  from safetensors.torch import load_file",
            f"  state = load_file({path!r})  # a dict for load_state_dict",
            f"in caffecompat: caffecompat.Net({definition!r}, weights={path!r})",
        ]
    if format_name == "npz":
        return [
            _listed("keys", keys),
            "in numpy:",
            "  import numpy as np",
            f"  arrays = np.load({path!r})  # arrays[{(keys or ['layer/0'])[0]!r}]",
        ]
    return [
        f"in Caffe: caffe test -model {shlex.quote(definition)} -weights {shlex.quote(path)}",
        f"in caffecompat: caffecompat.Net({definition!r}, weights={path!r})",
    ]


def torchvision_lines(
    target: Path, format_name: str, keys: Sequence[str], architecture: str
) -> list[str]:
    """What there is in ``target``, and the lines that load it into torchvision's net.

    Args:
        target: the file.
        format_name: the name of its format, torch or safetensors.
        keys: the names of its arrays.
        architecture: the name of torchvision's function.
    """
    path = str(target)
    library, call = "torch", f"torch.load({path!r}, weights_only=True)"
    if format_name == "safetensors":
        library, call = "safetensors.torch", f"safetensors.torch.load_file({path!r})"
    return [
        _listed("keys", keys),
        "in torchvision, with as many classes as the net has:",
        f"  import torchvision, {library}",
        f"  net = torchvision.models.{architecture}({_extra_arguments(architecture)})",
        f"  net.load_state_dict({call})",
    ]


def _extra_arguments(architecture: str) -> str:
    if architecture == "googlenet":
        return "init_weights=False, aux_logits=False"
    return ""


def _listed(title: str, names: Sequence[str]) -> str:
    more = f", ... ({len(names)})" if len(names) > _SHOWN else ""
    return printable(f"{title}: {', '.join(names[:_SHOWN])}{more}")
