"""The device end of Edgegraft: NumPy only, never the training code."""

__version__ = "0.1.0"
