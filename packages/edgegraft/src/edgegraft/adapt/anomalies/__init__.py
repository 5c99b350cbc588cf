"""Anomalies of series: experts of what is normal, fused by rank, with a border."""
