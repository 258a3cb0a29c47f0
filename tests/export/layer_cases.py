"""Layers with settings, for exports of each layer type."""

from __future__ import annotations

IMAGE = (2, 3, 7, 5)


def pool(text: str) -> str:
    return f'type: "Pooling" pooling_param {{ {text} }}'


def conv(text: str, kind: str = "Convolution") -> str:
    return f'type: "{kind}" convolution_param {{ weight_filler {{ type: "xavier" }} {text} }}'


def case(layer: str, *shapes: tuple[int, ...], tops: int = 1, opencv: str = "") -> tuple:
    """A layer, the shapes of its bottoms, its number of tops, and why OpenCV cannot run it."""
    return (layer, shapes, tops, opencv)


def spatial_dropout(phase: str) -> str:
    """ENet's, whose param_str tells the phase."""
    settings = f"{{'phase': '{phase}', 'p': '0.3'}}"
    names = "module: 'spatial_dropout' layer: 'SpatialDropoutLayer'"
    return f'type: "Python" python_param {{ {names} param_str: "{settings}" }}'


# Tops that are not finite, whose differences are none.
ENDLESS = [
    'type: "Power" power_param { scale: 0 power: -1 }',
    'type: "Power" power_param { scale: 0 shift: -2 power: 0.5 }',
    'type: "Power" power_param { shift: -inf }',
]
CASES = [
    case(conv("num_output: 4 kernel_size: 3"), IMAGE),
    case(conv("num_output: 4 kernel_h: 3 kernel_w: 1 pad_h: 2 pad_w: 0 stride: 2"), IMAGE),
    case(conv("num_output: 6 kernel_size: 3 pad: 2 dilation: 2 group: 3 bias_term: false"), IMAGE),
    case(conv("num_output: 4 kernel_size: 9 pad: 1 stride: 5"), (1, 3, 9, 9)),
    case(conv("num_output: 4 kernel_size: 1 pad_h: 1 pad_w: 2"), IMAGE),
    case(conv("num_output: 4 kernel_size: 1 pad: 1 stride: 2"), IMAGE),
    case(conv("num_output: 16 kernel_size: 1 pad: 1"), (2, 32, 7, 5)),
    case(conv("num_output: 6 kernel_size: 1 pad: 1 group: 3"), IMAGE),
    case(conv("num_output: 16 kernel_size: 3 pad: 4"), (2, 32, 7, 5)),
    case(conv("num_output: 4 kernel_size: 3"), (2, 3, 4, 7, 5)),
    case(conv("num_output: 4 kernel_size: 1 pad: 1"), (2, 3, 4, 7, 5)),
    case(conv("num_output: 4 kernel_size: 3"), (2, 3, 7)),
    case(conv("num_output: 4 kernel_size: 3 stride: 2 pad: 1", "Deconvolution"), IMAGE),
    case(conv("num_output: 6 kernel_size: 4 stride: 2 group: 3", "Deconvolution"), IMAGE),
    case(conv("num_output: 3 kernel_size: 2 group: 3 dilation: 2", "Deconvolution"), IMAGE),
    case(pool("pool: MAX kernel_size: 3 stride: 2"), IMAGE),
    case(pool("pool: MAX kernel_size: 2 stride: 2"), (2, 3, 7, 8)),
    case(pool("pool: MAX kernel_size: 3 stride: 2 pad: 1"), (2, 3, 6, 9)),
    case(pool("pool: MAX kernel_size: 2 stride: 2 pad: 1"), (2, 3, 5, 6)),
    case(pool("pool: MAX kernel_size: 2 stride: 3"), (2, 3, 9, 6)),
    case(pool("pool: MAX kernel_h: 3 kernel_w: 2 stride: 2 round_mode: FLOOR"), (2, 3, 8, 5)),
    case(pool("pool: MAX global_pooling: true"), IMAGE),
    case(pool("pool: MAX kernel_size: 3 stride: 2"), IMAGE, tops=2, opencv="no index"),
    case(pool("pool: AVE kernel_size: 3 stride: 2"), (2, 3, 8, 6)),
    case(pool("pool: AVE kernel_size: 3 stride: 2 pad: 1"), (2, 3, 6, 9)),
    case(pool("pool: AVE kernel_size: 3 stride: 1 pad: 1"), IMAGE),
    case(pool("pool: AVE kernel_size: 2 stride: 2 pad: 1"), (2, 3, 5, 6)),
    case(pool("pool: AVE kernel_size: 3 stride: 2 round_mode: FLOOR"), (2, 3, 8, 6)),
    case(pool("pool: AVE global_pooling: true"), IMAGE),
    case('type: "SPP" spp_param { pyramid_height: 2 pool: MAX }', IMAGE),
    case('type: "SPP" spp_param { pyramid_height: 3 pool: AVE }', (2, 3, 7, 9)),
    case('type: "LRN" lrn_param { local_size: 3 alpha: 0.7 beta: 0.6 k: 2 }', (2, 6, 4, 3)),
    case('type: "LRN" lrn_param { local_size: 3 alpha: 0.7 beta: 0.6 k: 1.5 }', (2, 6, 4, 3)),
    case('type: "LRN" lrn_param { local_size: 5 alpha: 2 k: 0.3 }', (2, 6, 4, 3)),
    case('type: "LRN" lrn_param { local_size: 3 alpha: 7e9 k: 3e9 }', (2, 6, 4, 3)),
    case('type: "LRN" lrn_param { local_size: 3 alpha: 90 beta: 2 k: -0.1 }', (2, 6, 4, 3)),
    case('type: "LRN" lrn_param { local_size: 3 alpha: 1e-7 k: 1e-9 }', (2, 6, 4, 3)),
    case('type: "LRN" lrn_param { local_size: 3 alpha: 0 k: 2 }', (2, 6, 4, 3)),
    case('type: "LRN" lrn_param { local_size: 3 alpha: 2 beta: -0.5 }', (2, 6, 4, 3)),
    case(
        'type: "LRN" lrn_param { local_size: 3 alpha: 0.7 beta: 0.6 norm_region: WITHIN_CHANNEL }',
        IMAGE,
    ),
    case('type: "BatchNorm"', IMAGE),
    case('type: "BatchNorm" batch_norm_param { eps: 0.01 }', (2, 6)),
    case('type: "BatchNorm" batch_norm_param { use_global_stats: false }', IMAGE),
    case('type: "MVN"', IMAGE),
    case('type: "MVN" mvn_param { across_channels: true eps: 0.1 }', IMAGE),
    case('type: "MVN" mvn_param { normalize_variance: false }', (2, 3, 7)),
    case('type: "Scale" scale_param { bias_term: true }', IMAGE),
    case('type: "Scale" scale_param { axis: 2 num_axes: 1 }', IMAGE),
    case('type: "Scale" scale_param { num_axes: 0 bias_term: true }', IMAGE),
    case('type: "Scale" scale_param { axis: 0 }', IMAGE, (2, 3)),
    case('type: "Bias" bias_param { axis: 1 num_axes: 2 }', IMAGE),
    case('type: "Bias"', (2, 3), (3,)),
    case('type: "InnerProduct" inner_product_param { num_output: 4 }', IMAGE),
    case('type: "InnerProduct" inner_product_param { num_output: 4 bias_term: false }', (2, 6)),
    case('type: "InnerProduct" inner_product_param { num_output: 4 transpose: true }', IMAGE),
    case('type: "InnerProduct" inner_product_param { num_output: 4 axis: 2 }', IMAGE),
    case('type: "InnerProduct" inner_product_param { num_output: 4 axis: 0 }', (2, 3)),
    case('type: "ReLU"', IMAGE),
    case('type: "ReLU" relu_param { negative_slope: 0.3 }', (2, 6)),
    case('type: "PReLU"', IMAGE),
    case('type: "PReLU"', (2, 6)),
    case('type: "PReLU" prelu_param { channel_shared: true }', IMAGE),
    case('type: "ELU" elu_param { alpha: 0.7 }', IMAGE),
    case('type: "Sigmoid"', IMAGE),
    case('type: "TanH"', IMAGE),
    case('type: "AbsVal"', IMAGE),
    case('type: "BNLL"', IMAGE),
    case('type: "Swish"', IMAGE),
    case('type: "Swish" swish_param { beta: 0.5 }', IMAGE),
    case('type: "Clip" clip_param { min: -0.5 max: 0.7 }', IMAGE),
    case('type: "Clip" clip_param { min: 0.5 max: -0.7 }', IMAGE),
    case('type: "Clip" clip_param { min: -inf max: 0.7 }', IMAGE),
    case('type: "Threshold" threshold_param { threshold: 0.2 }', IMAGE),
    case('type: "Power" power_param { power: 2 scale: 0.5 shift: -1 }', IMAGE),
    case('type: "Power" power_param { power: 3 }', IMAGE),
    case('type: "Power" power_param { shift: 3 }', IMAGE),
    case('type: "Power" power_param { scale: 0 shift: 3 power: 2 }', IMAGE),
    case('type: "Power"', IMAGE),
    case('type: "Exp" exp_param { base: 2 scale: 0.5 shift: 1 }', IMAGE),
    case('type: "Exp"', IMAGE),
    case('type: "Log" log_param { base: 2 scale: 0.01 shift: 3 }', IMAGE),
    case('type: "Eltwise" eltwise_param { coeff: 1 coeff: -0.5 coeff: 2 }', IMAGE, IMAGE, IMAGE),
    case('type: "Eltwise" eltwise_param { operation: PROD }', IMAGE, IMAGE),
    case('type: "Eltwise" eltwise_param { operation: MAX }', IMAGE, IMAGE, IMAGE),
    case('type: "Concat"', IMAGE, (2, 4, 7, 5)),
    case('type: "Concat" concat_param { axis: -2 }', IMAGE, (2, 3, 2, 5)),
    case('type: "Concat"', IMAGE),
    case('type: "Slice" slice_param { slice_point: 1 }', IMAGE, tops=2),
    case('type: "Slice" slice_param { axis: 2 }', (2, 3, 4, 5), tops=2),
    case('type: "Softmax"', IMAGE),
    case('type: "Softmax" softmax_param { axis: -1 }', IMAGE),
    case('type: "Softmax"', (2, 6)),
    case('type: "Im2col" convolution_param { kernel_size: 3 pad: 1 stride: 2 }', IMAGE),
    case(
        'type: "Im2col" convolution_param { kernel_h: 2 kernel_w: 3 dilation: 2 }',
        (2, 3, 7, 8),
    ),
    case('type: "Flatten"', IMAGE),
    case('type: "Flatten" flatten_param { axis: 2 end_axis: 3 }', IMAGE),
    case('type: "Flatten" flatten_param { axis: 0 end_axis: 1 }', IMAGE),
    case('type: "Reshape" reshape_param { shape { dim: 0 dim: -1 dim: 5 } }', IMAGE),
    case('type: "Reshape" reshape_param { shape { dim: 7 dim: 3 } axis: 1 num_axes: 2 }', IMAGE),
    case('type: "Reshape" reshape_param { shape { dim: 1 } axis: 1 num_axes: 0 }', IMAGE),
    case('type: "Crop" crop_param { axis: 2 offset: 1 offset: 2 }', IMAGE, (2, 4, 5, 3)),
    case('type: "Crop" crop_param { axis: 1 offset: 1 }', IMAGE, (2, 2, 5, 3)),
    case('type: "Tile" tile_param { axis: 2 tiles: 3 }', IMAGE),
    case('type: "Reduction" reduction_param { axis: 1 coeff: 0.5 }', IMAGE),
    case('type: "Reduction" reduction_param { axis: 2 operation: ASUM }', IMAGE),
    case('type: "Reduction" reduction_param { axis: 1 operation: SUMSQ }', IMAGE),
    case('type: "Reduction" reduction_param { axis: -1 operation: MEAN }', IMAGE),
    case('type: "LSTM" recurrent_param { num_output: 3 }', (4, 2, 5), (4, 2)),
    case('type: "LSTM" recurrent_param { num_output: 3 }', (4, 2, 2, 3), (4, 2), (2, 6)),
    case('type: "RNN" recurrent_param { num_output: 3 }', (4, 2, 5), (4, 2)),
    case(
        'type: "LSTM" top: "h" top: "k" recurrent_param { num_output: 3 expose_hidden: true }',
        *((4, 2, 5), (4, 2), (1, 2, 3), (1, 2, 3)),
    ),
    case('type: "Permute" permute_param { order: 0 order: 2 order: 3 order: 1 }', IMAGE),
    case('type: "Permute" permute_param { order: 2 }', (2, 3, 7)),
    case(
        'type: "Normalize" norm_param { across_spatial: false channel_shared: false }',
        IMAGE,
    ),
    case('type: "Normalize" norm_param { eps: 0.1 }', IMAGE),
    case('type: "Normalize" normalize_param { normalize_type: "L1" }', IMAGE, tops=2),
    case('type: "Normalize" normalize_param { }', (2, 6)),
    case(
        'type: "PriorBox" prior_box_param { min_size: 2 aspect_ratio: 2 }',
        *(IMAGE, (2, 3, 14, 10)),
        opencv="no output without inputs",
    ),
    case(
        'type: "PriorBoxClustered" prior_box_param { width: 2.5 height: 3 }',
        *(IMAGE, (2, 3, 14, 10)),
        opencv="no output without inputs",
    ),
    case('type: "LSTMUnit"', (1, 2, 3), (1, 2, 12), (1, 2), tops=2),
    case('type: "ArgMax" argmax_param { axis: 1 top_k: 2 }', IMAGE),
    case('type: "ArgMax" argmax_param { axis: 1 out_max_val: true }', IMAGE),
    case('type: "ArgMax" argmax_param { top_k: 2 out_max_val: true }', IMAGE),
]


