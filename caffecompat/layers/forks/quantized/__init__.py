"""Layer types with quantised numbers: Ristretto, DeePhi."""
