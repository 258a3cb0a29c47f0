"""Tests of caffecompat.export."""
