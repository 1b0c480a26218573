"""The Gantt chart as a static picture."""

from itertools import pairwise

import numpy as np
import pytest

from makespan.baselines.jobshop import dispatch
from makespan.envs.core.contract import simulate
from makespan.envs.jobshop.blocking import render as blocking_render
from makespan.envs.jobshop.blocking.simulation import BlockingShop
from makespan.envs.jobshop.dynamic import render as dynamic_render
from makespan.envs.jobshop.dynamic.simulation import DynamicJobShop
from makespan.envs.jobshop.render import gantt, job_colours, picture
from makespan.traces.jobshop import JobShop, benchmark


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


MANY = JobShop.of([[(job, 9)] for job in range(21)])
"""More jobs than matplotlib's palettes have colours, each with a machine of its own."""


def drawn(shown: np.ndarray) -> set[tuple[float, ...]]:
    """Its colours."""
    return set(map(tuple, np.unique(shown.reshape(-1, 3), axis=0).tolist()))


def test_pictures_of_other_shops_give_every_job_its_own_colour():
    wanted = set(map(tuple, (job_colours(MANY.jobs) * 255).round().tolist()))
    blocking = simulate(BlockingShop(MANY), lambda decision: int(decision.candidate.argmax()))
    assert wanted <= drawn(blocking_render.picture(blocking, None))
    done = simulate(DynamicJobShop(MANY), lambda _: 0)
    assert wanted <= drawn(dynamic_render.picture(done, None))


def test_what_is_under_way_has_the_colour_of_its_job():
    run = DynamicJobShop(JobShop.of([[(0, 1)], [(1, 9), (0, 1)], [(0, 9)], [(0, 9)]]))
    decision = run.next_decision()
    while decision is not None and decision.time < 1:
        run.decide(0)
        decision = run.next_decision()
    assert [run.shop.job[run.operation(option)] for _, option, _ in run.under_way()] == [1]
    under_way = tuple((job_colours(4)[1] * 255).round().tolist())
    assert under_way in drawn(dynamic_render.picture(run, decision))
