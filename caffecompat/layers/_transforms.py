"""Transforms of torch.func, such as grad, jacrev and vmap."""

from __future__ import annotations


def is_transformed() -> bool:
    """Whether a transform of torch.func runs.

    It cannot look into a gradient of our own (``torch.autograd.Function``), and differentiates
    torch's operators itself.
    """
    import torch

    # torch has no public name for it.
    return torch._C._are_functorch_transforms_active()
