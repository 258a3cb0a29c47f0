"""Prototxt text: parsing, with the places of layers and of mistakes, and printing."""
