"""Staging: copy what this rank will write, so that training may go on and change it.

The plan is torch.distributed.checkpoint's: one write item a tensor or shard, replicated ones left to one
rank each. A plan depends on the shape of the state alone, so the share that the last plan gave this rank
still holds while every rank's items are what they were, and only that share is copied: with data
parallelism over N ranks, 1/N of the state. When any rank's items changed (the first save; the first one
with optimizer state) everything is copied, once.

The buffers stay allocated between saves: touching fresh memory costs more than the copy itself. Host
memory as large as the share is the price.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner, create_default_local_save_plan
from torch.distributed.checkpoint.planner import SavePlan, WriteItem, WriteItemType
from torch.distributed.checkpoint.utils import find_state_dict_object

if TYPE_CHECKING:
    from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex

    from rowlock_trainer.checkpoint.crew import Crew
    from rowlock_trainer.checkpoint.manifest import JSON
    from rowlock_trainer.checkpoint.state import FlatState


class Staging:
    """The buffers of one rank, and the share of the state they are for. Used by one save at a time."""

    def __init__(self) -> None:
        self._items: list[WriteItem] = []
        self._share: set[MetadataIndex] | None = None
        self._buffers: dict[MetadataIndex, torch.Tensor] = {}

    @torch.no_grad()
    def stage(self, state: FlatState, crew: Crew) -> StagedPlanner:
        """Copy this rank's share of `state`; every rank of `crew` calls this at the same step."""
        items = create_default_local_save_plan(state.tensors, crew.leads).items
        known = crew.unanimous(self._share is not None and items == self._items)
        share = self._share if known else None
        self._items, self._share = items, None
        wanted = [item for item in items if share is None or item.index in share]
        self._buffers = {item.index: self._copy(state, item) for item in wanted}
        _wait_for_copies(state)
        return StagedPlanner(self, items, self._buffers, state.values)

    def keep(self, share: set[MetadataIndex]) -> None:
        """Take note of what the crew's plan left to this rank; the other buffers are given back."""
        self._share = share
        self._buffers = {index: buffer for index, buffer in self._buffers.items() if index in share}

    def _copy(self, state: FlatState, item: WriteItem) -> torch.Tensor:
        """Return a flat byte tensor with the data of `item`."""
        source: torch.Tensor = find_state_dict_object(state.tensors, item.index).detach()
        nbytes = source.numel() * source.element_size()
        buffer = self._buffers.get(item.index)
        if buffer is None or buffer.numel() != nbytes:
            buffer = torch.empty(nbytes, dtype=torch.uint8, pin_memory=source.is_cuda)
        if nbytes:
            buffer.view(source.dtype).view(source.shape).copy_(source, non_blocking=True)
        return buffer


def _wait_for_copies(state: FlatState) -> None:
    for device in {tensor.device for tensor in state.tensors.values() if tensor.is_cuda}:
        torch.cuda.current_stream(device).synchronize()


class StagedPlanner(DefaultSavePlanner):
    """The default planner on data that is staged already: it plans the items it was given, once."""

    def __init__(
        self,
        staging: Staging,
        items: list[WriteItem],
        buffers: dict[MetadataIndex, torch.Tensor],
        values: dict[str, JSON],
    ) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self._staging = staging
        self._items = items
        self._buffers = buffers
        self._values = values

    def set_up_planner(self, state_dict: Any, storage_meta: Any = None, is_coordinator: bool = False) -> None:
        """Nothing to set up: the state was taken apart when it was staged."""
        self.is_coordinator = is_coordinator

    def create_local_plan(self) -> SavePlan:
        """Return the items of this rank; its values travel along as planner data."""
        self.plan = SavePlan(self._items, planner_data=self._values)
        return self.plan

    def create_global_plan(self, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
        """Spread the items over the ranks; called on the coordinator."""
        strange = [i for p in all_plans for i in p.items if i.type == WriteItemType.BYTE_IO]
        if strange:
            raise TypeError(f"{strange[0].index.fqn} is no tensor, and only tensors go to the data files")
        plans, metadata = super().create_global_plan(all_plans)
        # Every rank's values have arrived; they need not travel back.
        self.values = _merge([plan.planner_data for plan in all_plans])
        return [dataclasses.replace(plan, planner_data=None) for plan in plans], metadata

    def finish_plan(self, new_plan: SavePlan) -> SavePlan:
        """Take the crew's plan for this rank."""
        self._staging.keep({item.index for item in new_plan.items})
        return super().finish_plan(new_plan)

    def resolve_data(self, write_item: WriteItem) -> torch.Tensor:
        """Return the staged data of `write_item` as a flat byte tensor in host memory."""
        return self._buffers[write_item.index]


def _merge(values_by_rank: list[dict[str, JSON]]) -> dict[str, JSON]:
    """Return the values of all ranks together. Raises ValueError when two ranks disagree on one."""
    merged: dict[str, JSON] = {}
    for rank, values in enumerate(values_by_rank):
        for key, value in values.items():
            if _same(merged.setdefault(key, value), value):
                continue
            raise ValueError(
                f"state[{key!r}] is {value!r} on rank {rank} and {merged[key]!r} on a lower one; give each "
                f"rank a key of its own (optimizers: StateDictOptions(flatten_optimizer_state_dict=True))"
            )
    return merged


def _same(one: JSON, other: JSON) -> bool:
    """Compare; by spelling, so that a NaN equals itself."""
    return repr(one) == repr(other)
