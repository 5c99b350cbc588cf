"""Smaller models of the same task: 8-bit, pruned, distilled."""
