"""torch state dicts: ``.pt`` and ``.pth`` files of named tensors."""

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
from caffecompat.weights.encodings.zip_checks import library_errors, zip_archive, zip_names
from caffecompat.weights.format import NamedFormat, formats
from caffecompat.weights.mapped import check_file
from caffecompat.weights.weights import as_float32

if TYPE_CHECKING:
    import torch

ZIP_MAGIC = b"PK\x03\x04"
# The magic number of torch's older files, which are not zip archives: a pickled integer.
OLD_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
REMEDY = "save one state dict with torch.save(model.state_dict(), ...)"
# torch stores metadata for load_state_dict in this attribute of the dict and ignores other keys.
METADATA, OWN_NOTE = "_metadata", "caffecompat"
TEXTS = "caffecompat_metadata"
# Bytes per value in memory, at least: values are used as float32.
MIN_WIDTH = 4
# Of an array of numpy 2; those of numpy 1 have 32.
MOST_AXES = 64


@formats.register("torch")
class TorchState(NamedFormat):
    """A state dict for ``torch.load(..., weights_only=True)`` and ``load_state_dict``.

    Only tensors are read; a file with other objects is refused, never unpickled.
    """

    suffixes = (".pt", ".pth")
    holds_metadata = True

    def sniff(self, head: bytes, path: Path) -> bool:
        if head.startswith(OLD_MAGIC):
            return True
        names = zip_names(path) if head.startswith(ZIP_MAGIC) else None
        return any(name.split("/")[-1] == "data.pkl" for name in names or ())

    def read(self, path: Path) -> NamedArrays:
        state = _load(path, self.max_bytes)
        claimed = ClaimedBytes(path, check_file(path), self.max_bytes)
        # Tensors may share one storage in the file; their float32 copies do not.
        sizes = (t.numel() * max(t.dtype.itemsize, MIN_WIDTH) for t in state.values())
        claimed.add(sum(sizes), "its tensors")
        arrays = {str(name): _array(tensor, path, name) for name, tensor in state.items()}
        notes = getattr(state, METADATA, None)
        own = notes.get("", {}) if isinstance(notes, dict) else {}
        table = own.get(OWN_NOTE) if isinstance(own, dict) else None
        stored = {str(name): str(t.dtype).removeprefix("torch.") for name, t in state.items()}
        texts = own.get(TEXTS) if isinstance(own, dict) else None
        return NamedArrays(arrays, table if isinstance(table, str) else None, stored, _texts(texts))

    def write(self, named: NamedArrays, path: Path) -> None:
        import torch

        state = OrderedDict((name, _tensor(array)) for name, array in named.arrays.items())
        own = {"version": 1, OWN_NOTE: named.table, TEXTS: dict(named.metadata)}
        setattr(state, METADATA, OrderedDict({"": own}))
        with atomic_write(path) as file:
            try:
                torch.save(state, file)
            except RuntimeError as error:
                # After a failed write torch fails again when it closes its archive.
                raise error.__context__ or error from None


def _texts(found: object) -> dict[str, str]:
    texts = found if isinstance(found, dict) else {}
    return {str(key): value for key, value in texts.items() if isinstance(value, str)}


def _load(path: Path, max_bytes: int | None) -> dict[Any, torch.Tensor]:
    import torch

    with open_input(path, max_bytes) as file:
        mapped = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
        if mapped:
            with zip_archive(path, file, max_bytes) as archive:
                _refuse_program(path, archive.namelist())
    with library_errors(path, "a torch file"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about typed storages in old files
        try:
            state = torch.load(str(path), map_location="cpu", weights_only=True, mmap=mapped)
        except pickle.UnpicklingError as error:
            raise FormatError(
                f"{path}: this torch file holds more than tensors, or is damaged; other objects "
                f"are never loaded, because they may run code; {REMEDY}"
            ) from error
    if not isinstance(state, dict):
        raise FormatError(f"{path}: this torch file holds a {type(state).__name__}; {REMEDY}")
    for name, value in state.items():
        if isinstance(value, dict) and value and not any(map(_wrong_entry, value.values())):
            raise FormatError(
                f"{path}: this torch file is a checkpoint, whose entry {name!r} holds a state "
                f"dict; save it alone with torch.save(torch.load({str(path)!r})[{name!r}], ...)"
            )
    for name, value in state.items():
        wrong = _wrong_entry(value)
        if wrong:
            raise FormatError(f"{path}: entry {name!r} of this torch file {wrong}; {REMEDY}")
    return state


def _refuse_program(path: Path, members: list[str]) -> None:
    """Raises FormatError for a program of torch.jit, which torch.load does not read."""
    if any(name.split("/")[-1] == "constants.pkl" for name in members):
        raise FormatError(
            f"{path}: this is a TorchScript program; save its tensors with "
            f"torch.save(torch.jit.load({str(path)!r}).state_dict(), 'net.pt')"
        )


def _wrong_entry(value: object) -> str | None:
    import torch

    if not isinstance(value, torch.Tensor):
        return f"is of type {type(value).__name__}, expected a tensor"
    if value.layout != torch.strided or value.is_quantized or value.is_complex():
        return f"is a {value.layout} tensor of {value.dtype}, expected plain real numbers"
    # With strides of zero a few stored values can claim to be any number of values.
    if value.nbytes > value.untyped_storage().nbytes():
        return f"claims {value.nbytes} bytes, but the file has {value.untyped_storage().nbytes()}"
    return None


def _array(tensor: torch.Tensor, path: Path, name: object) -> np.ndarray:
    # numpy has no bfloat16 and no 8-bit floats; float32 represents them exactly.
    wide = tensor if tensor.dtype.itemsize >= 4 else tensor.float()
    try:
        return as_float32(wide.detach().numpy())
    except ValueError as error:
        few = tensor.dim() <= MOST_AXES
        remedy = "install numpy 2 or later" if few else f"reshape it to at most {MOST_AXES}"
        raise FormatError(
            f"{path}: entry {str(name)!r} of this torch file has {tensor.dim()} axes, more than an "
            f"array of numpy {np.__version__} can have; {remedy}"
        ) from error


def _tensor(array: np.ndarray) -> torch.Tensor:
    array = np.require(array, np.float32, ["C", "W"])
    import torch

    return torch.from_numpy(array)
