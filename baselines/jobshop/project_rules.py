"""Priority rules for projects with scarce resources: the task with the lowest priority is first.

Definitions: Kolisch, Efficient priority rules for the resource-constrained project scheduling
problem, Journal of Operations Management 14 (1996). All are static: of a critical path without any
limits to resources.
"""

from collections.abc import Callable, Mapping

import numpy as np

from makespan.envs.jobshop.project.simulation import TaskDecision
from makespan.envs.jobshop.projects import ProjectSchedule, ProjectWay, generate_project
from makespan.traces.errors import unknown_name
from makespan.traces.jobshop.project import Project

ProjectRule = Callable[[Project], np.ndarray]
"""float64 (tasks,): the priorities, lowest first."""


def lft(project: Project) -> np.ndarray:
    """Earliest latest finish time."""
    return (project.latest() + project.duration).astype(np.float64)


def lst(project: Project) -> np.ndarray:
    """Earliest latest start time."""
    return project.latest().astype(np.float64)


def mts(project: Project) -> np.ndarray:
    """Most total successors, direct or not."""
    after = np.zeros((project.tasks, project.tasks), np.bool_)
    for task in reversed(project.order()):
        for other in project.successors(task).tolist():
            after[task] |= after[other]
            after[task, other] = True
    return -after.sum(axis=1).astype(np.float64)


def slk(project: Project) -> np.ndarray:
    """Least slack: latest less earliest start time."""
    return (project.latest() - project.earliest()).astype(np.float64)


def grpw(project: Project) -> np.ndarray:
    """Greatest rank positional weight: durations of the task and of its direct successors."""
    after = [project.duration[project.successors(task)].sum() for task in range(project.tasks)]
    return -(project.duration + np.array(after)).astype(np.float64)


def spt(project: Project) -> np.ndarray:
    """Shortest processing time."""
    return project.duration.astype(np.float64)


RULES: Mapping[str, ProjectRule] = {
    "lft": lft,
    "lst": lst,
    "mts": mts,
    "slk": slk,
    "grpw": grpw,
    "spt": spt,
}


def dispatch_project(project: Project, rule: str, way: ProjectWay) -> ProjectSchedule:
    """The schedule that a rule makes.

    Raises:
        ValueError: there is no such rule or way.
    """
    if rule not in RULES:
        raise unknown_name("project rule", rule, RULES)
    return generate_project(project, RULES[rule](project), way)


class RulePolicy:
    """A rule as a policy of `ProjectRun`: it never waits where something can begin.

    The schedule is that of `dispatch_project` in parallel.

    Raises:
        ValueError: there is no such rule.
    """

    def __init__(self, rule: str) -> None:
        if rule not in RULES:
            raise unknown_name("project rule", rule, RULES)
        self._rule = RULES[rule]
        self._project: Project | None = None

    def __call__(self, decision: TaskDecision) -> int:
        if decision.project is not self._project:
            self._project, self._priority = decision.project, self._rule(decision.project)
        return decision.lowest(self._priority)
