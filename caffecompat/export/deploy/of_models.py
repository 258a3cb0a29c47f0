"""Models whose definitions read data, as models that take inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from caffecompat.export.definitions import has_inputs
from caffecompat.export.deploy.definition import DeployOptions, deploy
from caffecompat.export.model import CaffeModel
from caffecompat.layers import BuildOptions
from caffecompat.net.definition import read_definition


def fed_by_inputs(model: CaffeModel, say: Callable[[str], None]) -> CaffeModel:
    """The model with its deploy definition, where it has that of a training, which reads data.

    Raises:
        NetError, ExportError: as ``caffecompat deploy``.
    """
    if has_inputs(model.definition.message):
        return model
    say("the definition reads data; made a deploy net of it, as 'caffecompat deploy' does")
    dialect = model.definition.dialect
    options = DeployOptions(net=BuildOptions(dialect=dialect))
    message = deploy(model.definition, options, model.path).message
    return replace(model, definition=replace(read_definition(message), dialect=dialect))
