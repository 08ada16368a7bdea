"""The trainer: a launcher holds ranks, an engine trains in them, and checkpoints outlive them all."""
