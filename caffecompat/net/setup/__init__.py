"""The layers of a net set up: classes, top shapes, parameters, loss weights."""
