"""DeepBit's losses over binary codes."""
