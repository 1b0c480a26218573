"""Streams are cut into whole events."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan.agents.serve.events import LONGEST_EVENT, EventCutter


@pytest.mark.parametrize(
    ("chunks", "events"),
    [
        ([b"data: a\n\n"], [b"data: a\n\n"]),
        ([b"data: a\n\nda", b"ta: b\n\n"], [b"data: a\n\n", b"data: b\n\n"]),
        ([b"data: a\n\ndata: b\n\nd", b"x"], [b"data: a\n\ndata: b\n\n", b""]),
        ([b"data: a\n", b"\n"], [b"", b"data: a\n\n"]),
        ([b"data: a\r\n\r", b"\ndata"], [b"", b"data: a\r\n\r\n"]),
        ([b"data: a\r", b"\n", b"\r", b"\n"], [b"", b"", b"", b"data: a\r\n\r\n"]),
        ([b"data: a\ndata: b\n"], [b""]),
        ([b": ping\n\n"], [b": ping\n\n"]),
        ([b""], [b""]),
    ],
)
def test_what_is_whole_is_handed_out_at_once(chunks: list[bytes], events: list[bytes]):
    cutter = EventCutter()
    assert [cutter.feed(chunk) for chunk in chunks] == events
    assert b"".join(events) + cutter.rest() == b"".join(chunks)
    assert cutter.rest() == b""


@given(st.lists(st.text("a:\r\n", max_size=8).map(str.encode)))
def test_no_byte_is_lost_and_no_event_is_cut(chunks: list[bytes]):
    cutter = EventCutter()
    events = [cutter.feed(chunk) for chunk in chunks]
    rest = cutter.rest()
    assert b"".join(events) + rest == b"".join(chunks)
    assert all(event.endswith((b"\n\n", b"\n\r\n")) for event in events if event)
    assert b"\n\n" not in rest
    assert b"\n\r\n" not in rest


def test_an_event_without_end_is_passed_on_in_pieces():
    cutter, piece = EventCutter(), b"x" * 2**16
    handed = [cutter.feed(piece) for _ in range(40)]
    assert b"".join(handed) + cutter.rest() == piece * 40
    assert max(map(len, handed)) <= LONGEST_EVENT + len(piece)
    assert len([event for event in handed if event]) > 1
