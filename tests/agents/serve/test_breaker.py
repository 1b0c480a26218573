"""The circuit breaker of one backend."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from makespan.agents.serve.breaker import Breaker, Trial

OPEN_S = 60.0


def fail(breaker: Breaker, times: int, now: float) -> None:
    for _ in range(times):
        breaker.failed(breaker.begin(now), now)


def opened(successes: int = 3) -> Breaker:
    """A breaker that opens at 0."""
    breaker = Breaker(10, successes, OPEN_S)
    fail(breaker, 10, now=0.0)
    return breaker


def test_failures_in_a_row_open_it():
    breaker = Breaker()
    fail(breaker, 9, now=0.0)
    assert breaker.state(0.0) == "closed"
    assert breaker.allows(0.0)
    fail(breaker, 1, now=0.0)
    assert breaker.state(0.0) == "open"
    assert not breaker.allows(0.0)


def test_a_success_between_failures_starts_the_count_again():
    breaker = Breaker()
    fail(breaker, 9, now=0.0)
    breaker.succeeded(breaker.begin(0.0), 0.0)
    fail(breaker, 9, now=0.0)
    assert breaker.state(0.0) == "closed"


def test_what_ends_without_a_verdict_is_neither():
    breaker = Breaker()
    fail(breaker, 9, now=0.0)
    breaker.abandoned(breaker.begin(0.0), 0.0)
    assert breaker.state(0.0) == "closed"
    fail(breaker, 1, now=0.0)
    assert breaker.state(0.0) == "open"


def test_it_stays_open_for_its_time():
    breaker = opened()
    assert breaker.state(59.9) == "open"
    assert not breaker.allows(59.9)
    assert breaker.state(60.0) == "half-open"
    assert breaker.allows(60.0)


def test_asking_changes_nothing():
    breaker = opened()
    assert [breaker.allows(60.0) for _ in range(10)] == [True] * 10


def test_half_open_lets_a_few_through_at_once():
    breaker = opened()
    trials = [breaker.begin(60.0) for _ in range(3)]
    assert not breaker.allows(60.0)
    breaker.succeeded(trials[0], 61.0)
    assert breaker.allows(61.0)
    breaker.begin(61.0)
    assert not breaker.allows(61.0)


def test_successful_trials_close_it():
    breaker = opened()
    for _ in range(2):
        breaker.succeeded(breaker.begin(60.0), 60.0)
    assert breaker.state(60.0) == "half-open"
    breaker.succeeded(breaker.begin(60.0), 60.0)
    assert breaker.state(60.0) == "closed"
    fail(breaker, 9, now=61.0)
    assert breaker.state(61.0) == "closed", "the trials are no failures in a row"


def test_one_failed_trial_opens_it_again():
    breaker = opened()
    for _ in range(2):
        breaker.succeeded(breaker.begin(60.0), 60.0)
    fail(breaker, 1, now=65.0)
    assert breaker.state(124.9) == "open"
    assert breaker.state(125.0) == "half-open"
    for _ in range(2):
        breaker.succeeded(breaker.begin(125.0), 125.0)
    assert breaker.state(125.0) == "half-open", "successes of the last time do not count"


def test_an_abandoned_trial_makes_room_for_another():
    breaker = opened()
    for _ in range(20):
        assert breaker.allows(60.0)
        breaker.abandoned(breaker.begin(60.0), 60.0)


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "abandoned"])
def test_requests_from_before_it_opened_have_no_say(outcome: str):
    breaker = Breaker()
    before = [breaker.begin(0.0) for _ in range(20)]
    fail(breaker, 10, now=0.0)
    trials = [breaker.begin(60.0) for _ in range(3)]
    for trial in before:
        getattr(breaker, outcome)(trial, 60.0)
    assert breaker.state(60.0) == "half-open"
    assert not breaker.allows(60.0), "the trials are still in flight"
    for trial in trials:
        breaker.succeeded(trial, 61.0)
    assert breaker.state(61.0) == "closed"


def test_requests_that_it_did_not_allow_have_no_say():
    breaker = opened()
    forced = [breaker.begin(30.0) for _ in range(5)]
    trials = [breaker.begin(60.0) for _ in range(3)]
    forced += [breaker.begin(60.0) for _ in range(5)]
    for trial in forced:
        breaker.succeeded(trial, 61.0)
    assert breaker.state(61.0) == "half-open"
    assert not breaker.allows(61.0)
    breaker.abandoned(trials[0], 62.0)
    assert breaker.allows(62.0)


def test_a_request_is_settled_once():
    breaker = Breaker(failures=2)
    trial = breaker.begin(0.0)
    for _ in range(5):
        breaker.failed(trial, 0.0)
    assert breaker.state(0.0) == "closed"


def test_trials_in_flight_when_it_closes_are_ordinary_requests():
    breaker = Breaker(failures=1, successes=2, open_s=OPEN_S)
    fail(breaker, 1, now=0.0)
    first, second = breaker.begin(60.0), breaker.begin(60.0)
    breaker.succeeded(first, 61.0)
    breaker.succeeded(breaker.begin(61.0), 61.0)
    assert breaker.state(61.0) == "closed"
    breaker.failed(second, 62.0)
    assert breaker.state(62.0) == "open"


@pytest.mark.parametrize(
    "arguments", [(0, 3, 1.0), (10, 0, 1.0), (10, 3, -1.0), (10, 3, float("nan"))]
)
def test_senseless_settings_are_refused(arguments: tuple[int, int, float]):
    with pytest.raises(ValueError, match="must"):
        Breaker(*arguments)


class Backend(RuleBasedStateMachine):
    """Requests come, end and are settled twice, in every order; the clock runs on."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(failures=3, successes=2, open_s=10.0)
        self.now = 0.0
        self.sent: list[Trial] = []
        self.settled: list[Trial] = []
        self.trials: set[Trial] = set()  # that began half-open and are not settled

    @rule(seconds=st.floats(0.0, 12.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def send(self) -> None:
        allowed = self.breaker.allows(self.now)
        state = self.breaker.state(self.now)
        trial = self.breaker.begin(self.now)
        self.sent.append(trial)
        if allowed and state == "half-open":
            self.trials.add(trial)

    @precondition(lambda self: self.sent)
    @rule(place=st.integers(0), outcome=st.sampled_from(["succeeded", "failed", "abandoned"]))
    def settle(self, place: int, outcome: str) -> None:
        trial = self.sent.pop(place % len(self.sent))
        self.settled.append(trial)
        self.trials.discard(trial)
        getattr(self.breaker, outcome)(trial, self.now)
        if self.breaker.state(self.now) != "half-open":
            self.trials.clear()

    @precondition(lambda self: self.settled)
    @rule(place=st.integers(0), outcome=st.sampled_from(["succeeded", "failed", "abandoned"]))
    def settle_again(self, place: int, outcome: str) -> None:
        before = self.breaker.state(self.now), self.breaker.allows(self.now)
        getattr(self.breaker, outcome)(self.settled[place % len(self.settled)], self.now)
        assert (self.breaker.state(self.now), self.breaker.allows(self.now)) == before

    @invariant()
    def trials_are_few_and_none_leaks(self) -> None:
        assert len(self.trials) <= 2
        if self.breaker.state(self.now) == "half-open":
            assert self.breaker.allows(self.now) == (len(self.trials) < 2)

    @invariant()
    def only_open_lets_nothing_through(self) -> None:
        state = self.breaker.state(self.now)
        if state != "half-open":
            assert self.breaker.allows(self.now) == (state == "closed")

    def teardown(self) -> None:
        """From wherever it got to, a backend that answers gets its requests again."""
        for trial in self.sent:
            self.breaker.abandoned(trial, self.now)
        self.now += 10.0
        for _ in range(2):
            assert self.breaker.allows(self.now)
            self.breaker.succeeded(self.breaker.begin(self.now), self.now)
        assert self.breaker.state(self.now) == "closed"


TestBackend = Backend.TestCase
TestBackend.settings = settings(max_examples=100, deadline=None)
