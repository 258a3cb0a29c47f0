"""Layers of forks: what a refusal advises makes the net build and run."""

from __future__ import annotations

import pytest

from tests.layers.refusals.advice import Case, Fix, check_advice

IMAGE = (2, 3, 6, 6)
SMALL = (2, 3, 4, 5)

FLOW = [
    Case(
        "Downsample",
        [IMAGE],
        "",
        "top_height and top_width are missing; give both, or a second bottom with that size",
        "downsample_param { top_height: 4 top_width: 5 }",
        Fix("", bottoms=[IMAGE, SMALL]),
    ),
    Case(
        "GenerateAugmentationParameters",
        [IMAGE],
        "augmentation_param { crop_width: 4 }",
        "crop_width and crop_height are missing; give both, or three bottoms",
        "augmentation_param { crop_width: 4 crop_height: 4 }",
        Fix("", bottoms=[(2, 42, 1, 1), IMAGE, SMALL]),
    ),
    Case(
        "GenerateAugmentationParameters",
        [(2, 42, 1, 1)],
        "augmentation_param { crop_width: 4 crop_height: 4 }",
        "bottomwidth and bottomheight are missing; give both, or an image as the bottom",
        "augmentation_param { crop_width: 4 crop_height: 4 bottomwidth: 6 bottomheight: 6 }",
        Fix("augmentation_param { crop_width: 4 crop_height: 4 }", bottoms=[IMAGE]),
    ),
    Case(
        "Mean",
        [IMAGE, IMAGE],
        "mean_param { operation: ADD value: 3 }",
        "it has 2 bottoms and 1 tops; give one top for each",
        Fix("mean_param { operation: ADD value: 3 }", tops=2),
    ),
    Case(
        "Resample",
        [IMAGE],
        "",
        "height and width are missing; give both, or a second bottom with that size",
        "resample_param { height: 4 width: 5 }",
        Fix("", bottoms=[IMAGE, SMALL]),
    ),
]

GENERAL = [
    *(
        Case(
            kind,
            [IMAGE],
            f"{field} {{ data_format: 'NCHW' output_height: 4 output_width: 0 }}",
            "the top's extent would be 0; give output_height and output_width",
            f"{field} {{ data_format: 'NCHW' output_height: 4 output_width: 5 }}",
        )
        for kind, field in (
            ("ResizeBilinear", "resize_bilinear_param"),
            ("ResizeNearestNeighbor", "resize_nearest_neighbor_param"),
        )
    ),
    Case(
        "Resize",
        [IMAGE],
        "resize_param { height: 4 }",
        "resize_param makes the top 4x0 pixels; give height and width, or with is_pyramid_test "
        "out_height_scale and out_width_scale",
        "resize_param { height: 4 width: 5 }",
        "resize_param { is_pyramid_test: true out_height_scale: 2 out_width_scale: 0.5 }",
    ),
    Case(
        "MaskResize",
        [IMAGE],
        "mask_resize_param { output_height: 4 output_width: 4 factor_height: 2 }",
        "factor_height and factor_width are not supported; give output_height and output_width",
        "mask_resize_param { output_height: 4 output_width: 4 }",
    ),
    Case(
        "Axpy",
        [(2, 4), IMAGE, IMAGE],
        "",
        "they must be NxC weights (or NxCx1x1), NxCxHxW and NxCxHxW",
        Fix("", bottoms=[(2, 3), IMAGE, IMAGE]),
        Fix("", bottoms=[(2, 3, 1, 1), IMAGE, IMAGE]),
    ),
    Case(
        "ConvolutionDepthwise",
        [IMAGE],
        "convolution_param { num_output: 6 kernel_size: 3 }",
        "write num_output: 3",
        "convolution_param { num_output: 3 kernel_size: 3 }",
    ),
]

