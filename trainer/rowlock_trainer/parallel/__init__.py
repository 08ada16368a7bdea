"""Strategies: how a plain model is trained by many ranks at once, one file each."""
