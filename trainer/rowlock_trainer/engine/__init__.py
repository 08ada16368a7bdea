"""The training engine: one rank, one generation, one step after the other."""
