"""Ways to run a bundle's model: NumPy, ONNX Runtime."""
