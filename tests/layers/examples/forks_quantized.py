"""Layer types with quantised numbers."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.layers.strategies import Bottom, Draw, Example, example_of, extents, fields, plane


def quantization(draw: Draw) -> str:
    kind = draw(st.sampled_from(["DYNAMIC_FIXED_POINT", "MINIFLOAT", "INTEGER_POWER_OF_2_WEIGHTS"]))
    return fields(
        "quantization_param",
        precision=kind,
        rounding_scheme=draw(st.sampled_from(["NEAREST", "STOCHASTIC"])),
        bw_layer_in=8,
        fl_layer_in=4,
        bw_layer_out=8,
        fl_layer_out=3,
        bw_params=6,
        fl_params=5,
        mant_bits=3,
        exp_bits=4,
    )


@example_of("ConvolutionRistretto", "DeconvolutionRistretto")
def convolution_ristretto(draw: Draw) -> Example:
    text = fields(
        "convolution_param",
        num_output=draw(st.integers(1, 3)),
        kernel_size=draw(st.integers(1, 3)),
        bias_term=draw(st.booleans()),
    )
    phase = draw(st.sampled_from(["TRAIN", "TEST"]))
    return Example(f"{text} {quantization(draw)}", (Bottom(plane(draw)),), phase=phase)


@example_of("FcRistretto")
def fc_ristretto(draw: Draw) -> Example:
    text = "inner_product_param { num_output: 3 }"
    phase = draw(st.sampled_from(["TRAIN", "TEST"]))
    return Example(f"{text} {quantization(draw)}", (Bottom(extents(draw, 2, 3)),), phase=phase)


@example_of("ConvolutionFixed")
def convolution_fixed(draw: Draw) -> Example:
    method = draw(st.sampled_from(["OVER_FLOW", "DIFF_S"]))
    text = f"""convolution_param {{ num_output: 2 kernel_size: 2 }}
               fixed_param {{ bit_width: 5 fixed_method: {method} }}"""
    return Example(text, (Bottom(plane(draw)),))


@example_of("InnerProductFixed")
def inner_product_fixed(draw: Draw) -> Example:
    text = "inner_product_param { num_output: 3 } fixed_param { bit_width: 5 }"
    return Example(text, (Bottom(extents(draw, 2, 3)),))


@example_of("FixedNeuron")
def fixed_neuron(draw: Draw) -> Example:
    text = fields(
        "fixed_param",
        bit_width=draw(st.integers(3, 8)),
        fixed_method=draw(st.sampled_from(["OVER_FLOW", "DIFF_S", "DIFF_S_SIGMOID"])),
        follow_data_layer=draw(st.booleans()),
    )
    phase = draw(st.sampled_from(["TRAIN", "TEST"]))
    return Example(text, (Bottom(extents(draw, 1, 4)),), phase=phase)


@example_of("DeephiResize")
def deephi_resize(draw: Draw) -> Example:
    text = fields(
        "deephi_resize_param",
        resize_type=draw(st.sampled_from(["NEAREST", "BILINEAR"])),
        new_height=draw(st.integers(2, 9)),
        new_width=draw(st.integers(2, 9)),
    )
    return Example(text, (Bottom(plane(draw)),))
