"""Verbs that bring models and definitions to another form, and verify that."""
