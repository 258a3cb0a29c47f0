"""Running a net: steps, parts, precision, devices, CUDA graphs."""
