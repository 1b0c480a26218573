"""Cutting a stream of server-sent events into whole events."""

LONGEST_EVENT = 2**20
"""Bytes of an event that are waited for; what is longer is passed on in pieces."""


class EventCutter:
    """Hands out a stream in whole events, byte for byte.

    So a backend that dies in the middle of an event leaves no half of it to the client, who would
    stumble over it before the error that says what happened. Events end with an empty line, by LF
    or CR LF. The CR alone that the standard allows too is written by no server that is known; such
    a stream would be passed on at its end.
    """

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> bytes:
        """The next bytes of the stream; what can be passed on, with what was kept before it."""
        if not self._rest and chunk.endswith(b"\n\n"):
            return chunk
        seen = max(0, len(self._rest) - 3)  # an end may lie across two chunks
        self._rest += chunk
        found = (self._rest.rfind(b"\n\n", seen), 2), (self._rest.rfind(b"\n\r\n", seen), 3)
        end = max((at + length for at, length in found if at >= 0), default=0)
        if not end and len(self._rest) > LONGEST_EVENT:
            end = len(self._rest)
        whole = bytes(self._rest[:end])
        del self._rest[:end]
        return whole

    def rest(self) -> bytes:
        """What came after the last whole event, at the end of the stream."""
        rest = bytes(self._rest)
        self._rest.clear()
        return rest
