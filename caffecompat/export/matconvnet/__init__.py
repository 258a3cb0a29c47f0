"""MatConvNet's nets, SimpleNN and DagNN: MAT files, their layers, and both directions."""
