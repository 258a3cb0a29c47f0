"""DocData: pictures of documents from a database."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from caffecompat.layers._base import Message, Shape, at_least, register
from caffecompat.layers._batch_source import BatchSource
from caffecompat.reporting.units import counted

if TYPE_CHECKING:
    from caffecompat.data.loader.prefetch import BatchReader
    from caffecompat.data.sources.documents import ColourJitter, Linear
    from caffecompat.layers._base import Array

_SEVERAL = ("weights", "weights_by_size", "enforce_epochs", "in_order", "no_wrap")


@register("DocData", fork="ctensmeyer")
class DocData(BatchSource):
    """Batches of images (batch, C, H, W), and for each of ``label_names`` its labels (batch,).

    Records are messages DocumentDatum. ``image_transform_param.params`` are steps in their order:
    ``linear_params``, scale (value - shift), and ``color_jitter_params``, a normal number with
    ``mean`` and ``sigma`` added to each channel, in TEST too. A label that a record does not have
    is ``missing_value``.

    After each record 0 to ``rand_advance_skip`` records are left out. Layers with the same ``seed``
    read records of the same places, so that pictures and their targets from several databases stay
    together; without a seed each layer has its own. All random choices are a pure function of the
    net's seed, this one and the sample's number. Several sources in one layer, with the fields that
    choose between them, and ``no_wrap`` are refused. Source: the DocData layer of ctensmeyer's
    Caffe.
    """

    tops = at_least(1)
    batch_param = "doc_data_param"
    param_fields = ("image_transform_param",)
    fork_fields = ("doc_data_param", "image_transform_param")

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self._read_settings(message)
        super().setup(message, bottoms)
        self._add_labels()

    def state_shapes(self, message: Message, stated: Mapping[str, Shape]) -> None:
        self._read_settings(message)
        super().state_shapes(message, stated)
        self._add_labels()

    def _add_labels(self) -> None:
        image = self.shapes[0]
        self.shapes = [image, *[image[:1]] * (self.count - 1)]

    def _read_settings(self, message: Message) -> None:
        from caffecompat.data.sources.documents import DocumentSettings, label_fields

        self.reader = None  # a net that refuses the settings closes its sources
        p = message.doc_data_param
        set_ = [name for name in _SEVERAL if getattr(p, name)]
        self.check(
            len(p.sources) == 1 and not set_,
            f"it has {counted(len(p.sources), 'source')}{''.join(f' and {n}' for n in set_)}; only "
            f"one source is supported, without {', '.join(_SEVERAL[:-1])} or {_SEVERAL[-1]}",
        )
        labels = tuple(p.label_names)
        self.check(
            len(message.top) == 1 + len(labels),
            f"it has {counted(len(message.top), 'top')} and label_names has "
            f"{counted(len(labels), 'value')}; give a top for the images and one for each label",
        )
        unknown = sorted(set(labels) - label_fields())
        self.check(
            not unknown,
            f"no record has the label {', '.join(unknown)}; known: "
            f"{', '.join(sorted(label_fields()))}",
        )
        self.settings_read = DocumentSettings(
            steps=self._steps(message.image_transform_param),
            labels=labels,
            missing=p.missing_value,
            force_color=p.force_color,
            most_skipped=p.rand_advance_skip,
            first_skipped=p.rand_skip,
            order=f"of seed {p.seed}" if p.seed else f"of layer {message.name}",
            place=message.name,
        )

    def _steps(self, p: Message) -> list[Linear | ColourJitter]:
        from caffecompat.data.sources.documents import ColourJitter, Linear

        found: list[Linear | ColourJitter] = []
        for number, step in enumerate(p.params, 1):
            given = [field.name for field, _ in step.ListFields()]
            self.check(
                len(given) == 1,
                f"image_transform_param: params number {number} has {' and '.join(given) or 'no'} "
                "settings; each must have those of one step",
            )
            if given == ["linear_params"]:
                linear = step.linear_params
                found.append(Linear(tuple(linear.shift) or (0.0,), tuple(linear.scale) or (1.0,)))
            else:
                jitter = step.color_jitter_params
                found.append(ColourJitter(jitter.mean, jitter.sigma))
        return found

    def path(self, message: Message) -> str:
        return str(message.doc_data_param.sources[0])

    def _files_missing(self, message: Message) -> bool:
        return not os.path.exists(self.path(message))

    def open(self, message: Message) -> BatchReader:
        from caffecompat.data.loader.open_readers import open_document_reader

        return open_document_reader(message, self.settings_read, self.context.options)

    def shape_from_definition(self, message: Message) -> NoReturn:
        self.refuse_unknown_shape(message, "only the records say it")

    def read(self, index: int) -> Sequence[Array]:
        batch = self._batch(index, False)
        return [batch.data, *(batch.labels[:, i] for i in range(self.count - 1))]

    def read_for_gpu(self, index: int) -> Sequence[Array]:
        return self.read(index)
