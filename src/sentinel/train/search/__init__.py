"""The search for a training: what is tried, and what is kept."""
