"""Python source of a net as an ``nn.Module`` that needs torch alone.

``layers/`` has one function per layer type, ``caffe_definitions.py`` and ``fork_definitions.py``
the classes and functions that the source brings along where torch has none, ``module.py`` puts it
all together.
"""
