"""What goes wrong with data, in words."""

from __future__ import annotations


class DataError(Exception):
    """The data of a job cannot be had or does not fit it; the message names the way out."""
