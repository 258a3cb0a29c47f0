"""The fields of solver states, and how both encodings store each."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from caffecompat.weights.encodings import wire
from caffecompat.weights.encodings.wire import Message, Part
from caffecompat.weights.hdf5_input.hdf5_file import HDF5File, read_integer, read_text, write_text
from caffecompat.weights.weights import as_float32


@dataclass(frozen=True)
class StateField(ABC):
    """A value of a solver state that is no history.

    Attributes:
        attribute: its name in :class:`caffecompat.weights.SolverState`.
        number: its number in the binary encoding.
        name: its name in HDF5.
        beside: the attribute without whose value this one is not stored; empty for its own.
        wire_type: of its binary form.
    """

    attribute: str
    number: int
    name: str
    beside: str = ""
    wire_type = wire.VARINT

    def is_stored(self, state: object) -> bool:
        """Whether the files of ``state`` have it: numbers always, but nothing that is empty."""
        value = getattr(state, self.beside or self.attribute)
        return value is not None and value not in ("", [])

    @abstractmethod
    def parse(self, message: Message, item: wire.Field, before: Any) -> Any:
        """The value in a binary field; ``before`` is that of the fields before it."""

    @abstractmethod
    def parts(self, value: Any) -> Sequence[Part]:
        """The binary field."""

    @abstractmethod
    def read(self, file: HDF5File) -> Any:
        """The value in an HDF5 file that has it."""

    @abstractmethod
    def write(self, file: Any, value: Any) -> None:
        """Writes it into an HDF5 file of h5py."""


@dataclass(frozen=True)
class Integer(StateField):
    """A whole number of so many bits."""

    bits: int = 32

    def parse(self, message: Message, item: wire.Field, before: Any) -> int:
        return wire.signed(item.value, self.bits)

    def parts(self, value: int) -> Sequence[Part]:
        return wire.number_field(self.number, value)

    def read(self, file: HDF5File) -> int:
        return read_integer(file, self.name)

    def write(self, file: Any, value: int) -> None:
        file.create_dataset(self.name, data=np.array([value], f"i{self.bits // 8}"))


class Float(StateField):
    """A float32."""

    wire_type = wire.FIXED32

    def parse(self, message: Message, item: wire.Field, before: Any) -> float:
        return float(message.numbers(item, "<f4")[-1])

    def parts(self, value: float) -> Sequence[Part]:
        return [wire.varint(self.number << 3 | wire.FIXED32) + struct.pack("<f", value)]

    def read(self, file: HDF5File) -> float | None:
        found = _floats(file, self.name)
        return found[0] if found else None

    def write(self, file: Any, value: float) -> None:
        file.create_dataset(self.name, data=np.array([value], np.float32))


class Floats(StateField):
    """A list of float32 numbers."""

    wire_type = wire.LENGTH

    def parse(self, message: Message, item: wire.Field, before: list[float]) -> list[float]:
        before.extend(message.numbers(item, "<f4").tolist())
        return before

    def parts(self, value: list[float]) -> Sequence[Part]:
        return wire.packed_floats(self.number, np.array(value, np.float32))

    def read(self, file: HDF5File) -> list[float]:
        return _floats(file, self.name)

    def write(self, file: Any, value: list[float]) -> None:
        file.create_dataset(self.name, data=np.array(value, np.float32))


class Text(StateField):
    """A text, which HDF5 files have also where it is empty."""

    wire_type = wire.LENGTH

    def parse(self, message: Message, item: wire.Field, before: Any) -> str:
        return message.text(item)

    def parts(self, value: str) -> Sequence[Part]:
        return wire.text_field(self.number, value)

    def read(self, file: HDF5File) -> str:
        return read_text(file, self.name)

    def write(self, file: Any, value: str) -> None:
        write_text(file, self.name, value)


class Hash(Text):
    """A hash, in hexadecimal; the binary encoding has its bytes."""

    def parse(self, message: Message, item: wire.Field, before: Any) -> str:
        return bytes(message.data[item.start : item.end]).hex()

    def parts(self, value: str) -> Sequence[Part]:
        return wire.delimited(self.number, [bytes.fromhex(value)])


def _floats(file: HDF5File, name: str) -> list[float]:
    return [float(value) for value in as_float32(file.read(name)).reshape(-1)]


# The plateau policy's fields are SSD's; numbers from 5000 on are extensions of this package. BVLC
# Caffe skips both.
ITERATION = Integer("iteration", 1, "iter")
LEARNED_NET = Text("learned_net", 2, "learned_net")
VALUES: tuple[StateField, ...] = (
    Integer("current_step", 4, "current_step"),
    Float("minimum_loss", 5, "minimum_loss"),
    Integer("iter_last_event", 6, "iter_last_event", beside="minimum_loss"),
    Integer("random_seed", 5000, "random_seed", bits=64),
    Floats("recent_losses", 5001, "recent_losses"),
    Float("loss_scale", 5002, "loss_scale"),
    Integer("good_iterations", 5003, "good_iterations", beside="loss_scale"),
    Hash("learned_net_sha256", 5004, "learned_net_sha256"),
)
"""The fields that tell nothing of the file's place, in the order in which they are written."""
STATE_HASH = Hash("", 5005, "state_sha256", beside="learned_net_sha256")
"""The hash of a state's own values, which is no part of them."""
EVERY = (ITERATION, LEARNED_NET, *VALUES)
