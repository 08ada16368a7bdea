"""A crew of real processes: forked from a server that has imported torch once, joined by gloo.

A rank is a function ``rank_body(rank, group, *args)`` at the top of a test module; what it returns comes
back to the test, and what it raises fails the test with its traceback.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import traceback
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

#: Far beyond what any crew here needs; a crew that hangs fails its test.
DEADLINE = 120.0

_context = multiprocessing.get_context("forkserver")
# Imported once by the server; torch._dynamo is what DTensor and the optimizers import at their first use.
_context.set_forkserver_preload(
    [
        "torch.distributed.tensor",
        "torch.distributed.checkpoint.state_dict",
        "torch._dynamo",
        "rowlock_trainer.checkpoint.checkpointer",
        "pytest",
    ]
)


class Rank:
    """One rank process and the line to it."""

    def __init__(self, body, rank, size, store, args):
        self.line, theirs = _context.Pipe()
        self.process = _context.Process(target=_main, args=(theirs, body, rank, size, store, args), daemon=True)
        self.process.start()
        theirs.close()

    def hear(self):
        """Return the next thing the rank says; fail with its traceback when it raised."""
        assert self.line.poll(DEADLINE), "a rank said nothing before the deadline"
        kind, value = self.line.recv()
        assert kind != "raised", value
        return value

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.ended()

    def ended(self):
        self.process.join(DEADLINE)
        assert self.process.exitcode is not None, "a rank did not end before the deadline"
        return self.process.exitcode


@contextmanager
def crew(size, body, *args):
    """Start `size` ranks; those still there at the end are killed."""
    with tempfile.TemporaryDirectory() as folder:
        ranks = [Rank(body, rank, size, str(Path(folder) / "store"), args) for rank in range(size)]
        try:
            yield ranks
        finally:
            for rank in ranks:
                if rank.process.is_alive():
                    rank.kill()


def results(size, body, *args):
    """Run `body` on `size` ranks and return what each returns, by rank: plain values, no tensors."""
    with crew(size, body, *args) as ranks:
        return [rank.hear() for rank in ranks]


#: Within a rank: the line to the test.
_lines = []


def say(value):
    """From within a rank: tell the test something before the end."""
    _lines[0].send(("said", value))


def hear():
    """From within a rank: wait for the test's word."""
    return _lines[0].recv()


def _main(line, body, rank, size, store, args):
    _lines.append(line)
    torch.set_num_threads(1)
    try:
        if size == 1:
            line.send(("returned", body(0, None, *args)))
            return
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
        group = dist.new_group(backend="gloo", timeout=timedelta(seconds=DEADLINE))
        line.send(("returned", body(rank, group, *args)))
        hear_the_end(line)
    except Exception:  # noqa: BLE001 (it is raised again in the test, in words)
        line.send(("raised", traceback.format_exc()))


def hear_the_end(line):
    """Stay until the test hangs up, so that no rank takes the connections down while others use them."""
    try:
        line.recv()
    except EOFError:
        return
