"""The fastest of the engines that are installed, measured on the net's own input sizes."""

from __future__ import annotations

from dataclasses import replace

from caffecompat.errors import CaffeError, MissingExtra, NetError
from caffecompat.inference.timing import example_feeds, seconds_in_turns
from caffecompat.net import Net
from caffecompat.net.execution.inference import (
    InferenceOptions,
    InferenceProgram,
    Optimization,
    inference_engines,
)

_NAME = "fastest"


@inference_engines.register(_NAME)
def optimize(net: Net, options: InferenceOptions) -> Optimization:
    """Runs random inputs in all engines, in turns, and takes the one with the least median time.

    Raises:
        NetError: no engine runs the net in this precision.
    """
    made: dict[str, Optimization] = {}
    lines: list[str] = []
    for engine in inference_engines:
        if engine == _NAME:
            continue
        try:
            one = inference_engines.find(engine)(net, options)
        except MissingExtra:
            lines.append(f"{engine}: not installed")
        except CaffeError as error:
            lines.append(f"{engine}: {error}")
        else:
            if one.engine != engine:
                lines.append(one.lines[0])
            made.setdefault(one.engine, one)
    if not made:
        raise NetError("\n".join(["no engine runs the net so", *lines]))
    if len(made) == 1:
        (chosen,) = made.values()
        return replace(chosen, lines=(*lines, f"{chosen.engine} alone runs it", *chosen.lines))
    programs: dict[str, InferenceProgram] = {name: one.program for name, one in made.items()}
    times = seconds_in_turns(programs, example_feeds(net, options.shapes))
    best = min(times, key=lambda name: times[name])
    lines += [f"{name}: {1000 * seconds:.4g} ms" for name, seconds in times.items()]
    chosen = made[best]
    return replace(chosen, lines=(*lines, f"{best} is the fastest here", *chosen.lines))
