"""VideoData: clips of videos whose frames are files, as temporal segment networks read them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, exactly, register
from caffecompat.layers._batch_source import BatchSource

if TYPE_CHECKING:
    from caffecompat.data.advice import MissingInput
    from caffecompat.data.loader.prefetch import BatchReader
    from caffecompat.data.sources.frame_lists import FrameSettings

_USED = (
    *("source", "batch_size", "new_height", "new_width", "new_length", "num_segments", "shuffle"),
    *("modality", "name_pattern", "grayscale", "length_first"),
)
# Fields that the fork reads and does not use.
_UNUSED = ("rand_skip", "encoded")
_OF_SSD = ("video_type", "device_id", "video_file", "skip_frames")


@register("VideoData", fork="action recognition")
class VideoData(BatchSource):
    """Batches of clips: (batch, segments x frames x channels, H, W), and labels (batch,).

    A line of ``source`` is a folder of frames, their number and a label. A video is divided into
    ``num_segments`` parts of equal length, and ``new_length`` successive frames are taken from
    each: at a random place in TRAIN, in the middle in TEST, the first ones where a part is shorter.
    ``modality`` RGB reads one image per frame, FLOW two gray ones, whose ``name_pattern`` has a
    ``%c`` for x and y. Channels are in order of segment, frame and channel; with ``length_first``
    of segment, channel and frame. ``transform_param`` crops, also with ``multi_scale`` and
    ``fix_crop``, flips (``is_flow`` inverts horizontal flow), subtracts the mean and scales. Random
    choices are a pure function of the seed and the sample's number.
    Source: the Caffe of temporal segment networks.
    """

    tops = exactly(2)
    batch_param = "video_data_param"
    param_fields = ("transform_param",)
    fork_fields = (
        "video_data_param",
        *(
            f"transform_param.{name}"
            for name in (
                *("multi_scale", "scale_ratios", "max_distort"),
                *("fix_crop", "more_fix_crop", "is_flow"),
            )
        ),
    )

    @classmethod
    def missing_files(cls, message: Message, phase: str, definition: Message) -> list[MissingInput]:
        from caffecompat.data.advice import MissingInput, mean_of_list

        found = [mean_of_list(message)]
        source = message.video_data_param.source
        if source and not os.path.exists(source):
            command = (
                'for d in FRAMES/*/; do echo "$d $(ls $d | wc -l) LABEL"; done > '
                + shlex.quote(source)
            )
            hint = "FRAMES: a folder with a folder of frames for each video; LABEL: its class"
            found.append(MissingInput(source, "list of videos", command, (hint,)))
        return [missing for missing in found if missing is not None]

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self._read_settings(message)
        super().setup(message, bottoms)

    def state_shapes(self, message: Message, stated: Mapping[str, Shape]) -> None:
        self._read_settings(message)
        super().state_shapes(message, stated)

    def _read_settings(self, message: Message) -> None:
        from caffecompat.data.sources.frame_lists import why_no_pattern

        self.reader = None  # a net that refuses the settings closes its sources
        p, t = message.video_data_param, message.transform_param
        given = [field.name for field, _ in p.ListFields()]
        self.check(
            not any(name in _OF_SSD for name in given) and bool(p.source),
            "video_data_param: SSD's VideoData reads a camera or a film, which is not supported; "
            "write the film's frames to files (mkdir -p frames && ffmpeg -i FILM "
            "frames/image_%04d.jpg) and name them in a list for an ImageData layer",
        )
        others = [name for name in given if name not in (*_USED, *_UNUSED)]
        self.check(
            not others,
            f"video_data_param: {', '.join(others)} is not supported; crops, flips and means are "
            "in transform_param, and other fields are of other forks",
        )
        self.check(
            (p.new_height == 0) == (p.new_width == 0),
            f"new_height is {p.new_height} and new_width {p.new_width}; set both, or neither",
        )
        for name in ("batch_size", "num_segments", "new_length"):
            self.check(getattr(p, name) > 0, f"{name} is {getattr(p, name)}, expected 1 or more")
        self.flow = p.modality != 0
        default = "flow_%c_%04d.jpg" if self.flow else "image_%04d.jpg"
        self.pattern = p.name_pattern or default
        wrong = why_no_pattern(self.pattern, self.flow)
        self.check(wrong is None, wrong or "")
        self.check(
            not t.multi_scale or t.crop_size > 0, "transform_param: multi_scale needs a crop_size"
        )
        self.check(t.max_distort >= 0, f"max_distort is {t.max_distort}, expected 0 or more")
        self.check(
            all(0 < ratio <= 1 for ratio in t.scale_ratios),
            "scale_ratios must be above 0 and at most 1",
        )

    def settings_of(self, message: Message) -> FrameSettings:
        """How frames become samples; reads the mean file.

        Raises:
            FileProblem, FormatError, DataError: the mean cannot be used.
        """
        from caffecompat.data.sources.frame_lists import DEFAULT_RATIOS, FrameSettings
        from caffecompat.data.transforms.transform import refuse_extensions
        from caffecompat.errors import DataError
        from caffecompat.weights.mean_file import read_mean

        p, t = message.video_data_param, message.transform_param
        refuse_extensions(t, "VideoData")
        if t.mean_file and t.mean_value:
            raise DataError("transform_param: mean_file and mean_value are both given; remove one")
        return FrameSettings(
            segments=p.num_segments,
            length=p.new_length,
            pattern=self.pattern,
            flow=self.flow,
            colour=not p.grayscale,
            length_first=p.length_first,
            size=(p.new_height, p.new_width) if p.new_height else None,
            crop=t.crop_size,
            train=self.context.phase == "TRAIN",
            mirror=t.mirror,
            inverts=t.is_flow,
            ratios=(tuple(t.scale_ratios) or DEFAULT_RATIOS) if t.multi_scale else (),
            max_distort=t.max_distort,
            corners=(2 if t.more_fix_crop else 1) if t.fix_crop else 0,
            mean=tuple(t.mean_value),
            mean_image=read_mean(t.mean_file) if t.mean_file else None,
            scale=t.scale,
        )

    def path(self, message: Message) -> str:
        return str(message.video_data_param.source)

    def open(self, message: Message) -> BatchReader:
        from caffecompat.data.loader.open_readers import open_video_reader

        parameter = message.video_data_param
        return open_video_reader(parameter, self.settings_of(message), self.context.options)

    def shape_from_definition(self, message: Message) -> Shape:
        p, crop = message.video_data_param, message.transform_param.crop_size
        height, width = (crop, crop) if crop else (p.new_height, p.new_width)
        if not height:
            self.refuse_unknown_shape(
                message, "there is no crop_size, nor new_height and new_width"
            )
        per_frame = 2 if self.flow else 1 if p.grayscale else 3
        return (self.rows(message), p.num_segments * p.new_length * per_frame, height, width)
