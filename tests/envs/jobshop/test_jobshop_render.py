"""The Gantt chart as a static picture."""

from itertools import pairwise

import numpy as np
import pytest

from makespan.baselines.jobshop import dispatch
from makespan.envs.jobshop.render import gantt, job_colours, picture
from makespan.traces.jobshop import benchmark


@pytest.mark.parametrize(("name", "labelled"), [("ta01", True), ("ta71", False)])
def test_every_operation_is_a_box_from_its_start_to_its_end_on_its_machine(name, labelled):
    schedule = dispatch(benchmark(name), "tail_p")
    (axes,) = gantt(schedule).axes
    (boxes,) = axes.collections
    corners = np.array([np.asarray(path.vertices)[:4] for path in boxes.get_paths()])
    np.testing.assert_array_equal(corners[:, :, 0].min(axis=1), schedule.start)
    np.testing.assert_array_equal(corners[:, :, 0].max(axis=1), schedule.end)
    np.testing.assert_allclose(corners[:, :, 1].mean(axis=1), schedule.machine)
    assert (len(axes.texts) > 100) == labelled
    assert f"makespan {schedule.makespan:,}" in axes.get_title()


def test_operations_with_room_carry_the_number_of_their_job():
    schedule = dispatch(benchmark("ft06"), "tail_p")
    (axes,) = gantt(schedule).axes
    shown = {(t.get_position()[0], t.get_position()[1]): t.get_text() for t in axes.texts}
    middle = (schedule.start + schedule.end) / 2
    known = zip(middle.tolist(), schedule.machine.tolist(), schedule.shop.job, strict=True)
    assert shown.items() <= {(x, y): str(job) for x, y, job in known}.items()
    assert len(shown) == (schedule.shop.duration > 1).sum()


def test_what_has_not_begun_is_not_drawn():
    schedule = dispatch(benchmark("ft06"), "tail_p")
    begun = schedule.start < 20
    (axes,) = gantt(schedule, begun).axes
    assert len(axes.collections[0].get_paths()) == begun.sum() < 36
    assert f"{begun.sum()} of 36 operations" in axes.get_title()
    none = picture(schedule, np.zeros(36, bool))
    assert none.shape == picture(schedule).shape


def test_a_picture_is_rgb_and_taller_for_more_machines():
    one, other = (picture(dispatch(benchmark(name), "spt")) for name in ("ft06", "ft10"))
    assert one.dtype == np.uint8
    assert one.shape[1:] == other.shape[1:] == (1000, 3)
    assert one.shape[0] < other.shape[0]
    assert len(np.unique(one.reshape(-1, 3), axis=0)) > 6


def test_no_two_of_many_jobs_have_the_same_colour():
    colours = job_colours(100)
    assert ((colours >= 0) & (colours <= 1)).all()
    assert len(np.unique(colours.round(2), axis=0)) == 100
    assert all(np.abs(one - other).max() > 0.2 for one, other in pairwise(colours))
