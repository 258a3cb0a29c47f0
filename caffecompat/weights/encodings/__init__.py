"""Encodings of arrays and messages in files: protobuf, numpy, zip."""
