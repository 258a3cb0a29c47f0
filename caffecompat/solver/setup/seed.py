"""The choice of the seed of a run."""

from __future__ import annotations

import logging
import secrets

from caffecompat.proto.schema import Message


def choose_seed(message: Message, place: str, stored: int | None, log: logging.Logger) -> int:
    """``random_seed`` of the definition, else that of the solver state, else a random one.

    The choice is logged.

    Args:
        message: SolverParameter; a negative ``random_seed`` counts as none.
        place: the definition's file, for messages.
        stored: the seed in the state that the run resumes from; None without one.
    """
    if message.random_seed >= 0:
        seed = int(message.random_seed)
        if stored is not None and stored != seed:
            log.warning(
                f"{place}: random_seed is {seed}, but the state was trained with {stored}; from "
                "here on samples and masks differ from those of the first run"
            )
        log.info(f"Random seed: {seed}")
        return seed
    if stored is not None:
        log.info(f"Random seed: {stored} (from the solver state)")
        return stored
    seed = secrets.randbelow(2**31)
    log.info(f"Random seed: {seed} (drawn; random_seed: {seed} repeats this run)")
    return seed
