"""What a person is told when this machine stands in the way."""

from __future__ import annotations

from pathlib import Path


class LocalError(Exception):
    """Something on this machine stands in the way; the message says what, and the way out."""


def refused(path: Path, error: OSError, way_out: str) -> LocalError:
    """Return the system's refusal of something at `path`, in words and with the way out."""
    return LocalError(f"{path}: {error.strerror or error}; {way_out}")
