"""The simulator's index of what a replica has cached, by itself: for replicas that are real.

The kernels are those of `makespan.envs.llm.prefix_index`, on a `State` that holds one replica and
one request and of everything else nothing. Which prompt the request has is said at each call: its
hashes are not copied, the state's directory is made to point to them.
"""

# pyright: reportCallIssue=false, reportPrivateImportUsage=false
# It does not know that numba hands an intrinsic its first argument, nor that numba offers `carray`.

from collections.abc import Callable, Sequence

import numba
import numpy as np

from makespan.envs.core.compiled import JIT, kernel, pointer
from makespan.envs.llm.hash_map import capacity_for
from makespan.envs.llm.kv_cache import TOKENS_PER_HASH
from makespan.envs.llm.prefix_index import matched_tokens, remember_prompt, reset_index
from makespan.envs.llm.state import ARRAYS, State, attach, directory

HASHES = list(ARRAYS).index("hashes")
"""Place of the hashes in a directory, whose entries are an address and a length."""


@kernel
def _showing(address, hashes, count):
    """The state at `address`, its request now a prompt of the `count` hashes at `hashes`."""
    entry = numba.carray(pointer(address + 16 * HASHES), 2, np.int64)
    entry[0] = hashes
    entry[1] = count
    s = attach(address)
    s.requests[0].hash_count = count
    s.requests[0].prompt = count * TOKENS_PER_HASH
    return s


@kernel
def _matched_tokens(address, hashes, count):
    return matched_tokens(_showing(address, hashes, count), 0, 0)


@kernel
def _remember_prompt(address, hashes, count):
    return remember_prompt(_showing(address, hashes, count), 0, 0)


@kernel
def _reset_index(address):
    reset_index(attach(address), 0)


@kernel
def _match_each(addresses, n, hashes, count, matches):
    states = numba.carray(pointer(addresses), n, np.int64)
    found = numba.carray(pointer(matches), n, np.int64)
    for i in range(n):
        found[i] = _matched_tokens(states[i], hashes, count)


def _empty(size: int, dtype: np.dtype) -> np.ndarray:
    array = np.zeros(size, dtype)
    return array.view(np.recarray) if dtype.names else array


def _new_state(blocks: int) -> State:
    """One replica whose index has room for `blocks`, and one request."""
    nodes = blocks + 1  # and the sentinel of the list of use
    sizes = {"requests": 1, "replicas": 1, "index": capacity_for(nodes), "nodes": nodes}
    state = State(*(_empty(sizes.get(name, 0), dtype) for name, dtype in ARRAYS.items()))
    state.replicas.index_capacity = sizes["index"]
    state.replicas.index_nodes = nodes
    return state


class PrefixIndex:
    """The hashes of the prompts that one replica was sent, least recently used first out.

    Hashes are int64 arrays as in `RequestView.prefix_hashes`: non-negative, one per 16 tokens. An
    index of 31,250 blocks takes 1.0 MB.

    Args:
        blocks: hashes that it remembers.

    Attributes:
        address: of the directory of its state, for compiled code.

    Raises:
        ValueError: `blocks` is not positive.
    """

    def __init__(self, blocks: int) -> None:
        if blocks < 1:
            raise ValueError(f"a prefix index needs at least one block, not {blocks}")
        self._state = _new_state(blocks)
        self._directory = directory(self._state)
        self.address: int = self._directory.ctypes.data
        self.forget()

    def matched_tokens(self, hashes: np.ndarray) -> int:
        """Leading tokens of the prompt that the replica is expected to have."""
        return self._call(_matched_tokens, matched_tokens, hashes)

    def remember(self, hashes: np.ndarray) -> int:
        """Note that the replica is sent this prompt; the tokens that it was expected to have."""
        return self._call(_remember_prompt, remember_prompt, hashes)

    def forget(self) -> None:
        """Forget everything: the replica starts with an empty cache."""
        if JIT:
            _reset_index(self.address)
        else:
            reset_index(self._state, 0)

    def _call(self, entry: Callable, plain: Callable, hashes: np.ndarray) -> int:
        hashes = np.ascontiguousarray(hashes, np.int64)  # compiled code trusts what it is given
        if JIT:
            return entry(self.address, hashes.ctypes.data, hashes.size)
        request = self._state.requests[0]
        request.hash_count, request.prompt = hashes.size, hashes.size * TOKENS_PER_HASH
        return int(plain(self._state._replace(hashes=hashes), 0, 0))


class PrefixIndexes:
    """Several indexes that are asked at once, which takes one call whatever their number."""

    def __init__(self, indexes: Sequence[PrefixIndex]) -> None:
        self._indexes = list(indexes)  # also keeps what the addresses point to
        self._addresses = np.array([index.address for index in indexes], np.int64)

    def matched_tokens(self, hashes: np.ndarray) -> np.ndarray:
        """New int64 (N,): the answer of each index."""
        matches = np.zeros(len(self._indexes), np.int64)
        if JIT:
            hashes = np.ascontiguousarray(hashes, np.int64)
            self._match_each(hashes, matches)
        else:
            matches[:] = [index.matched_tokens(hashes) for index in self._indexes]
        return matches

    def _match_each(self, hashes: np.ndarray, matches: np.ndarray) -> None:
        _match_each(
            self._addresses.ctypes.data,
            matches.size,
            hashes.ctypes.data,
            hashes.size,
            matches.ctypes.data,
        )
