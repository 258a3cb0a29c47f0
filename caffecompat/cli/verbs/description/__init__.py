"""Verbs that describe, draw and compare nets and models without running them."""
