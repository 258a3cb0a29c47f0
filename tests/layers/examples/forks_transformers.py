"""Layer types of transformers."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.layers.strategies import Bottom, Draw, Example, example_of, extents, fields


def attention(draw: Draw, message: str, least: int, more: str = "") -> Example:
    heads, each = draw(st.integers(1, 3)), draw(st.integers(least, 4))
    n, steps = draw(st.sampled_from([(1, 3), (2, 1), (3, 2)]))
    ratio = draw(st.sampled_from([0, 0.5]))
    settings = f"heads: {heads} embed: {heads * each} layers: 2 block_size: {steps + 1} {more}"
    settings += f"attn_dropout: {ratio} resid_dropout: {ratio}"
    return Example(f"{message} {{ {settings} }}", (Bottom((n, steps, heads * each)),))


@example_of("CausalSelfAttention")
def causal_self_attention(draw: Draw) -> Example:
    return attention(draw, "causal_self_attention_param", 1)


@example_of("TransformerBlock")
def transformer_block(draw: Draw) -> Example:
    # Two normalised values are 1 and -1, whose derivative is 0 but for the tiny eps.
    return attention(draw, "transformer_block_param", 3, "activation: GELU ")


@example_of("LayerNorm (MyCaffe)")
def layer_norm(draw: Draw) -> Example:
    text = fields("layer_norm_param", epsilon=draw(st.sampled_from([1e-10, 0.1])))
    return Example(text, (Bottom(draw(st.sampled_from([(2, 5), (2, 3, 4), (1, 2, 3, 4)]))),))


@example_of("LayerNorm (Synopsys)")
def layer_norm_synopsys(draw: Draw) -> Example:
    affine = draw(st.sampled_from(["true", "false"]))
    text = fields("layer_norm_param", elementwise_affine=affine)
    return Example(text, (Bottom(draw(st.sampled_from([(2, 5), (2, 3, 4), (1, 2, 3, 4)]))),))


@example_of("Gelu")
def gelu(draw: Draw) -> Example:
    by_tanh = draw(st.sampled_from(["true", "false"]))
    return Example(
        fields("gelu_param", enable_bert_version=by_tanh), (Bottom(extents(draw, 1, 4)),)
    )


@example_of("SoftmaxCrossEntropy2Loss")
def softmax_cross_entropy2_loss(draw: Draw) -> Example:
    n, steps, classes = extents(draw, 3, 3)
    text = "softmax_param { axis: 2 } loss_param { normalization: BATCH_SIZE }"
    labels = Bottom((n, steps), "labels", classes)
    return Example(text, (Bottom((n, steps, classes)), labels))
