"""Layers of MS-CNN, Cascade R-CNN and SubCNN."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.layers.strategies import ELSEWHERE, Bottom, Draw, Example, example_of

ELSEWHERE.update(
    dict.fromkeys(
        ["BoxGroupOutput", "BoxOutput", "DecodeBBox", "FrcnnOutput"],
        "its tops depend on values, see forks/rcnn/test_cascade_outputs",
    )
)
ELSEWHERE.update(
    dict.fromkeys(
        [
            *("BboxAccuracy", "DetectionAccuracy", "DetectionGroupAccuracy"),
            *("DetectionGroupLoss", "DetectionLoss", "ProposalTarget"),
        ],
        "its bottoms are boxes and targets that fit each other, forks/rcnn/test_cascade_training",
    )
)


@example_of("FeatureExtrapolating")
def feature_extrapolating(draw: Draw) -> Example:
    text = f"""feature_extrapolating_param {{ scale_string: "0.5 1.0 1.5" num_scale_base: 2
               num_per_octave: {draw(st.integers(1, 3))} }}"""
    shape = (draw(st.sampled_from([2, 4])), 2, *draw(st.sampled_from([(3, 5), (6, 4)])))
    return Example(text, (Bottom(shape),))
