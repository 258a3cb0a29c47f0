"""Caffe models written for other programs, graph passes, and comparisons between engines.

``targets/`` writes a model in another form, one file per form; ``passes/`` rewrites a definition
and its weights together; ``engines/`` runs one model in one engine, for ``caffecompat verify``.
"""
