"""A scheduler in plain Python, written from vLLM's source with lists and dicts and no thought for
speed: what the compiled one is compared with, step by step."""

from collections import deque
from dataclasses import dataclass, field


@dataclass
class Sequence:
    index: int
    prompt: int
    output: int
    priority: float = 0.0
    arrival: float = 0.0
    hashes: tuple[int, ...] = ()
    generated: int = 0
    computed: int = 0
    cached: int = 0
    preemptions: int = 0
    blocks: list[int] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        return self.prompt + self.generated

    def hash(self, position: int, span: int) -> object:
        last = (position + 1) * span - 1
        return self.hashes[last] if last < len(self.hashes) else (self.index, position)


class Pool:
    """vLLM's block pool: a free list in order of reuse and a map from hash to blocks."""

    def __init__(self, blocks: int, size: int, caching: bool) -> None:
        self.size, self.caching = size, caching
        self.free = deque(range(1, blocks))
        self.references = [0] * blocks
        self.hash_of: dict[int, object] = {}
        self.cache: dict[object, dict[int, None]] = {}

    def take(self) -> int:
        block = self.free.popleft()
        if block in self.hash_of:
            key = self.hash_of.pop(block)
            del self.cache[key][block]
            if not self.cache[key]:
                del self.cache[key]
        self.references[block] = 1
        return block

    def enter(self, block: int, key: object) -> None:
        self.hash_of[block] = key
        self.cache.setdefault(key, {})[block] = None

    def hits(self, sequence: Sequence) -> list[int]:
        found: list[int] = []
        while self.caching and len(found) < (sequence.tokens - 1) // self.size:
            blocks = self.cache.get(sequence.hash(len(found), self.size // 16))
            if not blocks:
                break
            found.append(next(iter(blocks)))
        return found

    def adopt(self, blocks: list[int]) -> None:
        for block in blocks:
            if self.references[block] == 0:
                self.free.remove(block)
            self.references[block] += 1

    def release(self, blocks: list[int]) -> None:
        first, last = [], []
        for block in reversed(blocks):
            self.references[block] -= 1
            if self.references[block] == 0:
                (last if block in self.hash_of else first).append(block)
        self.free.extendleft(reversed(first))
        self.free.extend(last)


class ReferenceScheduler:
    def __init__(self, *, blocks, size, budget, seqs, length, caching, chunking, threshold, reserve,
                 watermark, priority):  # fmt: skip
        self.pool = Pool(blocks, size, caching)
        self.budget, self.seqs, self.length = budget, seqs, length
        self.chunking, self.threshold, self.reserve = chunking, threshold, reserve
        self.watermark, self.priority = int(watermark * blocks), priority
        self.running: list[Sequence] = []
        self.waiting: list[Sequence] = []

    def add(self, sequence: Sequence, front: bool = False) -> None:
        if front and not self.priority:
            self.waiting.insert(0, sequence)
        else:
            self.waiting.append(sequence)
        if self.priority:
            self.waiting.sort(key=lambda s: (s.priority, s.arrival, s.index))

    def grow(self, sequence: Sequence, tokens: int) -> bool:
        needed = -(-tokens // self.pool.size) - len(sequence.blocks)
        if needed > len(self.pool.free):
            return False
        sequence.blocks += [self.pool.take() for _ in range(needed)]
        self.cache_full(sequence, tokens)
        return True

    def cache_full(self, sequence: Sequence, tokens: int) -> None:
        while self.pool.caching and (sequence.cached + 1) * self.pool.size <= tokens:
            key = sequence.hash(sequence.cached, self.pool.size // 16)
            self.pool.enter(sequence.blocks[sequence.cached], key)
            sequence.cached += 1

    def preempt(self, sequence: Sequence) -> None:
        self.pool.release(sequence.blocks)
        sequence.blocks, sequence.computed, sequence.cached = [], 0, 0
        sequence.preemptions += 1
        self.add(sequence, front=True)

    def schedule(self) -> dict[int, int]:
        budget, scheduled, preempted = self.budget, {}, False
        threshold = self.threshold if len(self.running) + len(self.waiting) > 1 else 0
        cap = threshold or 10**9
        i = 0
        while i < len(self.running) and budget > 0:
            sequence = self.running[i]
            new = min(sequence.tokens - sequence.computed, cap, budget)
            new = min(new, self.length - sequence.computed - 1)
            if new <= 0:
                i += 1
                continue
            stuck = False
            while not self.grow(sequence, sequence.computed + new):
                preempted = True
                victim = self.running[-1]
                if self.priority:
                    victim = max(self.running, key=lambda s: (s.priority, s.arrival))
                at = self.running.index(victim)
                del self.running[at]
                i -= at < i
                budget += scheduled.pop(victim.index, 0)
                self.preempt(victim)
                if victim is sequence:
                    stuck = True
                    break
            if stuck:
                break
            scheduled[sequence.index] = new
            budget -= new
            i += 1
        while not preempted and budget > 0 and self.waiting and len(self.running) < self.seqs:
            new = self.admit(self.waiting[0], budget, cap)
            if new == 0:
                break
            sequence = self.waiting.pop(0)
            self.running.append(sequence)
            scheduled[sequence.index] = new
            budget -= new
        for sequence in self.running:
            sequence.computed += scheduled.get(sequence.index, 0)
        return scheduled

    def admit(self, sequence: Sequence, budget: int, cap: int) -> int:
        hits = self.pool.hits(sequence)
        computed = len(hits) * self.pool.size
        new = min(sequence.tokens - computed, cap)
        if not self.chunking and new > budget:
            return 0
        new = min(new, budget)
        tokens = min(sequence.tokens, self.length) if self.reserve else computed + new
        required = -(-tokens // self.pool.size) - len(hits)
        required += sum(self.pool.references[block] == 0 for block in hits)
        required += self.watermark if self.running else 0
        if required > len(self.pool.free):
            return 0
        self.pool.adopt(hits)
        sequence.blocks, sequence.cached, sequence.computed = list(hits), len(hits), computed
        assert self.grow(sequence, computed + new)
        return new

    def complete(self, scheduled: dict[int, int]) -> None:
        for sequence in list(self.running):
            if sequence.index in scheduled and sequence.computed == sequence.tokens:
                sequence.generated += 1
                if sequence.generated >= sequence.output or sequence.tokens >= self.length:
                    self.pool.release(sequence.blocks)
                    self.running.remove(sequence)
