"""From files to windows: sources, cleaning, splits, and an audit of it all."""
