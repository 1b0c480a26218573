"""When and where every operation of a job shop is done, and whether that can be."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from makespan.traces.jobshop.instance import JobShop


@dataclass(frozen=True)
class Schedule:
    """A complete schedule.

    Attributes:
        shop: that is scheduled.
        start: int64 (operations,).
        option: int64 (operations,): the option of the shop that each operation is done by.
    """

    shop: JobShop
    start: np.ndarray
    option: np.ndarray

    @classmethod
    def plain(cls, shop: JobShop, start: np.ndarray) -> Self:
        """Of a shop without choices."""
        return cls(shop, np.asarray(start, np.int64), np.arange(shop.operations))

    @property
    def machine(self) -> np.ndarray:
        """int64 (operations,)."""
        return self.shop.machine[self.option]

    @property
    def end(self) -> np.ndarray:
        """int64 (operations,)."""
        return self.start + self.shop.duration[self.option]

    @property
    def makespan(self) -> int:
        """When the last operation ends."""
        return int(self.end.max())

    def validate(self, blocking: bool = False, swap: bool = True) -> None:
        """See that nothing is wrong with it.

        Args:
            blocking: a job stays on its machine until it goes on to the next one. It may do so in
                the moment in which the job there leaves.
            swap: whether jobs may do so that wait for each other in a circle. Asked only where jobs
                block.

        Raises:
            ValueError: something is; the message names the rule, and jobs and operations, from 0.
        """
        shop = self.shop
        for name in ("start", "option"):
            if getattr(self, name).shape != (shop.operations,):
                raise ValueError(
                    f"{name} must say something of each of {shop.operations} operations"
                )
        first, last = shop.first_option[:-1], shop.first_option[1:]
        self._require(
            (self.option >= first) & (self.option < last), "is done by no option of its own"
        )
        begun = shop.first_operation[:-1]
        ready = np.concatenate([[0], self.end[:-1]])
        ready[begun] = shop.release
        released = np.isin(np.arange(shop.operations), begun)
        self._require(~released | (self.start >= ready), "begins before its job is released")
        self._require(released | (self.start >= ready), "begins before the one before it ends")
        self._validate_machines(self._leaves() if blocking else self.end)
        if blocking and not swap and (circle := self._swap()):
            *jobs, last = sorted({int(self.shop.job[move]) for move in circle})
            names = f"{', '.join(map(str, jobs))} and {last}"
            raise ValueError(f"jobs {names} swap at {self.start[circle[0]]}")

    def _require(self, good: np.ndarray, rule: str) -> None:
        if not good.all():
            raise ValueError(f"{self._name(int(good.argmin()))} {rule}")

    def _leaves(self) -> np.ndarray:
        """int64 (operations,): when the job leaves the machine."""
        leaves = np.concatenate([self.start[1:], self.end[-1:]])
        last = self.shop.first_operation[1:] - 1
        leaves[last] = self.end[last]
        return leaves

    def _validate_machines(self, leaves: np.ndarray) -> None:
        """No machine has two operations at once; what takes no time is never in the way."""
        takes = np.flatnonzero(leaves > self.start)
        order = takes[np.lexsort((self.start[takes], self.machine[takes]))]
        before, after = order[:-1], order[1:]
        same = self.machine[before] == self.machine[after]
        overlap = same & (self.start[after] < leaves[before])
        if overlap.any():
            at = int(overlap.argmax())
            one, other = self._name(int(before[at])), self._name(int(after[at]))
            raise ValueError(f"machine {self.machine[after[at]]} has {one} and {other} at once")

    def _swap(self) -> list[int]:
        """Operations that begin at one moment, each on the machine that the next one's job leaves
        for it, in a circle; empty if there are none."""
        waits = self._waits_for()
        for first in waits:
            path = [first]
            while path[-1] in waits and waits[path[-1]] not in path:
                path.append(waits[path[-1]])
            if path[-1] in waits:
                return path[path.index(waits[path[-1]]) :]
        return []

    def _waits_for(self) -> dict[int, int]:
        """Operation -> that by whose beginning, at the same moment, its machine gets free.

        Where a job stays on its machine, it waits for nobody. What takes no time is passed over.
        """
        leaves, machine, job = self._leaves(), self.machine, self.shop.job
        last = set((self.shop.first_operation[1:] - 1).tolist())
        takes = np.flatnonzero(leaves > self.start).tolist()
        leaver: dict[tuple[int, int], int] = {}
        for operation in takes:
            after = operation + 1
            while (
                after not in last and operation not in last and leaves[after] == self.start[after]
            ):
                after += 1
            if operation not in last:
                leaver[machine[operation], leaves[operation]] = after
        begun = {o: leaver.get((machine[o], self.start[o])) for o in takes}
        return {o: by for o, by in begun.items() if by is not None and job[by] != job[o]}

    def _name(self, operation: int) -> str:
        job = int(self.shop.job[operation])
        return f"job {job}, operation {operation - self.shop.first_operation[job]}"
