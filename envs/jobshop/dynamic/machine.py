"""One machine of a dynamic shop: what waits for it, what it does, whether it is up."""

from bisect import insort
from dataclasses import dataclass, field

import simpy


@dataclass(slots=True)
class Machine:
    """The state of a machine.

    Attributes:
        number: from 0.
        queue: the options that could begin on it, in rising order, which is that of their jobs.
        queue_work: planned work of these.
        load: planned work of jobs in the shop that it may still begin, whether they are here yet or
            not; of what others could do as well, an equal share.
        option: that it has begun; -1: it is idle.
        up: it is not broken.
        down_since: when it failed, if it is not up.
        began: when it began or went on with its option.
        left: true work left of it at that moment.
        planned_left: planned work left of it at that moment; less than 0: it is overdue.
        completion: the event that ends it, unless a breakdown comes before; None: it is interrupted
            or there is nothing to end.
    """

    number: int
    queue: list[int] = field(default_factory=list)
    queue_work: float = 0.0
    load: float = 0.0
    option: int = -1
    up: bool = True
    down_since: float = 0.0
    began: float = 0.0
    left: float = 0.0
    planned_left: float = 0.0
    completion: simpy.Event | None = None

    def join(self, option: int, duration: float) -> None:
        """It waits for this machine."""
        insort(self.queue, option)
        self.queue_work += duration

    def leave(self, option: int, duration: float) -> None:
        """It waits no more."""
        self.queue.remove(option)
        self.queue_work = self.queue_work - duration if self.queue else 0.0

    def done_since_began(self, now: float) -> float:
        """Work done on its option since it began or went on with it."""
        return now - self.began if self.completion is not None else 0.0

    def planned_left_at(self, now: float) -> float:
        """Planned work left of its option."""
        if self.option < 0:
            return 0.0
        return max(0.0, self.planned_left - self.done_since_began(now))