QUANTIZED = [
    Case(
        "InnerProductFixed",
        [(2, 3)],
        "inner_product_param { num_output: 2 } fixed_param { bit_width: 5 fixed_method: DIFF_A }",
        "fixed_param: fixed_method DIFF_A is not for this type, use OVER_FLOW or DIFF_S",
        "inner_product_param { num_output: 2 } fixed_param { bit_width: 5 fixed_method: DIFF_S }",
        "inner_product_param { num_output: 2 } "
        "fixed_param { bit_width: 5 fixed_method: OVER_FLOW }",
    ),
    Case(
        "FcRistretto",
        [(2, 3)],
        "inner_product_param { num_output: 2 } quantization_param { bw_params: 8 th_layer_in: 1 }",
        "remove it, or use the net before it was quantised",
        "inner_product_param { num_output: 2 } quantization_param { bw_params: 8 }",
        "inner_product_param { num_output: 2 }",
    ),
]

REGIONS = [
    Case(
        "ROIPooling",
        [IMAGE, (2, 5)],
        "roi_pooling_param { pooled_h: 2 pooled_w: 2 pooled_size: 2 }",
        "pooled_size is not supported; give pooled_h and pooled_w instead",
        "roi_pooling_param { pooled_h: 2 pooled_w: 2 }",
    ),
    Case(
        "ScaleRoute",
        [(2, 5), (2, 5)],
        "",
        "it has 2 bottoms and 1 tops; give one top for each",
        Fix("", tops=2),
    ),
    Case(
        "ChannelScale",
        [(2, 3), (2, 1)],
        "param { lr_mult: 1 } channel_scale_param { global_scale: true }",
        "the scale is not learned; write lr_mult: 0",
        "param { lr_mult: 0 } channel_scale_param { global_scale: true }",
    ),
    Case(
        "ChannelScale",
        [(2, 3), (2, 1)],
        "",
        "a second top needs global_scale: true",
        "param { lr_mult: 0 } channel_scale_param { global_scale: true }",
        tops=2,
    ),
    Case(
        "GeneralContrastiveLoss",
        [(2, 3), (2,)],
        "general_contrastive_loss_param { add_intra_mae: true }",
        "add_intra_mae is set, which this type does not support; set negative_margin",
        "general_contrastive_loss_param { negative_margin: 2 }",
    ),
]

BLANK = "ctc_loss_param { blank_index: 0 }"

