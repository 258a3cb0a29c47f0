"""The fully connected CRF of CRF-RNN, by mean field inference."""
