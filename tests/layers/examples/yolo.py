"""Layers of YOLO."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.layers.strategies import ELSEWHERE, Bottom, Draw, Example, example_of, fields

ELSEWHERE.update(
    **{
        f"EvalDetection ({fork})": "waits for the device, see forks/yolo/test_evaluation"
        for fork in ("Intel", "YOLO9000", "YOLOv1")
    },
    YoloDetectionOutput="its tops depend on values, see forks/yolo/test_outputs",
    Yolov3DetectionOutput="its tops depend on values, see forks/yolo/test_outputs",
    RegionLoss="its gradient is not the derivative, see forks/yolo/test_losses",
    Yolov3="its gradient is not the derivative, see forks/yolo/test_losses",
    YoloSeg="its gradient is not the derivative, see forks/yolo/test_losses",
)


@example_of("Reorg")
def reorg(draw: Draw) -> Example:
    stride = draw(st.sampled_from([1, 2, 3]))
    shape = (draw(st.integers(1, 2)), 2 * stride**2, 2 * stride, 3 * stride)
    reverse = draw(st.sampled_from([None, True]))
    return Example(fields("reorg_param", stride=stride, reverse=reverse), (Bottom(shape),))
