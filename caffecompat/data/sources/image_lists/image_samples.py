"""The images of a list as samples, for the ImageData layer and those that derive from it."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

from caffecompat.data.codec.channel_planes import planes
from caffecompat.data.codec.images import read_pixels, resize_image
from caffecompat.data.counter_rng import permutation
from caffecompat.data.sources.base import RawSample, Sample, Samples
from caffecompat.data.sources.image_lists.image_list import Entry
from caffecompat.errors import DataError
from caffecompat.reporting.terminal import short_name


@dataclass(frozen=True)
class ListSettings:
    """How the files of a list are taken.

    With ``shuffle`` each pass over the list has its own order, which depends only on (seed, pass).

    Attributes:
        root: the prefix of each name, including a slash.
        colour: whether images are decoded to three channels.
        shuffle: whether to shuffle.
        seed: the seed of all random choices.
        skip: number of entries that the first pass leaves out at its start.
    """

    root: str = ""
    colour: bool = True
    shuffle: bool = False
    seed: int = 0
    skip: int = 0


class ImageSamples(Samples):
    """The images of a list, always 8 bit: B, G, R, or one channel without ``colour``.

    Args:
        path: the list, for messages.
        entries: its entries.
        settings: how they are taken.
        size: height and width to resize to; None to keep the size.

    Raises:
        DataError: the list is empty, or shorter than ``skip``.
    """

    def __init__(
        self,
        path: str,
        entries: list[Entry],
        settings: ListSettings | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(path)
        taken = self._taken = settings or ListSettings()
        if not entries:
            raise DataError(f"{path}: the list is empty; it needs at least one image")
        if taken.skip >= len(entries):
            raise DataError(
                f"{path}: rand_skip leaves out {taken.skip} images, but the list has "
                f"{len(entries)}; make rand_skip smaller"
            )
        self._entries = entries
        self._root = os.fsencode(taken.root)
        self._size = size
        count = len(entries)

        # Two passes, since a batch and replacements of corrupt images may reach the next pass.
        @functools.lru_cache(maxsize=2)
        def order(epoch: int) -> list[int]:
            return permutation(taken.seed, count, f"image list, pass {epoch}").tolist()

        self._order = order if taken.shuffle else None

    def __len__(self) -> int:
        return len(self._entries)

    def fetch(self, ordinal: int) -> RawSample:
        """Sample ``ordinal`` without its bytes: the file is read where it is decoded."""
        epoch, place = divmod(ordinal + self._taken.skip, len(self._entries))
        position = self._order(epoch)[place] if self._order else place
        return RawSample(ordinal, position, self._entries[position].name)

    def decode(self, raw: RawSample) -> Sample:
        pixels = read_pixels(self._root + raw.key, "color" if self._taken.colour else "gray")
        if self._size is not None:
            pixels = resize_image(pixels, width=self._size[1], height=self._size[0])
        return Sample(planes(pixels), self._entries[raw.position].label)

    def largest_label(self, most: int, most_bytes: int) -> tuple[int, int] | None:
        return max(entry.label for entry in self._entries), len(self._entries)

    def close(self) -> None:
        """Does nothing: no file is open."""

    def locate(self, raw: RawSample) -> str:
        name = short_name((self._root + raw.key).decode(errors="backslashreplace"))
        return f"{self.path}: line {raw.position + 1} (image {name!r})"
