"""Rowlock: distributed training on Kubernetes that does not stop when workers die."""

__version__ = "0.1.0"
