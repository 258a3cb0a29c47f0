"""Net states, and the include and exclude rules of layers (phase, level, stages)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from caffecompat.errors import NetError
from caffecompat.proto import schema

PHASES = ("TRAIN", "TEST")
# As in Caffe's schema.
TRAIN, TEST = 0, 1


def net_state(net: Any, phase: str | int, level: int = 0, stages: Sequence[str] = ()) -> Any:
    """The NetState for a net definition with the given phase, level and stages.

    As in Caffe's Net constructor, phase and level replace those of the definition's ``state``, and
    the stages are appended to its stages.

    Args:
        net: NetParameter message.
        phase: ``"train"`` or ``"test"`` in any case, or :data:`TRAIN` or :data:`TEST`.
        level: the level.
        stages: the additional stages.

    Raises:
        NetError: there is no such phase.
    """
    state = schema.new("NetState")
    state.CopyFrom(net.state)
    state.phase = _phase_number(phase)
    state.level = level
    state.stage.extend(stages)
    return state


def merge_state(*states: Any) -> Any:
    """NetState messages merged in order: later scalars win, stages are appended."""
    merged = schema.new("NetState")
    for state in states:
        merged.MergeFrom(state)
    return merged


def phase_name(number: int) -> str:
    """The schema's name of a phase, among them RUN of MyCaffe, in which no net is built here."""
    names = {value: name for name, value in schema.enum_names("Phase").items()}
    return names.get(number, str(number))


def describe_state(state: Any) -> str:
    """``phase TRAIN, level 2, stage 'deploy'``, for messages."""
    text = f"phase {phase_name(state.phase)}, level {state.level}"
    # Without a stage on the command line the state has one with an empty name, as in Caffe's tool.
    stages = [repr(stage) for stage in state.stage if stage]
    if stages:
        text += ", stage " + " ".join(stages)
    return text


def describe_rules(layer: Any) -> str:
    """When a layer's rules include it: ``only in phase TEST``, ``not with stage 'deploy'``."""
    rules = layer.include or layer.exclude
    kind = "only" if layer.include else "not"
    return f"{kind} {' or '.join(_describe_rule(rule) for rule in rules)}"


def _describe_rule(rule: Any) -> str:
    parts = []
    if rule.HasField("phase"):
        parts.append(f"in phase {phase_name(rule.phase)}")
    if rule.HasField("min_level"):
        parts.append(f"from level {rule.min_level} on")
    if rule.HasField("max_level"):
        parts.append(f"up to level {rule.max_level}")
    parts += [f"with stage {stage!r}" for stage in rule.stage]
    parts += [f"without stage {stage!r}" for stage in rule.not_stage]
    return " and ".join(parts) or "in every state"


def rule_holds(rule: Any, state: Any) -> bool:
    """Whether a state meets all conditions of a NetStateRule; an empty rule is always met.

    Source: Caffe's Net::StateMeetsRule.
    """
    if rule.HasField("phase") and rule.phase != state.phase:
        return False
    if rule.HasField("min_level") and state.level < rule.min_level:
        return False
    if rule.HasField("max_level") and state.level > rule.max_level:
        return False
    present = set(state.stage)
    return present.issuperset(rule.stage) and present.isdisjoint(rule.not_stage)


def fits_phase(layer: Any, phase: int) -> bool:
    """Whether a layer's rules let it be in the net in some state of a phase."""
    if layer.include:
        return any(not r.HasField("phase") or r.phase == phase for r in layer.include)
    phases = {r.phase for r in layer.exclude if [f.name for f, _ in r.ListFields()] == ["phase"]}
    return phase not in phases


def phases_with(layers: Iterable[Any]) -> tuple[str, ...]:
    """The phases in which the rules let one of some layers be in the net, in some state."""
    known = list(layers)
    return tuple(
        PHASES[phase] for phase in (TRAIN, TEST) if any(fits_phase(layer, phase) for layer in known)
    )


def layer_is_included(layer: Any, state: Any, place: str) -> bool:
    """Whether a layer is part of the net in this state.

    Raises:
        NetError: the layer has both include and exclude rules.
    """
    if layer.include and layer.exclude:
        raise NetError(f"{place}: has both include and exclude rules; give one kind only")
    if layer.include:
        return any(rule_holds(rule, state) for rule in layer.include)
    return not any(rule_holds(rule, state) for rule in layer.exclude)


def _phase_number(phase: str | int) -> int:
    if isinstance(phase, str) and phase.upper() in PHASES:
        return PHASES.index(phase.upper())
    if phase in (TRAIN, TEST) and not isinstance(phase, (bool, float)):
        return int(phase)
    raise NetError(
        f"phase is {phase!r}; it must be 'train' or 'test', or caffecompat.TRAIN (0) or TEST (1)"
    )