def ctc(text: str = "") -> str:
    return f'type: "CTCGreedyDecoder" ctc_decoder_param {{ {text} }}'


FORK_CASES = [
    case(spatial_dropout("TEST"), IMAGE),
    case(ctc(), (9, 2, 4), (9, 2)),
    case(ctc("blank_index: 1 ctc_merge_repeated: false"), (9, 2, 4), (9, 2), tops=2),
    case('type: "Lstm" lstm_param { num_output: 3 }', (5, 2, 4)),
    case('type: "Lstm" lstm_param { num_output: 3 batch_size: 2 }', (10, 4)),
    case('type: "Lstm" lstm_param { num_output: 3 batch_size: 2 }', (10, 2, 2), (5, 2)),
    case('type: "Lstm" lstm_param { num_output: 3 }', (5, 2, 4), (5, 2)),
    case('type: "LSTM" lstm_param { num_output: 3 batch_size: 2 }', (10, 4)),
    case('type: "InnerProduct" inner_product_param { num_output: 4 normalize: true }', (2, 6)),
    case('type: "InnerDistance" inner_distance_param { num_output: 4 }', (2, 3, 2)),
    case(
        'type: "InnerDistance" inner_distance_param { num_output: 4 normalize: true }',
        (2, 6),
    ),
    case('type: "InnerDistance" inner_distance_param { distance_type: "L1" }', (2, 6), (4, 6)),
    case('type: "Extend" orn_param { orientations: 4 }', IMAGE),
    case('type: "ORPooling" orn_param { orientations: 4 }', (2, 8, 7, 5)),
    case(
        conv("num_output: 8 kernel_size: 3 pad: 1") + " orn_param { orientations: 4 }", (2, 8, 7, 5)
    ),
    case(conv("num_output: 16 kernel_size: 3") + " orn_param { orientations: 8 }", (2, 8, 7, 5)),
    case('type: "MergeCrop"', (2, 3, 4, 3), (2, 2, 7, 4)),
    case('type: "MergeCrop" mergecrop_param { operation: ADD }', (2, 3, 4, 3), (2, 3, 7, 4)),
    case(
        'type: "FeatureExtrapolating" feature_extrapolating_param { num_scale_base: 2 '
        'num_per_octave: 3 scale_string: "0.5 1" }',
        (4, 3, 7, 5),
    ),
    case(pool("pool: MAX kernel_size: [2, 3, 2] stride: [2, 2, 1]"), (2, 3, 4, 7, 5)),
    case(pool("pool: AVE kernel_size: [2, 3, 2] stride: [2, 2, 1]"), (2, 3, 5, 6, 5)),
    case(pool("pool: MAX kernel_size: [2, 2] stride: 1 dilation: 2"), IMAGE),
    case(
        'type: "Pooling3D" pooling3d_param { pool: AVE kernel_size: 3 kernel_depth: 2 stride: 2 '
        "temporal_stride: 2 pad: 1 }",
        (2, 3, 5, 7, 6),
    ),
    case(
        'type: "Pooling3D" pooling3d_param { pool: MAX kernel_size: 3 kernel_depth: 2 stride: 2 }',
        (2, 3, 5, 7, 6),
    ),
    case(conv("num_output: 6 kernel_size: 3 stride: 2", "DepthwiseConvolution"), IMAGE),
    case(conv("num_output: 3 kernel_size: 3 pad: 1", "ConvolutionDepthwise"), IMAGE),
    case('type: "CCCP" cccp_param { num_output: 4 group: 2 }', (2, 4, 7, 5)),
    case('type: "ReLU6"', IMAGE),
    case('type: "ReLU6" relu6_param { negative_slope: 0.1 }', IMAGE),
    case('type: "HardSwish"', IMAGE),
    case('type: "Mish"', IMAGE),
    case('type: "Dropout" dropout_param { dropout_ratio: 0.3 scale_train: false }', IMAGE),
    case('type: "ShuffleChannel" shuffle_channel_param { group: 3 }', (2, 6, 7, 5)),
    case('type: "Axpy"', (2, 3), IMAGE, IMAGE),
    case('type: "Axpy"', (2, 3, 1, 1), IMAGE, IMAGE),
    case('type: "Sum"', IMAGE, IMAGE, IMAGE),
    case('type: "Sum"', IMAGE),
    case('type: "Reorg" reorg_param { stride: 2 }', (2, 8, 4, 6)),
    case('type: "Reorg" reorg_param { stride: 2 reverse: true }', (2, 8, 3, 5)),
    case('type: "Flip" flip_param { flip_width: true }', IMAGE),
    case('type: "Flip" flip_param { flip_width: true flip_height: true }', IMAGE),
    case('type: "Flip"', IMAGE),
    case('type: "Reverse" reverse_param { axis: 1 }', IMAGE),
    case('type: "Transpose" transpose_param { dim: 2 dim: 0 dim: 1 dim: 3 }', IMAGE),
    case('type: "Squeeze" squeeze_param { axis: 2 }', (2, 3, 1, 5)),
    case('type: "BN" bn_param { eps: 0.01 }', IMAGE),
    case('type: "BN" bn_param { bn_mode: INFERENCE }', IMAGE),
    case('type: "BN" bn_param { bn_mode: LEARN }', IMAGE),
    case('type: "BatchNorm" batch_norm_param { scale_bias: true eps: 0.001 }', IMAGE),
    case('type: "Interp" interp_param { height: 9 width: 4 }', IMAGE),
    case('type: "Interp" interp_param { zoom_factor: 2 pad_beg: -1 pad_end: -2 }', IMAGE),
    case('type: "Interp" interp_param { shrink_factor: 2 }', IMAGE),
    case('type: "Interp" interp_param { height: 9 width: 4 }', (2, 3, 1, 1)),
    case(
        'type: "Interp" interp_param { height: 9 width: 4 }',
        (2, 3, 1, 5),
        opencv="it reads beyond a plane of one row, which the file, of free sizes, cannot tell",
    ),
    case('type: "Interp" interp_param { zoom_factor: 3 }', (2, 3, 7, 1)),
    case('type: "Interp" interp_param { shrink_factor: 2 zoom_factor: 3 }', IMAGE),
    case('type: "Interp"', IMAGE, (2, 4, 11, 6)),
    case('type: "BilinearInterpolation"', IMAGE, (2, 4, 11, 6)),
    case('type: "Upsample" upsample_param { scale: 2 }', IMAGE),
    case('type: "UpsampleDarknet" upsample_darknet_param { stride: 3 }', IMAGE),
]


def sentence(one: tuple) -> str:
    return f"{one[0].removeprefix('type: ')} {' '.join('x'.join(map(str, s)) for s in one[1])}"
