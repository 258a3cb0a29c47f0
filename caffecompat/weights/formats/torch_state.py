"""torch state dicts: ``.pt`` and ``.pth`` files with tensors by name."""

from __future__ import annotations

import pickle
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from caffecompat.errors import FormatError
from caffecompat.input_files import ClaimedBytes, open_input
from caffecompat.output_files import atomic_write
from caffecompat.weights.array_names import NamedArrays
from caffecompat.weights.format import NamedFormat, formats
from caffecompat.weights.mapped import check_file
from caffecompat.weights.weights import as_float32
from caffecompat.weights.zip_checks import reading, zip_archive, zip_names

if TYPE_CHECKING:
    import torch

ZIP_MAGIC = b"PK\x03\x04"
# The number that torch's old, unzipped files begin with, as a pickled integer.
OLD_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
SAVE_SO = "save one state dict with torch.save(model.state_dict(), ...)"
# torch keeps notes for load_state_dict in this attribute of the dict and leaves others' alone.
METADATA, OWN_NOTE = "_metadata", "caffecompat"
# The least that a value takes where it is used, as float32.
LEAST_WIDTH = 4


@formats.register("torch")
class TorchState(NamedFormat):
    """A state dict for ``torch.load(..., weights_only=True)`` and ``load_state_dict``.

    Only tensors are ever read; a file that needs more than that is refused, never unpickled.
    """

    suffixes = (".pt", ".pth")

    def sniff(self, head: bytes, path: Path) -> bool:
        if head.startswith(OLD_MAGIC):
            return True
        names = zip_names(path) if head.startswith(ZIP_MAGIC) else None
        return any(name.split("/")[-1] == "data.pkl" for name in names or ())

    def read(self, path: Path) -> NamedArrays:
        state = _load(path, self.max_bytes)
        claimed = ClaimedBytes(path, check_file(path), self.max_bytes)
        for tensor in state.values():
            # Tensors may share one storage; each takes memory of its own where it is used.
            width = max(tensor.dtype.itemsize, LEAST_WIDTH)
            claimed.add(tensor.numel() * width, "its tensors")
        arrays = {str(name): _array(tensor) for name, tensor in state.items()}
        notes = getattr(state, METADATA, None)
        own = notes.get("", {}) if isinstance(notes, dict) else {}
        table = own.get(OWN_NOTE) if isinstance(own, dict) else None
        stored = {str(name): str(t.dtype).removeprefix("torch.") for name, t in state.items()}
        return NamedArrays(arrays, table if isinstance(table, str) else None, stored)

    def write(self, named: NamedArrays, path: Path) -> None:
        import torch

        state = OrderedDict((name, _tensor(array)) for name, array in named.arrays.items())
        setattr(state, METADATA, OrderedDict({"": {"version": 1, OWN_NOTE: named.table}}))
        with atomic_write(path) as file:
            try:
                torch.save(state, file)
            except RuntimeError as error:
                # torch tries to end its archive after a failed write and complains about that.
                raise error.__context__ or error from None


def _load(path: Path, max_bytes: int | None) -> dict[Any, torch.Tensor]:
    import torch

    with open_input(path, max_bytes) as file:
        mapped = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
        if mapped:
            with zip_archive(path, file, max_bytes):
                pass  # its directory is all right
    with reading(path, "a torch file"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old files warn about storages that nobody can change now
        try:
            state = torch.load(str(path), map_location="cpu", weights_only=True, mmap=mapped)
        except pickle.UnpicklingError as error:
            raise FormatError(
                f"{path}: this torch file holds more than tensors, or is damaged; other objects "
                f"are never loaded, because they may run code; {SAVE_SO}"
            ) from error
    if not isinstance(state, dict):
        raise FormatError(f"{path}: this torch file holds a {type(state).__name__}; {SAVE_SO}")
    for name, value in state.items():
        wrong = _wrong_entry(value)
        if wrong:
            raise FormatError(f"{path}: entry {name!r} of this torch file {wrong}; {SAVE_SO}")
    return state


def _wrong_entry(value: object) -> str | None:
    import torch

    if not isinstance(value, torch.Tensor):
        return f"is a {type(value).__name__}, expected a tensor"
    if value.layout != torch.strided or value.is_quantized or value.is_complex():
        return f"is a {value.layout} tensor of {value.dtype}, expected plain real numbers"
    # A few stored values can claim to be any number of them by strides of zero.
    if value.nbytes > value.untyped_storage().nbytes():
        return f"claims {value.nbytes} bytes, but the file has {value.untyped_storage().nbytes()}"
    return None


def _array(tensor: torch.Tensor) -> np.ndarray:
    # numpy has no bfloat16 and no 8-bit floats; float32 holds them all.
    wide = tensor if tensor.dtype.itemsize >= 4 else tensor.float()
    return as_float32(wide.detach().numpy())


def _tensor(array: np.ndarray) -> torch.Tensor:
    array = np.require(array, np.float32, ["C", "W"])
    import torch

    return torch.from_numpy(array)
