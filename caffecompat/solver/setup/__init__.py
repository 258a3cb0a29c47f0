"""Setup of a solver: settings, planned nets, device, seed and options."""
