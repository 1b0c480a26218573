"""Many episodes of the static job shop at once, for training and for measuring."""

from collections.abc import Sequence

import numpy as np

from makespan.envs.core.compiled import kernel
from makespan.envs.jobshop.core import (
    Columns,
    State,
    Way,
    advance,
    begin,
    columns,
    place,
    restart,
    way_number,
)
from makespan.envs.jobshop.schedule import Schedule
from makespan.traces.jobshop.instance import JobShop


class ShopBatch:
    """Episodes side by side; each asks what `ShopSimulation` asks, and all are answered together.

    Args:
        shops: one for each episode, all with as many jobs, machines and operations; the same one
            may come again.
        way: what a choice is between.

    Attributes:
        count: int64 (episodes,): candidates of the choice that is due; 0 where all is placed.
        candidates: int64 (episodes, jobs): the jobs that it is between, ascending, come first.
        machine: int64 (episodes,): that it is about; -1 if about several.

    Raises:
        ValueError: there are no shops, they differ in size, operations have a choice of machines,
            or there is no such way.
    """

    def __init__(self, shops: Sequence[JobShop], way: Way = "nondelay") -> None:
        self.shops = tuple(shops)
        sizes = {(shop.jobs, shop.machines, shop.operations) for shop in shops}
        if len(sizes) != 1:
            raise ValueError(f"needs shops of one size, not of {len(sizes)}")
        self._way = way_number(way)
        parts = [columns(shop) for shop in shops]
        self._shops = Columns(
            parts[0].machines, *map(np.stack, zip(*(p[1:] for p in parts), strict=True))
        )
        states = [begin(part, self._way) for part in parts]
        self._state = State(*map(np.stack, zip(*states, strict=True)))
        self.count = np.zeros(len(shops), np.int64)
        self.candidates = self._state.candidates
        self.reset()

    def __len__(self) -> int:
        return len(self.shops)

    @property
    def machine(self) -> np.ndarray:
        return self._state.moment[:, 1]

    def reset(self) -> None:
        """Begin all anew."""
        _reset(self._shops, self._state, self._way, self.count)

    def step(self, actions: np.ndarray) -> None:
        """Go on with one candidate of each episode; where none is due, the answer is ignored.

        Args:
            actions: int64 (episodes,): numbers of jobs.

        Raises:
            ValueError: a job is no candidate; nothing was placed.
        """
        refused = _step(self._shops, self._state, self._way, actions, self.count)
        if refused >= 0:
            raise ValueError(f"episode {refused}: job {actions[refused]} is no candidate")

    @property
    def action_masks(self) -> np.ndarray:
        """bool (episodes, jobs): the candidates."""
        places = np.arange(self.candidates.shape[1]) < self.count[:, None]
        masks = np.zeros(places.shape, bool)
        masks[np.nonzero(places)[0], self.candidates[places]] = True
        return masks

    @property
    def makespan(self) -> np.ndarray:
        """int64 (episodes,): when the last of what is placed ends."""
        return self._state.job_ready.max(1)

    def schedule(self, episode: int) -> Schedule:
        """Complete where `count` is 0."""
        return Schedule.plain(self.shops[episode], self._state.start[episode].copy())


def random_actions(batch: ShopBatch, rng: np.random.Generator) -> np.ndarray:
    """int64 (episodes,): a candidate of each episode, all as likely."""
    places = (rng.random(len(batch)) * batch.count).astype(np.int64)
    return np.take_along_axis(batch.candidates, places[:, None], 1)[:, 0]


@kernel
def _episode(shops, states, k):
    """Shop and state of one episode, sharing memory."""
    shop = Columns(
        shops.machines, shops.first[k], shops.machine[k], shops.duration[k], shops.release[k]
    )
    state = State(
        states.following[k],
        states.job_ready[k],
        states.machine_ready[k],
        states.work[k],
        states.start[k],
        states.begins[k],
        states.candidates[k],
        states.moment[k],
        states.busy_from[k],
        states.busy_to[k],
        states.busy[k],
    )
    return shop, state


@kernel
def _reset(shops, states, way, count):
    for k in range(len(count)):
        shop, state = _episode(shops, states, k)
        restart(shop, state)
        count[k] = advance(shop, state, way)


@kernel
def _step(shops, states, way, actions, count):
    """The first episode whose action is refused, in which case nothing is placed; -1 if none."""
    for k in range(len(count)):
        known = count[k] == 0
        for c in range(count[k]):
            known |= states.candidates[k, c] == actions[k]
        if not known:
            return k
    for k in range(len(count)):
        if count[k] > 0:
            shop, state = _episode(shops, states, k)
            place(shop, state, actions[k], way)
            count[k] = advance(shop, state, way)
    return -1
