"""The command line: one file per verb in ``verbs/``, found by presence."""
