"""The pure core: what to do next, and the one loop that does it."""
