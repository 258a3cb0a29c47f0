"""Removes the settings of a layer that only training reads."""

from __future__ import annotations

from typing import Any

# Fields of a LayerParameter that say when a layer exists or how it is trained.
TRAINING_FIELDS = ("include", "exclude", "phase", "loss_weight", "propagate_down")
FILLER = "FillerParameter"


def without_training_settings(layer: Any) -> None:
    """Removes fillers, multipliers, rules and loss weights from a LayerParameter.

    Names of shared parameters stay, and the multiplier 0 of a shared statistic, which Caffe
    requires. The values of DummyData are fillers too; they stay.
    """
    for field in TRAINING_FIELDS:
        layer.ClearField(field)
    if layer.type != "DummyData":
        _remove_fillers(layer)
    _remove_multipliers(layer)


def _remove_fillers(layer: Any) -> None:
    for field, settings in layer.ListFields():
        if field.message_type is None or _is_repeated(settings):
            continue
        for inner, _ in settings.ListFields():
            if inner.message_type is not None and inner.message_type.name == FILLER:
                settings.ClearField(inner.name)


def _is_repeated(value: Any) -> bool:
    return not hasattr(value, "ListFields")


def _remove_multipliers(layer: Any) -> None:
    for param in layer.param:
        if not (param.name and layer.type == "BatchNorm"):
            param.ClearField("lr_mult")
        param.ClearField("decay_mult")
    while layer.param and not layer.param[-1].name:
        del layer.param[-1]
