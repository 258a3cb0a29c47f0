"""Decoding and encoding of Datum records and image files."""
