"""Bring the engines up to the moment at which somebody looks.

Between two moments at which something can reach an engine or be seen of it (an arrival, a scrape,
an outage) engines do not depend on each other, so no event is needed for what they do: each is run
from step to step when the clock gets to the next such moment. What ends exactly then is still
under way, so that requests that arrive at the end of a step can join the next one.
"""

import numpy as np

from makespan.envs.core.compiled import kernel
from makespan.envs.llm.engine import advance
from makespan.envs.llm.gauges import scrape


@kernel
def run_engines(s, until):
    """Run every engine through what ends before `until`; when the last of that ended, or -inf."""
    last = -np.inf
    for r in range(s.end_s.size):
        while s.end_s[r] < until:
            last = max(last, s.end_s[r])
            advance(s, r)
    return last


@kernel
def idle(s):
    """Whether no engine has anything to do."""
    return s.end_s.min() == np.inf


@kernel
def next_scrape_s(s):
    """When the next scrape is due."""
    return s.fleet[0].scrapes * s.fleet[0].period_s


@kernel
def skip_scrapes(s, until):
    """Leave out scrapes of an idle fleet that nobody will see, since later ones come in time."""
    fleet = s.fleet[0]
    if fleet.miss_probability == 0.0 and fleet.stuck_probability == 0.0:
        fleet.scrapes = max(fleet.scrapes, int(until / fleet.period_s) - fleet.depth)


@kernel
def catch_up(s, until):
    """Bring engines and scrapes up to `until`."""
    while next_scrape_s(s) <= until:
        due = next_scrape_s(s)
        run_engines(s, due)
        scrape(s, due)
        if idle(s):
            skip_scrapes(s, until)
    run_engines(s, until)


@kernel
def drain(s):
    """Run until every engine is empty; when the last one was, or -inf if all of them are."""
    last = -np.inf
    while not idle(s):
        due = next_scrape_s(s)
        last = max(last, run_engines(s, due))
        if not idle(s):
            scrape(s, due)
    return last


@kernel
def next_finish(s, limit):
    """Run until a request finishes; when that was, or inf if none does before `limit`."""
    while True:
        r = s.end_s.argmin()
        at = s.end_s[r]
        if at >= limit:
            return np.inf
        while next_scrape_s(s) <= at:
            scrape(s, next_scrape_s(s))
        before = s.fleet[0].finished
        advance(s, r)
        if s.fleet[0].finished > before:
            return at
