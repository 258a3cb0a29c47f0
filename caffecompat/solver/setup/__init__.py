"""From a solver definition to nets, device, seed and options."""
