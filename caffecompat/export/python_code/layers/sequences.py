"""Recurrent layers, whose state is zero at the beginning of each run, and decoders."""

from __future__ import annotations

from caffecompat.export.python_code.layer import CodeLayer, options, writers


def _extents(at: CodeLayer, name: str) -> tuple[int, ...]:
    shapes: dict[str, tuple[int, ...]] = {spec.name: spec.shape for spec in at.layer.specs}
    return shapes.get(name, (0, 0))


@writers.register("LSTM")
@writers.register("RNN")
def recurrent(at: CodeLayer) -> None:
    layer = at.layer
    inputs, static = (_extents(at, name)[1] for name in ("weight_x", "weight_x_static"))
    module = at.module(
        at.need(layer.type), str(inputs), str(layer.size), *options(static=(static, 0))
    )
    x, cont, *others = at.bottoms
    more = [f"static={others.pop(0)}"] if layer.static else []
    if layer.exposed:
        at.write(module, x, cont, *others, *more)
    else:
        at.assign(f"{module}({', '.join([x, cont, *more])})[0]")


@writers.register("Lstm")
@writers.register("xuzhenqi, mini-caffe LSTM")
def flat_lstm(at: CodeLayer) -> None:
    inputs = str(_extents(at, "weight_x")[1])
    streams = options(streams=(at.layer.streams, None))
    at.write(at.module(at.need("FlatLSTM"), inputs, str(at.layer.size), *streams), *at.bottoms)


@writers.register("LSTMUnit")
def lstm_unit(at: CodeLayer) -> None:
    c, gates, cont = at.bottoms
    at.write(at.need("lstm_unit"), f"{c} * {cont}[..., None]", gates)


@writers.register("CTCGreedyDecoder")
def ctc_greedy_decoder(at: CodeLayer) -> None:
    layer = at.layer
    if layer.judges:
        at.refuse("the comparison with true labels (its third bottom) is not written")
    if layer.blank < 0:
        at.need_size()
    blank = layer.blank if layer.blank >= 0 else at.shapes[0][2] - 1
    arguments = ", ".join([*at.bottoms[:2], str(blank), str(bool(layer.merges))])
    which = "" if layer.scores else "[0]"
    at.assign(f"{at.need('ctc_greedy_decoder')}({arguments}){which}")
