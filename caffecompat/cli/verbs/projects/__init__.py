"""Verbs for projects made with Caffe: what runs here, Caffe's commands."""
