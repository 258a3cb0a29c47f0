"""Test protocols, one file each; see caffecompat.evaluate.protocol."""
