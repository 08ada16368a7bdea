"""Standard output that may go away: a closed pipe, a terminal that is gone, a full disk behind a redirection.

Training is not ended by that. What cannot be written is dropped, and from then on everything is.
"""

from __future__ import annotations

import os
from typing import TextIO


class LastingOutput:
    """Writes to a stream for as long as it takes what is written; what rich.console.Console needs of a file."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.encoding = stream.encoding

    def write(self, text: str) -> int:
        """Write, or drop."""
        try:
            return self._stream.write(text)
        except OSError:
            self._fall_silent()
            return len(text)

    def flush(self) -> None:
        """Pass on what is buffered, or drop it."""
        try:
            self._stream.flush()
        except OSError:
            self._fall_silent()

    def isatty(self) -> bool:
        """Whether a person sees it as it comes."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Return the descriptor beneath."""
        return self._stream.fileno()

    def _fall_silent(self) -> None:
        # Under the stream's feet, so that what it still buffers goes the same way when the process ends.
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self._stream.fileno())
        os.close(nothing)
