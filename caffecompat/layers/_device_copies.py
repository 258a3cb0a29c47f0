"""Numbers of a definition on the devices that need them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class DeviceCopies:
    """Numbers that are copied once to each device and number type, not in each pass.

    A copy makes the host wait, and a CUDA graph cannot hold it.

    Args:
        values: fp32 where it is a tensor.
    """

    def __init__(self, values: Tensor | Sequence[float]) -> None:
        self.values = values
        self._copies: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def on(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """The numbers as a tensor without gradient."""
        import torch

        key = (device, dtype)
        if key not in self._copies:
            self._copies[key] = torch.as_tensor(self.values, device=device, dtype=dtype)
        return self._copies[key]
