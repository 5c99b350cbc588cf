"""From a bundle to models for runtimes, each proved on the golden windows."""
