"""Caffe models written for other programs, graph passes, and comparisons between engines.

``targets/`` writes a model in another form, one file per form; ``passes/`` rewrites a definition
and its weights together; ``engines/`` runs one model in one engine, for ``caffecompat verify``;
``deploy/`` makes a deploy definition of a training definition; ``torch_import/`` makes a Caffe
model of a torch module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from caffecompat.export.model import CaffeModel


def from_torch(module: nn.Module, example_input: Any) -> CaffeModel:
    """The Caffe model of a feed-forward torch module whose operators Caffe has.

    The module is traced by ``torch.export`` in evaluation mode; it is not changed. Layers have the
    names of the modules ("features.0"), so that weights keep their names. The shapes of inputs are
    those of the example.

    Args:
        module: any module that torch.export can trace.
        example_input: a tensor, for images (N, C, H, W), or a tuple of tensors.

    Raises:
        ExportError: it cannot be traced, or has operators or settings that no layer of Caffe has;
            all of these are named, with their places in the code.
    """
    from caffecompat.export.torch_import.traced_program import from_module

    return from_module(module, example_input)
