"""The ranks of a run, and what they tell each other. One process needs no process group."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Team:
    """This process's place among `size` ranks. `control` is a group on CPU, so that a word costs no GPU sync."""

    rank: int
    size: int
    device: torch.device
    control: dist.ProcessGroup | None = None

    @classmethod
    def alone(cls, device: str = "cpu") -> "Team":
        return cls(0, 1, torch.device(device))

    @classmethod
    def joined(cls, device: torch.device) -> "Team":
        """The team of the process group that this process is in."""
        if dist.get_world_size() == 1:
            return cls(0, 1, device)
        control = dist.group.WORLD if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")
        assert control is not None
        return cls(dist.get_rank(), dist.get_world_size(), device, control)

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Sums over the ranks, the same on all of them; whole numbers stay exact up to 2^53."""
        if self.size == 1:
            return list(values)
        table = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(table, group=self.control)
        return [float(value) for value in table]

    def sum_tensor(self, value: Tensor) -> Tensor:
        """The sum of a tensor on the device over the ranks, in place."""
        if self.size > 1:
            dist.all_reduce(value)
        return value
