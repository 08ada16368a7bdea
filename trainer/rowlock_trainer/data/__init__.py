"""Data: what a job trains on, and in which order."""
