"""A number that tells two models apart."""

from __future__ import annotations

import hashlib

import numpy as np

from caffecompat.export.model import CaffeModel


def model_digest(model: CaffeModel) -> str:
    """A hash of a net's definition and weights; of VGG-16 it takes a second."""
    digest = hashlib.sha256(model.definition.message.SerializeToString(deterministic=True))
    for layer in model.weights.values():
        digest.update(layer.name.encode("utf-8", "surrogatepass"))
        for blob in layer.blobs:
            digest.update(np.ascontiguousarray(blob).data)
    return digest.hexdigest()
