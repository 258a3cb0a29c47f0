"""Tests of pycaffe."""
