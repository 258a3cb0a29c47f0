"""Verbs that train, test and time nets, and those that read logs of trainings."""
