"""Tests of caffecompat.evaluate."""
