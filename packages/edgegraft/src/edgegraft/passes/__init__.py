"""Passes over programs: what their values look like, and the same computed another way."""
