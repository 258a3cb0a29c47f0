"""ONNX graphs of nets: each Caffe layer becomes ONNX operators under Caffe's names.

``layers/`` has one function per layer type; ``graph.py`` collects nodes and weights, ``build.py``
walks a net, ``file.py`` writes the file. Only ``file.py`` imports onnx.
"""
