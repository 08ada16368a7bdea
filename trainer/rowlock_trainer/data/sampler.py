"""Which samples a step trains on: a function of the seed and a cursor, not of who is in the crew.

The run is one endless line of samples, epoch after epoch, each epoch its own shuffle. Step after step takes
the next `global batch size` of them; a batch may straddle the end of an epoch, so none is ever cut short or
dropped. The only state is the cursor, one integer, and it is exact across restarts and across world sizes:
a rank takes its contiguous slice of the batch, whatever the number of ranks.
"""

from __future__ import annotations

import numpy as np

from rowlock_trainer.data.order import Ids, permutation


class Sampler:
    """The line of samples of one run.

    Args:
        size: Number of training samples, N.
        seed: The run's seed.

    Raises:
        ValueError: `size` is not positive.
    """

    def __init__(self, size: int, seed: int) -> None:
        if size <= 0:
            raise ValueError(f"a sampler needs at least one training sample, got {size}")
        self.size = size
        self.seed = seed
        self._epoch = -1
        self._order: Ids = np.empty(0, dtype=np.int64)

    def ids(self, cursor: int, count: int) -> Ids:
        """Return ids of samples `cursor` .. `cursor + count - 1` of the run, shape [count].

        Sample k of the run is permutation(epoch = k // N)[k % N].
        """
        pieces = []
        while count > 0:
            epoch, offset = divmod(cursor, self.size)
            piece = self._shuffled(epoch)[offset : offset + count]
            pieces.append(piece)
            cursor += len(piece)
            count -= len(piece)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def microbatches(self, cursor: int, batch: int, *, rank: int, world_size: int, accumulation: int) -> list[Ids]:
        """Return one rank's share of the global batch that starts at `cursor`.

        Args:
            cursor: Samples the run has taken before this batch.
            batch: Global batch size.
            rank: This rank.
            world_size: Ranks that share the batch.
            accumulation: Microbatches each rank splits its share into.

        Returns:
            `accumulation` arrays of batch / (world_size x accumulation) ids each.

        Raises:
            ValueError: The batch does not divide evenly.
        """
        share = world_size * accumulation
        if batch % share:
            raise ValueError(
                f"globalBatchSize {batch} is not a multiple of ranks x accumulationSteps = "
                f"{world_size} x {accumulation} = {share}"
            )
        each = batch // share
        mine = self.ids(cursor + rank * each * accumulation, each * accumulation)
        return [mine[i * each : (i + 1) * each] for i in range(accumulation)]

    def _shuffled(self, epoch: int) -> Ids:
        if epoch != self._epoch:
            self._order = permutation(self.size, self.seed, epoch)
            self._epoch = epoch
        return self._order
