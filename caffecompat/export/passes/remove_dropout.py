"""A net without its Dropout layers, which pass values on outside training."""

from __future__ import annotations

from dataclasses import replace

from caffecompat.export.graph_pass import graph_passes
from caffecompat.export.model import CaffeModel
from caffecompat.export.wiring import Wiring, net_of
from caffecompat.graph import build_graph, net_state
from caffecompat.layers.dropout import passes_on

HELP = "leave Dropout layers out; outside training they pass values on"
DROPOUT = "Dropout"


@graph_passes.register("remove-dropout")
def remove_dropout(model: CaffeModel) -> CaffeModel:
    """The model without Dropout layers; outputs keep their names and values.

    The result has the layers of phase TEST. A Dropout layer whose top is an output of the net stays
    if its bottom is an input, or has other readers: it gives the output its name.

    Raises:
        NetError: the layers of the definition do not fit together.
    """
    definition = model.definition
    state = net_state(definition.message, "test")
    wiring = Wiring(build_graph(definition.message, state, definition.place))
    notes = []
    for step in [step for step in wiring.steps if step.type == DROPOUT and passes_on(step.message)]:
        if not wiring.can_bypass(step):
            notes.append(f"{step.place}: stays, because it gives an output its name")
        else:
            wiring.bypass(step)
            notes.append(f"{step.place}: removed")
    if not notes:
        return model
    message = net_of(definition.message, wiring.layers())
    notes = [*definition.notes, *notes]
    return replace(model, definition=replace(definition, message=message, notes=notes))
