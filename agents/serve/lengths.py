"""How long answers will be, learned from those that came."""

import math
from array import array
from collections import OrderedDict
from collections.abc import Hashable

RECENT_ANSWERS = 256
"""Answers that a mean is taken over."""

ENOUGH_ANSWERS = 8
"""Fewer say too little; a wider class is asked."""

KEYS = 256
"""Kinds of traffic that are told apart; more push out the one that got no answer for longest."""

BANDS = 24
"""Bands of prompt length: from each power of two to the next; the last has all that are longer."""

LONGEST = 2**31 - 1


class RecentMean:
    """The mean of the last `RECENT_ANSWERS` numbers, in 2 KiB at most."""

    __slots__ = ("_next", "_total", "_values")

    def __init__(self) -> None:
        self._values = array("q")
        self._next = 0  # the oldest, once there are RECENT_ANSWERS
        self._total = 0

    def add(self, value: int) -> None:
        self._total += value
        if len(self._values) < RECENT_ANSWERS:
            self._values.append(value)
            return
        self._total -= self._values[self._next]
        self._values[self._next] = value
        self._next = (self._next + 1) % RECENT_ANSWERS

    def mean(self) -> float | None:
        """None while there are fewer than `ENOUGH_ANSWERS`."""
        known = len(self._values)
        return self._total / known if known >= ENOUGH_ANSWERS else None


class Kind:
    """Answers of one kind of traffic: all of them, and by band of prompt length."""

    __slots__ = ("bands", "overall")

    def __init__(self) -> None:
        self.overall = RecentMean()
        self.bands: dict[int, RecentMean] = {}


def band_of(prompt_tokens: int) -> int:
    """The power of two that the prompt's length reaches, `BANDS` at most."""
    return min(max(prompt_tokens, 1).bit_length(), BANDS)


class OutputLengths:
    """An online predictor of output tokens, whose memory is bounded whatever clients send.

    It says the mean of the last 256 answers of the same key and the same power-of-two band of
    prompt lengths if it has seen 8 of them, else of the same key, else of all. The mean, and not a
    quantile, because what is added up from it is the work that a backend has before it.
    """

    def __init__(self) -> None:
        self._all = RecentMean()
        self._kinds: OrderedDict[Hashable, Kind] = OrderedDict()

    def predict(self, key: Hashable, prompt_tokens: int, max_tokens: int | None) -> float:
        """Expected output tokens, at least 1 and at most `max_tokens`; nan until enough is known.

        Args:
            key: tells kinds of traffic apart: endpoint, model and service class, say.
            prompt_tokens: length of the prompt.
            max_tokens: what the request allows; None for no limit.
        """
        expected = self._mean(key, prompt_tokens)
        if expected is None:
            return math.nan
        # A float throughout: compiled policies take no int in its place.
        return float(max(expected if max_tokens is None else min(expected, max_tokens), 1.0))

    def learn(self, key: Hashable, prompt_tokens: int, output_tokens: int) -> None:
        """Takes in one complete answer."""
        output_tokens = min(max(output_tokens, 0), LONGEST)
        kind = self._kind(key)
        band = kind.bands.setdefault(band_of(prompt_tokens), RecentMean())
        for mean in (band, kind.overall, self._all):
            mean.add(output_tokens)

    def _mean(self, key: Hashable, prompt_tokens: int) -> float | None:
        means = [self._all]
        if (kind := self._kinds.get(key)) is not None:
            means = [kind.bands.get(band_of(prompt_tokens)), kind.overall, self._all]
        known = (mean.mean() for mean in means if mean is not None)
        return next((mean for mean in known if mean is not None), None)

    def _kind(self, key: Hashable) -> Kind:
        """What is known of the key, which is now the last to be forgotten."""
        kind = self._kinds.setdefault(key, Kind())
        self._kinds.move_to_end(key)
        if len(self._kinds) > KEYS:
            self._kinds.popitem(last=False)
        return kind
