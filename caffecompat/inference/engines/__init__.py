"""Engines that run a net forward, one file each; see caffecompat.net.execution.inference."""
