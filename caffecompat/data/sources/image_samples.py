"""The images of a list as samples, for the ImageData layer and those that derive from it."""

from __future__ import annotations

import functools
import os

from caffecompat.data.codec.channel_planes import planes
from caffecompat.data.codec.images import read_pixels, resize_image
from caffecompat.data.counter_rng import permutation
from caffecompat.data.sources.base import RawSample, Sample, Samples
from caffecompat.data.sources.image_list import Entry
from caffecompat.errors import DataError
from caffecompat.reporting.terminal import short_name


class ImageSamples(Samples):
    """The images of a list, always 8 bit: B, G, R, or one channel without ``color``.

    With ``shuffle`` each pass over the list has its own order, which depends only on (seed, pass).
    The first ``skip`` images are left out of the first pass.

    Args:
        path: the list, for messages.
        entries: its entries.
        root: the prefix of each name, including a slash.
        color: whether to decode to three channels.
        size: height and width to resize to; None to keep the size.
        shuffle: whether to shuffle.
        seed: the seed of the shuffling.
        skip: number of images to leave out at the start.

    Raises:
        DataError: the list is empty, or shorter than ``skip``.
    """

    def __init__(
        self,
        path: str,
        entries: list[Entry],
        root: str = "",
        color: bool = True,
        size: tuple[int, int] | None = None,
        shuffle: bool = False,
        seed: int = 0,
        skip: int = 0,
    ) -> None:
        super().__init__(path)
        if not entries:
            raise DataError(f"{path}: the list is empty; it needs at least one image")
        if skip >= len(entries):
            raise DataError(
                f"{path}: rand_skip leaves out {skip} images, but the list has {len(entries)}; "
                "make rand_skip smaller"
            )
        self._entries = entries
        self._root = os.fsencode(root)
        self._color = color
        self._size = size
        self._skip = skip
        count = len(entries)

        # Two passes, since a batch and replacements of corrupt images may reach the next pass.
        @functools.lru_cache(maxsize=2)
        def order(epoch: int) -> list[int]:
            return permutation(seed, count, f"image list, pass {epoch}").tolist()

        self._order = order if shuffle else None

    def __len__(self) -> int:
        return len(self._entries)

    def fetch(self, ordinal: int) -> RawSample:
        """Sample ``ordinal`` without its bytes: the file is read where it is decoded."""
        epoch, place = divmod(ordinal + self._skip, len(self._entries))
        position = self._order(epoch)[place] if self._order else place
        return RawSample(ordinal, position, self._entries[position].name)

    def decode(self, raw: RawSample) -> Sample:
        pixels = read_pixels(self._root + raw.key, "color" if self._color else "gray")
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