SEGMENTATION = [
    *(
        Case(
            "BN",
            [IMAGE],
            f"bn_param {{ {own} {other} }}",
            ": from another Caffe version, not supported by this layer type; remove it",
            f"bn_param {{ {own} }}",
            dialect=dialect,
        )
        for dialect, own, other in (
            ("segnet", "bn_mode: LEARN", "momentum: 0.9"),
            ("pspnet", "momentum: 0.9", "bn_mode: LEARN"),
        )
    ),
    Case(
        "Interp",
        [IMAGE],
        "",
        "it has no output size; give height and width, or zoom_factor, or shrink_factor, or a "
        "second bottom",
        "interp_param { height: 4 width: 5 }",
        "interp_param { zoom_factor: 2 }",
        "interp_param { shrink_factor: 2 }",
        Fix("", bottoms=[IMAGE, SMALL]),
    ),
    *(
        Case(
            "UNPOOLING",
            [IMAGE],
            f"unpooling_param {{ {other} {bad} }}",
            f"unpooling_param: give {plain}, or {stem}_h and {stem}_w",
            f"unpooling_param {{ {other} {plain}: 12 }}",
            f"unpooling_param {{ {other} {stem}_h: 12 {stem}_w: 12 }}",
        )
        for plain, stem, bad, other in (
            ("unpool_size", "unpool", "", "unpool: TILE kernel_size: 2 stride: 2"),
            ("unpool_size", "unpool", "unpool_h: 12", "unpool: TILE kernel_size: 2 stride: 2"),
            ("kernel_size", "kernel", "kernel_h: 12", "unpool: TILE unpool_size: 72 stride: 12"),
        )
    ),
    Case(
        "Upsample",
        [IMAGE],
        "upsample_param { scale: 2 upsample_h: 12 upsample_w: 12 }",
        "give the mask as second bottom, or scale alone",
        "upsample_param { scale: 2 }",
        Fix(
            "upsample_param { scale: 2 upsample_h: 12 upsample_w: 12 }",
            bottoms=[IMAGE, IMAGE],
        ),
    ),
    Case(
        "Upsample",
        [IMAGE, IMAGE],
        "upsample_param { scale_h: 2 }",
        "give both scale_h and scale_w, or scale",
        "upsample_param { scale_h: 2 scale_w: 3 }",
        "upsample_param { scale: 2 }",
    ),
    Case(
        "Upsample",
        [IMAGE, IMAGE],
        "upsample_param { scale: 2 scale_h: 2 scale_w: 3 }",
        "give scale, or scale_h and scale_w; both are set",
        "upsample_param { scale_h: 2 scale_w: 3 }",
        "upsample_param { scale: 2 }",
    ),
    Case(
        "UpsampleDarknet",
        [IMAGE],
        "upsample_darknet_param { stride: 0 }",
        "stride is 0, it must be positive",
        "upsample_darknet_param { stride: 2 }",
    ),
    Case(
        "WarpCTCLoss",
        [(4, 2, 5), (3, 2)],
        BLANK,
        "after scores TxNxC come labels NxL, or flags TxN and labels TxN, or N numbers of steps, "
        "N numbers of labels and labels LxN",
        Fix(BLANK, bottoms=[(4, 2, 5), (2, 3)]),
        Fix(BLANK, bottoms=[(4, 2, 5), (4, 2), (4, 2)]),
        Fix(BLANK, bottoms=[(4, 2, 5), (2,), (2,), (3, 2)]),
    ),
]

SSD_BOTTOMS = [(1, 8), (1, 4), (1, 2, 8)]
LOSS_BOTTOMS = [(1, 8), (1, 4), (1, 2, 8), (1, 1, 1, 8)]
PRIORS = [(1, 3, 2, 2), (1, 3, 20, 20)]


def prior(text: str) -> str:
    return f"prior_box_param {{ {text} }}"


