"""Execution of nets: passes over all or some layers, precision, devices, CUDA graphs."""
