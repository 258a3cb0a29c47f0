"""The layer types that Python source knows; see caffecompat.export.python_code.layer."""
