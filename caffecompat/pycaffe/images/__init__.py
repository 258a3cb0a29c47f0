"""Images as arrays: their sizes, their values as inputs of nets."""
