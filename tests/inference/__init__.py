"""Tests of caffecompat.inference."""