SSD = [
    Case(
        "PriorBox",
        PRIORS,
        prior("min_size: 5 faceboxes: true"),
        "prior_box_param: faceboxes: from another Caffe version, not supported by this layer "
        "type; remove it",
        prior("min_size: 5"),
    ),
    Case(
        "PriorBox",
        PRIORS,
        prior("min_size: 5 step: 4 step_h: 4 step_w: 4"),
        "prior_box_param: step and step_h or step_w are both given; remove one of them",
        prior("min_size: 5 step: 4"),
        prior("min_size: 5 step_h: 4 step_w: 4"),
    ),
    Case(
        "PriorBox",
        PRIORS,
        prior("min_size: 5 variance: 0.1 variance: 0.2"),
        "give one or four positive numbers",
        prior("min_size: 5 variance: 0.1"),
        prior("min_size: 5 variance: [0.1, 0.1, 0.2, 0.2]"),
    ),
    Case("PriorBox", PRIORS, prior(""), "no min_size; give at least one", prior("min_size: 5")),
    Case(
        "PriorBox",
        PRIORS,
        prior("min_size: [5, 6] max_size: 9"),
        "2 min_size and 1 max_size; give one max_size for each min_size, or none",
        prior("min_size: [5, 6] max_size: [9, 10]"),
        prior("min_size: [5, 6]"),
    ),
    Case(
        "PriorBox",
        PRIORS,
        prior("min_size: 32 aspect_ratio: 2"),
        "which FaceBoxes' nets do not have; remove them, or state another dialect",
        prior("min_size: 32"),
        Fix(prior("min_size: 32 aspect_ratio: 2"), options={"dialect": "ssd"}),
        dialect="faceboxes",
    ),
    Case(
        "PriorBoxClustered",
        PRIORS,
        prior("width: [5, 6] height: 9"),
        "2 width and 1 height; give as many heights as widths, at least one of each, all positive",
        prior("width: [5, 6] height: [9, 10]"),
    ),
    Case(
        "Permute",
        [IMAGE],
        "permute_param { order: [0, 2, 2] }",
        "order names an axis twice: [0, 2, 2]; name each axis once",
        "permute_param { order: [0, 2, 1, 3] }",
    ),
    Case(
        "Permute",
        [IMAGE],
        "permute_param { order: [0, 4] }",
        "order is 4, but the bottom has 4 axes 2x3x6x6; give axes from 0 to 3",
        "permute_param { order: [0, 3] }",
    ),
    Case(
        "DetectionOutput",
        SSD_BOTTOMS,
        "",
        "detection_output_param has no num_classes; give it",
        "detection_output_param { num_classes: 2 }",
    ),
    Case(
        "DetectionEvaluate",
        [(1, 1, 1, 7), (1, 1, 1, 8)],
        "detection_evaluate_param { overlap_threshold: 0.5 background_label_id: 1 }",
        "detection_evaluate_param has no num_classes; give it",
        "detection_evaluate_param { overlap_threshold: 0.5 background_label_id: 1 num_classes: 2 }",
    ),
    Case(
        "MultiBoxLoss",
        LOSS_BOTTOMS,
        "multibox_loss_param { background_label_id: 1 }",
        "multibox_loss_param has no num_classes; give it",
        "multibox_loss_param { background_label_id: 1 num_classes: 2 }",
    ),
    Case(
        "MultiBoxLoss",
        LOSS_BOTTOMS,
        "multibox_loss_param { background_label_id: 1 num_classes: 2 mining_type: MAX_NEGATIVE "
        "do_neg_mining: false }",
        "remove do_neg_mining, which mining_type has replaced",
        "multibox_loss_param { background_label_id: 1 num_classes: 2 mining_type: MAX_NEGATIVE }",
    ),
]

YOLO_EVALUATION = "side: 2 num_class: 2 num_object: 1 biases: [1, 1]"
YOLO = [
    Case(
        "EvalDetection",
        [(1, 7, 2, 2), (1, 1, 5, 8)],
        f"eval_detection_param {{ {YOLO_EVALUATION} nms: -1 }}",
        "nms is negative, with which the original finds nothing; give a threshold",
        f"eval_detection_param {{ {YOLO_EVALUATION} nms: 0.5 }}",
        dialect="yolo9000",
    ),
    Case(
        "EvalDetection",
        [(1, 7, 2, 2), (1, 1, 5, 8)],
        f"eval_detection_param {{ {YOLO_EVALUATION} nms: 0.5 save_output_param {{ }} }}",
        "save_output_param is not supported; remove it, and state dialect='yolo9000' (--dialect "
        "yolo9000), since no other field tells this layer from Intel's",
        Fix(
            f"eval_detection_param {{ {YOLO_EVALUATION} nms: 0.5 }}",
            options={"dialect": "yolo9000"},
        ),
    ),
    Case(
        "RegionLoss",
        [(1, 7, 2, 2), (1, 4)],
        "region_loss_param { num: 1 num_class: 2 coords: 4 biases: [1, 1] }",
        "expected square maps with 7 channels, and labels (1, 1, objects, 8), or for each of the "
        "1 images five numbers for each object",
        *(
            Fix(
                "region_loss_param { num: 1 num_class: 2 coords: 4 biases: [1, 1] }",
                bottoms=[(1, 7, 2, 2), labels],
            )
            for labels in ((1, 1, 2, 8), (1, 10))
        ),
    ),
]


@pytest.mark.parametrize(
    "case",
    [*FLOW, *GENERAL, *QUANTIZED, *REGIONS, *SEGMENTATION, *SSD, *YOLO],
    ids=str,
)
def test_what_a_refusal_advises_runs(case: Case) -> None:
    check_advice(case)
