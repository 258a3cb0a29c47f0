"""The recorded cases in which we do not do what BVLC Caffe did, each with its reason.

``docs/deviations.md`` names the same cases. Each is asserted to still differ, so that one that
agrees by now leaves the table.
"""

from __future__ import annotations

from collections.abc import Sequence

_OVERWRITTEN = (
    "Caffe takes the gradient of this in-place layer from data that its forward pass has already "
    "overwritten; here it is that of the value it computed"
)
_NO_GRADIENT = (
    "Caffe aborts where force_backward asks for a gradient that does not exist; here no gradient "
    "goes there"
)
_WEIGHTS = "Caffe asks for the loss weights of both tops; here the loss has 1, probabilities have 0"

# Named as in docs/deviations.md: <layer type>/<case>, data/<case>, errors/<case>, files/<file>.
EXCEPTIONS = {
    "BNLL/quirk_inplace_gradient": _OVERWRITTEN,
    "Clip/quirk_inplace_gradient": _OVERWRITTEN,
    "Power/inplace": (
        "in place at power 1 Caffe's backward pass overwrites the incoming gradient with the scale "
        "before it multiplies by it, so that the result is the scale squared; here the derivative "
        "is right"
    ),
    "Power/quirk_cube_at_zero_nan": (
        "Caffe divides by the bottom, so that x = 0 gives NaN; here it gives the derivative, 0"
    ),
    "LSTMUnit/quirk_fractional_cont": (
        "for cont between 0 and 1 Caffe uses cont * sigmoid in the sigmoid's derivative; here the "
        "derivative is right, and equal for cont 0 and 1, the only values with a meaning"
    ),
    "Net/quirk_inplace_after_flatten_changes_source": (
        "Caffe's Flatten shares memory with its bottom, so that a later in-place layer changes the "
        "source blob too; here every layer is a function and leaves its bottoms alone"
    ),
    "data/dummy_inplace": (
        "in Caffe an in-place layer changes DummyData's constant for good, so that every pass "
        "starts from the result of the last; here every layer is a function of its bottoms"
    ),
    # What Caffe refuses for reasons of its implementation, and what runs here.
    "errors/engine_cudnn": "a build without cuDNN refuses engine: CUDNN; here it has no effect",
    "errors/force_backward_accuracy": _NO_GRADIENT,
    "errors/force_backward_embed": _NO_GRADIENT,
    "errors/force_backward_infogain_matrix": _NO_GRADIENT,
    "errors/infogain_two_tops_default_weight": _WEIGHTS,
    "errors/softmaxloss_two_tops": _WEIGHTS,
    "errors/pool_stochastic_cpu": "Caffe has STOCHASTIC pooling on a GPU only",
    "errors/prelu_5d": "Caffe's PReLU takes up to 4 axes; here it takes any number",
    "upgrade/layer_and_layers": (
        "Caffe refuses a net with both layer and layers; here it is read where the wiring tells "
        "the order without doubt"
    ),
    # What Caffe takes, and what is refused here.
    "files/empty.caffemodel": (
        "a file without any layer is no weight file; Caffe copies nothing from it"
    ),
    "files/cut_before_first_layer.caffemodel": (
        "the file holds nothing but the net's name; Caffe copies nothing from it"
    ),
}

# Layer types of forks that are not there; nets with them are refused by the type's name. A type of
# BVLC Caffe never belongs here.
TYPES_OF_FORKS: set[str] = set()


def assert_agrees(case: str, differences: Sequence[object]) -> None:
    """Fails where a case differs, unless it is an exception, which fails where it agrees."""
    if case in EXCEPTIONS:
        assert differences, f"{case} agrees by now: take it out of here and docs/deviations.md"
    else:
        assert not differences
