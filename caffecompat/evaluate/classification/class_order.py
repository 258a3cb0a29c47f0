"""The two orders of ILSVRC's 1000 classes, told apart by names of classes and by the model.

Names that begin with a WordNet id ("n01440764 tench") show their order. Caffe's models and VGG's
very deep nets were trained in the order of the ids; the older VGG nets CNN-S and CNN-M, of the
evaluation "Return of the Devil in the Details", in the order of the ILSVRC development kit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from pathlib import Path

from caffecompat.weights.known_files import CAFFE_ORDER, DEVKIT_ORDER, VERY_DEEP, recognise

_CLASSES = 1000
_ID = re.compile(r"n\d{8}\b")
# The id of class 0 in the development kit: kit fox.
_FIRST_OF_DEVKIT = "n02119789"
_DEVKIT_NET = re.compile(r"(?i)(^|[^a-z])cnn[-_ ][ms]($|[^a-z])")
_VERY_DEEP_NET = re.compile(r"(?i)vgg_ilsvrc_1[69]")


class ClassOrder(Enum):
    """An order of the classes, in words."""

    WORDNET = "the order of WordNet ids, which begins with n01440764 (tench)"
    DEVKIT = "the order of the ILSVRC development kit, which begins with n02119789 (kit fox)"


def order_of_names(names: Sequence[str]) -> ClassOrder | None:
    """The order of the names of all classes; None if the names do not show it."""
    ids = [found.group() if (found := _ID.match(name)) else "" for name in names]
    if len(set(ids)) != _CLASSES or "" in ids:
        return None
    if ids == sorted(ids):
        return ClassOrder.WORDNET
    return ClassOrder.DEVKIT if ids[0] == _FIRST_OF_DEVKIT else None


def order_of_model(path: Path, net: str) -> ClassOrder | None:
    """The order that a model was trained in; None if it is not known.

    Args:
        path: the file with its weights.
        net: the name of the net in its definition.
    """
    recognition = recognise(path)
    if recognition is not None and recognition.exact:
        preparation = recognition.published.preparation
        if preparation in (VERY_DEEP, CAFFE_ORDER):
            return ClassOrder.WORDNET
        if preparation == DEVKIT_ORDER:
            return ClassOrder.DEVKIT
    if _DEVKIT_NET.search(net):
        return ClassOrder.DEVKIT
    return ClassOrder.WORDNET if _VERY_DEEP_NET.match(net) else None


def order_warning(path: Path, net: str, names: Sequence[str]) -> str | None:
    """A sentence if the names are in another order than the model's classes."""
    given = order_of_names(names)
    if given is None:
        return None
    trained = order_of_model(path, net)
    if trained in (None, given):
        return None
    return (
        f"the names of the classes are in {given.value}, but this net was trained in "
        f"{trained.value}: the names in the result are wrong; give --labels with the names in "
        "the order of the net"
    )
