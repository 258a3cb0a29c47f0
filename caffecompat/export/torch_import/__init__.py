"""Torch modules as Caffe models: a program that torch.export traced, operator by operator."""
