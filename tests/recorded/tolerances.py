"""How far values here may be from recorded ones.

Sums are taken in another order here, so that float32 rounds them otherwise. What is moved or
counted must be exact, and so must what is read from files, but for images: decoders of JPEG,
conversion to gray and resizing differ between builds of OpenCV.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from caffecompat import read_net
from caffecompat.net.analysis.replay import Difference
from tests.recorded.cases import Case

# Relative to the larger of 1 and the largest recorded magnitude.
FORWARD, GRADIENT, MOVED = 1e-4, 2e-4, 1e-6

# Types whose results are moved or counted, not computed.
EXACT_TYPES = {
    *("Accuracy", "ArgMax", "BatchReindex", "Concat", "Crop", "Filter", "Flatten", "Im2col"),
    *("Reshape", "Slice", "Split", "Threshold", "Tile"),
}

# The same for the outputs of published nets, where they carry more of BVLC's own rounding.
PUBLISHED = {
    # Computed in float64 the outputs are 1e-5 (of the largest) from ours and 6e-4 from BVLC's.
    "se_bn_inception/SE-BN-Inception": 1e-3,
    # In float64 the outputs are 4e-3 (of the largest) from ours and 6e-3 from the recorded ones.
    "east_mbv3/deploy": 1e-2,
}

# Nets in which rounding grows until the outputs have nothing to do with each other. Up to the layer
# where values leave the recorded ones, by which the processor decides, they are nearer to a pass in
# float64 than those are (here conv4_2 or conv4_5: by a factor of 300 or 4).
ILL_CONDITIONED = {"senet154/SENet-154"}

# OpenCV sums in another order than we do, over all layers of a deep net.
OPENCV = 1e-3

# Gray levels that a recorded image may be off by, before the transformation scales them.
IMAGE_LEVELS = 2
# The data layers' cases that decode a JPEG, convert it to gray or resize; all others are exact.
INEXACT_IMAGES = {
    *("data_encoded_gray_and_color", "data_force_color", "data_force_encoded_color"),
    *("data_force_gray", "data_force_gray_png", "data_gray_encoded_is_color"),
    *("data_mixed_encoded_batch1", "image_default_batch", "image_gray", "image_mean_file"),
    *("image_mixed_batch1", "image_no_root", "image_plain", "image_resized"),
    *("image_resized_crop_mean", "image_spaces_and_odd_labels", "image_train", "window_cached"),
    *("window_context", "window_default_fraction", "window_scale_in_transform", "window_square"),
    *("window_square_context_mean", "window_thresholds", "window_warp"),
}


def image_tolerance(case: Case) -> float:
    """How far the tops of a data layer's case may be from the recorded ones."""
    if case.path.name not in INEXACT_IMAGES:
        return 0.0
    (layer,) = read_net(case.path / "net.prototxt").layer
    return IMAGE_LEVELS * float(layer.transform_param.scale)


def too_far(difference: Difference, layer_type: str = "") -> bool:
    """Whether a difference is more than rounding."""
    if difference.gradient:
        return difference.relative > GRADIENT
    return difference.relative > (MOVED if layer_type in EXACT_TYPES else FORWARD)


def assert_near(found: Any, expected: np.ndarray, what: str) -> None:
    """Asserts that values of a training are equal, but for the rounding of its sums."""
    scale = float(np.abs(expected).max(initial=0))
    atol = max(2e-6 * scale, 1e-7)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=atol, err_msg=what)
