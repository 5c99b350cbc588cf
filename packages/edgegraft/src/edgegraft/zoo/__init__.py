"""Backbones: what embeds windows, with cards, weights and a cache."""
