"""Top shapes of layers, and the rules that give them without torch's kernels for ``meta``."""
