"""What guided Double DQNs are trained on, by name."""

from collections.abc import Callable

from numpy.random import SeedSequence

from makespan.agents.llm import episodes
from makespan.agents.llm.episodes import Episode, EpisodeDistribution
from makespan.agents.llm.guided import jain
from makespan.envs.core.registry import unknown_name

Draw = Callable[[SeedSequence], Episode]
"""Makes an episode; the same seed gives the same one."""


def draw(name: str) -> Draw:
    """What the setting of that name draws episodes with.

    Raises:
        ValueError: there is none.
    """
    if name not in SETTINGS:
        raise unknown_name("setting", name, SETTINGS)
    return SETTINGS[name]()


def _jain() -> Draw:
    """The paper's fleet and requests."""
    fleet = jain.fleet()
    return lambda seed: jain.draw(seed, fleet)


def _episodes() -> Draw:
    """Fleets of four out of what graph agents are trained on."""
    distribution = EpisodeDistribution(replicas=(4, 4))
    return lambda seed: episodes.draw(distribution, seed)


SETTINGS: dict[str, Callable[[], Draw]] = {"jain": _jain, "episodes": _episodes}
"""Name -> what makes its `Draw`."""
