"""What is asked of a model, and the metrics that answer."""
