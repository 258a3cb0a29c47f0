"""Proposals of region proposal networks."""
