"""Random projects by level: layers of tasks with so many precedences, and what else can bind them.

After R-ConstraintBench (Jain and Wetter, arXiv 2508.15204): tasks lie in layers; level k has k
precedences, each from a layer to a later one and taken only if there is no path between the two
yet; downtimes, windows and tasks that exclude each other are added with given probabilities. Every
project can be done: a hidden schedule is made around its downtimes and pairs, and the windows
around that. The paper's sizes and distributions are not published with it; these are this
project's.
"""

from dataclasses import replace

import numpy as np
from numpy.random import Generator, SeedSequence

from makespan.traces.jobshop.project import NEVER, Project

LONGEST = 10
"""Durations and downtimes are whole and uniform from 1 to this."""

CAPACITY = 10
"""Of every resource."""

LARGEST_DEMAND = 6
"""Demands are whole and uniform from 0 to this, so that two tasks may exclude each other."""

SLACK = 0.25
"""A window is wider than its task by at most this share of the hidden schedule, on both sides."""


def layered(
    level: int,
    seed: SeedSequence,
    tasks: int = 30,
    layers: int = 5,
    resources: int = 3,
    downtime: float = 0.0,
    windows: float = 0.0,
    pairs: float = 0.0,
) -> tuple[Project, np.ndarray]:
    """A project, and when its tasks begin in the hidden schedule, int64 (tasks,).

    With the same seed, a higher level has the same tasks and precedences, and more of these.

    Args:
        level: number of precedences; none follows from others.
        tasks, layers, resources: their numbers; the layers are as equal as they can be.
        downtime: probability that a resource is down once.
        windows: probability that a task has a release and a deadline.
        pairs: probability that a task must not be under way beside another, one that it is free to
            precede or follow.

    Raises:
        ValueError: a number or probability is out of range, or so many precedences do not fit.
    """
    _check(level, tasks, layers, resources)
    for name, share in (("downtime", downtime), ("windows", windows), ("pairs", pairs)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is a probability, not {share}")
    streams = [np.random.default_rng(stream) for stream in seed.spawn(6)]
    duration = streams[0].integers(1, LONGEST, tasks, endpoint=True)
    demand = streams[0].integers(0, LARGEST_DEMAND, (tasks, resources), endpoint=True)
    arcs, path = _precedences(level, np.arange(tasks) * layers // tasks, streams[1])
    project = _project(duration, demand, arcs, f"layered-{level}")
    project = replace(
        project,
        downtime=_downtimes(project, downtime, streams[2]),
        pairs=_pairs(path | path.T, pairs, streams[3]),
    )
    start = _hidden(project, streams[4])
    release, deadline = _windows(project, start, windows, streams[5])
    return replace(project, release=release, deadline=deadline), start


def _check(level: int, tasks: int, layers: int, resources: int) -> None:
    if level < 0:
        raise ValueError(f"level must not be negative, not {level}")
    if not 1 <= layers <= tasks:
        raise ValueError(f"{tasks} tasks cannot lie in {layers} layers")
    if resources < 1:
        raise ValueError(f"resources must be at least 1, not {resources}")


def _precedences(
    level: int, layer: np.ndarray, rng: Generator
) -> tuple[list[tuple[int, int]], np.ndarray]:
    """So many (before, after), and bool (tasks, tasks): whether there is a path between two.

    Taken in random order from all that go from a layer to a later one, unless it follows from those
    that are there or one of those would follow from it. What is passed over once would be passed
    over later, too.
    """
    arcs: list[tuple[int, int]] = []
    path = np.zeros((len(layer), len(layer)), np.bool_)
    candidates = np.argwhere(layer[:, None] < layer)
    for one, other in rng.permutation(candidates).tolist():
        if len(arcs) == level:
            break
        before, after = path[:, one].copy(), path[other].copy()
        before[one] = after[other] = True
        if not path[one, other] and not any(before[i] and after[j] for i, j in arcs):
            arcs.append((one, other))
            path |= before[:, None] & after
    if len(arcs) < level:
        raise ValueError(f"{len(arcs)} precedences fit among {len(layer)} tasks, not {level}")
    return arcs, path


def _project(
    duration: np.ndarray, demand: np.ndarray, arcs: list[tuple[int, int]], name: str
) -> Project:
    tasks = [
        (int(takes), demand[task].tolist(), [j for i, j in arcs if i == task])
        for task, takes in enumerate(duration)
    ]
    return Project.of([CAPACITY] * demand.shape[1], tasks, name)


def _downtimes(project: Project, probability: float, rng: Generator) -> np.ndarray:
    """Of the resources, at random before the time that the scarcest one's work takes."""
    work = (project.duration[:, None] * project.demand).sum(axis=0)
    horizon = max(int((work // project.capacity).max()), 1)
    downtimes = []
    for resource in range(len(project.capacity)):
        happens, begin = rng.random() < probability, int(rng.integers(horizon))
        takes = int(rng.integers(1, LONGEST, endpoint=True))
        if happens:
            downtimes.append((resource, begin, begin + takes))
    return np.array(downtimes, np.int64)


def _pairs(ordered: np.ndarray, probability: float, rng: Generator) -> np.ndarray:
    """Each task with a random other that has no pair with it and is not ordered with it."""
    free = ~ordered & ~np.eye(len(ordered), dtype=np.bool_)
    pairs = []
    for task in range(len(ordered)):
        others = np.flatnonzero(free[task])
        if rng.random() < probability and len(others):
            other = int(rng.choice(others))
            free[task, other] = free[other, task] = False
            pairs.append((task, other))
    return np.array(pairs, np.int64)


def _hidden(project: Project, rng: Generator) -> np.ndarray:
    """Starts of a schedule: each task, in a random order, is put where it first fits."""
    rank = rng.permutation(project.tasks)
    last = int(project.downtime[:, 2].max(initial=0))
    free = np.tile(project.capacity, (last + int(project.duration.sum()), 1))
    for resource, begin, end in project.downtime.tolist():
        free[begin:end, resource] = 0
    start = np.full(project.tasks, -1)
    ready = np.zeros(project.tasks, np.int64)
    for task in _random_order(project, rank):
        beside = [other for pair in project.pairs.tolist() if task in pair for other in pair]
        busy = np.zeros(len(free), np.bool_)
        for other in beside:
            if start[other] >= 0:
                busy[start[other] : start[other] + project.duration[other]] = True
        good = (free >= project.demand[task]).all(axis=1) & ~busy
        begin, takes = int(ready[task]), int(project.duration[task])
        while not good[begin : begin + takes].all():
            begin += 1
        start[task] = begin
        free[begin : begin + takes] -= project.demand[task]
        after = project.successors(task)
        ready[after] = np.maximum(ready[after], begin + takes)
    return start


def _random_order(project: Project, rank: np.ndarray) -> list[int]:
    """The tasks, each after all that it waits for; of those that could be next, the lowest rank."""
    waits = np.bincount(project.successor, minlength=project.tasks)
    order: list[int] = []
    while len(order) < project.tasks:
        task = int(np.where(waits == 0, rank, project.tasks).argmin())
        order.append(task)
        waits[project.successors(task)] -= 1
        waits[task] = -1
    return order


def _windows(
    project: Project, start: np.ndarray, probability: float, rng: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Releases and deadlines around the hidden schedule."""
    end = start + project.duration
    most = int(SLACK * end.max())
    given = rng.random(project.tasks) < probability
    early, late = rng.integers(0, most, (2, project.tasks), endpoint=True)
    return (
        np.where(given, np.maximum(start - early, 0), 0),
        np.where(given, end + late, NEVER),
    )
