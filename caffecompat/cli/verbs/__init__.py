"""The verbs of the command line.

A verb is a module with ``HELP`` (one line), ``EXAMPLE`` (shown at the end of its help),
``add_arguments(parser)`` and ``run(arguments) -> int``; ``RUNS_NETS = True`` says that its process
keeps the memory that it frees (:mod:`caffecompat.kept_memory`). Its file name is its name, with
underscores for dashes; the packages are their subjects. Nothing heavy is imported outside ``run``.
"""
