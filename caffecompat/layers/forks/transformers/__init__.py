"""Layer types of transformers: attention, layer normalisation, text."""
