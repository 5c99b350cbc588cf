"""Estimates of what is now: ridge, trees, trends of units, intervals."""
