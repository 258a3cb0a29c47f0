"""Convolution of HD-CNN: its weight is put together from a codebook."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, format_shape, register
from caffecompat.layers._batch_source import errors_at
from caffecompat.layers.convolution import Convolution

if TYPE_CHECKING:
    import numpy as np

_FILES = ("quantization_kmean_cluster_centers_file", "quantization_kmean_cluster_indices_file")
_SETTINGS = ("quantization_kmean_num_cluster", "quantization_num_segment", *_FILES)


@register("Convolution", fork="HD-CNN")
class CompressedConvolution(Convolution):
    """Convolution whose weight comes from two files: centres of clusters, and their numbers.

    It is meant by ``parameter_compress: true`` and ``quantization_kmean_num_cluster`` above 0. The
    weight as a matrix (num_output, K) is cut into ``quantization_num_segment`` segments of columns;
    in each row a segment is that of one of the centres, which are rows of a matrix (clusters, K).
    ``quantization_kmean_cluster_centers_file`` holds the centres, and
    ``quantization_kmean_cluster_indices_file`` their numbers (num_output, segments), both as a
    BlobProto. The weight is not learned. In a net with ``shapes_only`` the files may be missing.
    Source: the convolution layer of HD-CNN's Caffe.
    """

    param_fields = ("convolution_param",)
    fork_fields = (*Convolution.fork_fields, *(f"convolution_param.{name}" for name in _SETTINGS))

    @classmethod
    def fits(cls, message: Message) -> bool | None:
        p = message.convolution_param
        return bool(message.parameter_compress and p.quantization_kmean_num_cluster)

    def parameter(
        self,
        name: str,
        shape: Sequence[int],
        filler: Message,
        learned: bool = True,
        values: np.ndarray | None = None,
    ) -> None:
        if name != self.parameters[0]:
            super().parameter(name, shape, filler, learned, values)
            return
        super().parameter(name, shape, filler, False, self._weight(shape))

    def read(self, message: Message) -> Message:
        self.settings_read = super().read(message)
        return self.settings_read

    def _weight(self, shape: Sequence[int]) -> np.ndarray | None:
        """The weight; None where nothing is computed and a file is missing."""
        import numpy as np

        from caffecompat.weights.mean_file import read_mean

        p = self.settings_read
        paths = [str(getattr(p, name)) for name in _FILES]
        if self.context.options.shapes_only and not all(map(os.path.exists, paths)):
            return None
        with errors_at(self.context.place):
            centres, numbers = (read_mean(path)[0] for path in paths)
        rows, columns = shape[0], int(np.prod(shape[1:]))
        segments = int(p.quantization_num_segment)
        self.check(
            segments > 0
            and columns % segments == 0
            and centres.shape[1:] == (columns,)
            and numbers.shape == (rows, segments)
            and bool((numbers >= 0).all() and (numbers < len(centres)).all()),
            f"its files hold centres of {format_shape(centres.shape)} and numbers of "
            f"{format_shape(numbers.shape)}; a weight of {rows}x{columns} in {segments} segments "
            f"needs centres of {columns} columns and numbers {rows}x{segments} below the number "
            "of centres",
        )
        parts = centres.reshape(len(centres), segments, -1)
        chosen = parts[numbers.astype(np.int64), np.arange(segments)]
        weight: np.ndarray = chosen.reshape(tuple(shape)).astype(np.float32)
        return weight
