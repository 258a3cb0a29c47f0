"""Analysis of nets: summary, receptive fields, replay of recorded passes."""
