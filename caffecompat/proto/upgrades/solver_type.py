"""The solver's type as an enum (until 2015) becomes a string."""

from __future__ import annotations

from caffecompat.proto.schema import Message, enum_names
from caffecompat.proto.upgrades import OldSolverError, upgrade

_TYPES = {
    "SGD": "SGD",
    "NESTEROV": "Nesterov",
    "ADAGRAD": "AdaGrad",
    "RMSPROP": "RMSProp",
    "ADADELTA": "AdaDelta",
    "ADAM": "Adam",
}


def has_solver_type(solver: Message) -> bool:
    """Whether the old field is given."""
    return bool(solver.HasField("solver_type"))


@upgrade(
    "solver type",
    message="SolverParameter",
    order=10,
    note="upgraded the old field solver_type to type",
    needed=has_solver_type,
)
def replace_solver_type(solver: Message) -> list[str]:
    """Both fields together are refused, even if ``type`` is empty."""
    if solver.HasField("type"):
        raise OldSolverError(
            f"the solver gives both solver_type{{0}} and type ({solver.type!r}{{1}}); "
            "remove solver_type",
            ("solver_type", 0),
            ("type", 0),
        )
    numbers = enum_names("SolverParameter.SolverType")
    names = {number: name for name, number in numbers.items()}
    solver.type = _TYPES[names[solver.solver_type]]
    solver.ClearField("solver_type")
    return []
