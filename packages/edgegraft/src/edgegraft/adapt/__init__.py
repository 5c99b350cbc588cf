"""From a backbone and labelled windows to an adapted model: strategies, heads, training."""
