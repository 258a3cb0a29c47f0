"""Prototxt text: parsing with places and mistakes, and printing."""
