"""Nets that only run forward, as fast as the machine allows; see docs/inference.md."""
