"""Files of job shops: every format, and every way in which one can be wrong."""

import gzip
import json
from pathlib import Path

import pytest

from makespan.traces.errors import TraceError
from makespan.traces.jobshop import JobShop, read

SHOP = [[(0, 3), (1, 2), (2, 2)], [(0, 2), (2, 1), (1, 4)]]

STANDARD = "# a comment\n2 3\n0 3 1 2 2 2\n\n0 2 2 1 1 4\n"
REENTRANT = "2 3\n0 3 1 2 2 2 -1 -1\n0 2 2 1 1 4 -1 -1\n"
TAILLARD = (
    "Nb of jobs, Nb of Machines, Time seed, Machine seed, Upper bound, Lower bound\n"
    " 2 3 840612802 398197754 9 9\nTimes\n 3 2 2\n 2 1 4\nMachines\n 1 2 3\n 1 3 2\n"
)
FJSP = "2 3 1\n3 1 1 3 1 2 2 1 3 2\n3 1 1 2 1 3 1 1 2 4\n"
LISTED = {
    "machines": 3,
    "data": [
        {"job": j, "operation": k, "machine": machine, "duration": duration}
        for j, job in enumerate(SHOP)
        for k, (machine, duration) in enumerate(job)
    ],
}
MATRICES = {
    "machines_matrix": [[machine for machine, _ in job] for job in SHOP],
    "duration_matrix": [[duration for _, duration in job] for job in SHOP],
}

FILES = {
    "standard.txt": STANDARD,
    "reentrant.txt": REENTRANT,
    "taillard.txt": TAILLARD,
    "plain.fjs": FJSP,
    "fjsp.txt": FJSP,
    "listed.json": json.dumps(LISTED, indent=1),
    "matrices.json": json.dumps(MATRICES),
}


def same(one: JobShop, other: JobShop) -> bool:
    columns = ("first_operation", "first_option", "machine", "duration")
    return all((getattr(one, c) == getattr(other, c)).all() for c in columns)


def written(folder: Path, text: str, name: str = "shop.txt") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", FILES)
def test_every_format_is_read(name: str, tmp_path: Path):
    shop = read(written(tmp_path, FILES[name], name))
    assert same(shop, JobShop.of(SHOP))
    assert (shop.machines, shop.name) == (3, name.partition(".")[0])


def test_a_file_may_be_packed(tmp_path: Path):
    path = tmp_path / "tiny.txt.gz"
    path.write_bytes(gzip.compress(STANDARD.encode()))
    assert same(read(path), JobShop.of(SHOP))


def test_jobs_of_any_length_end_where_they_say(tmp_path: Path):
    shop = read(written(tmp_path, "2 2\n0 3 1 2 0 2 -1 -1\n1 2 -1 -1\n"))
    assert same(shop, JobShop.of([[(0, 3), (1, 2), (0, 2)], [(1, 2)]]))


@pytest.mark.parametrize("first", ["2 3 2", "2 3", "2 3 1.5"])
def test_choices_of_machines_are_read(first: str, tmp_path: Path):
    text = f"{first}\n2 2 1 3 2 5 1 3 2\n1 3 1 4 2 4 3 9\n"
    shop = read(written(tmp_path, text))
    expected = [[[(0, 3), (1, 5)], [(2, 2)]], [[(0, 4), (1, 4), (2, 9)]]]
    assert same(shop, JobShop.flexible(expected))


def test_options_in_json_are_entries_of_the_same_operation(tmp_path: Path):
    extra = {"job": 1, "operation": 2, "machine": 0, "duration": 7}
    listed = LISTED | {"data": [*LISTED["data"], extra]}
    shop = read(written(tmp_path, json.dumps(listed)))
    assert shop.is_flexible
    assert shop.machine.tolist()[-2:] == [1, 0]


def entry(job: int, operation: int, machine: int, duration: object) -> dict[str, object]:
    return {"job": job, "operation": operation, "machine": machine, "duration": duration}


def entries(*data: dict[str, object], **more: int) -> str:
    """JSON for two machines: `data` is on line 9, and entry k on lines 10 + 6 k to 15 + 6 k.

    All one further down if the number of jobs is said.
    """
    return json.dumps({"name": {"a": ["{", 1]}, "machines": 2} | more | {"data": data}, indent=1)


def test_a_number_of_jobs_in_json_may_be_right(tmp_path: Path):
    shop = read(written(tmp_path, entries(entry(0, 0, 0, 1), entry(1, 0, 1, 2), jobs=2)))
    assert same(shop, JobShop.of([[(0, 1)], [(1, 2)]]))


PROJECT = "4 2\n2 1\n0 0 0 2 2 3\n3 2 0 1 4\n4 1 1 1\n4 0 0 0 0\n"

BAD = {
    "empty": ("", "the file is empty"),
    "only comments": ("# nothing\n", "the file is empty"),
    "no sizes": ("2\n0 3 1 2\n", ":1: the first line must say the numbers"),
    "no jobs": ("0 3\n", ":1: the first line must say the numbers"),
    "words": ("two three\n0 3\n", ":1: 'two' is no whole number"),
    "a fraction": ("2 3\n0 3 1 2.5 2 2\n0 2 2 1 1 4\n", ":2: '2.5' is no whole number"),
    "too few jobs": ("3 3\n0 3 1 2 2 2\n0 2 2 1 1 4\n", ":3: only 2 of 3 jobs are there"),
    "nothing but sizes": ("# sizes\n2 3\n", ":2: only 0 of 2 jobs are there"),
    "an empty job": (
        "2 3\n0 3 1 2 2 2\n\n",
        ":3: the line is empty, and only 1 of 2 jobs are there; every job must visit a machine",
    ),
    "an empty first job": ("2 3 1\n  \n1 1 1 3\n", ":2: the line is empty, and only 1 of 2 jobs"),
    "too many jobs": ("1 3\n0 3 1 2 2 2\n0 2 2 1 1 4\n", ":3: there is more after the 1 jobs"),
    "a cut line": ("2 3\n0 3 1 2 2 2\n0 2 2 1\n", ":3: 4 numbers, where 3 machines"),
    "a machine too high": (
        "2 3\n0 3 1 2 3 2\n0 2 2 1 1 4\n",
        ":2: operation 2: there is no machine 3",
    ),
    "a negative machine": ("1 2\n0 3 -2 2\n", ":2: operation 1: there is no machine -2"),
    "a negative time": ("2 3\n0 3 1 -2 2 2\n0 2 2 1 1 4\n", ":2: operation 1: takes -2"),
    "a time too high": (
        "1 1\n0 9223372036854775807\n",
        ":2: operation 0: takes 9223372036854775807",
    ),
    "times too high": ("2 1\n0 9007199254740992\n0 1\n", ": all times add up to 9007199254740993"),
    "a project by its name": (PROJECT, ":1: this is a project (RCPSP) and no job shop"),
    "a project by its heading": (
        "jobs :  4\n****\nPRECEDENCE RELATIONS:\n",
        ":3: this is a project (RCPSP) and no job shop",
    ),
    "a job that visits nothing": ("2 3\n0 3 -1 -1\n-1 -1\n", ":3: this job visits no machine"),
    "half a pair": ("1 3\n0 3 1 -1 -1\n", ":2: the last machine has no duration"),
    "no options": ("2 3 1\n1 1 1 3\n1 0\n", ":3: operation 0 can be done nowhere"),
    "no operations": ("2 3 1\n1 1 1 3\n0\n", ":3: this job visits no machine"),
    "a cut choice": ("2 3 1\n1 1 1 3\n2 1 1 3 2 1 4\n", ":3: the line ends before a machine of"),
    "too long a choice": ("1 3 1\n1 1 1 3 7\n", ":2: 7 comes after the last operation"),
    "machine 0 in FJSP": (
        "1 3 1\n1 1 0 3\n",
        ":2: operation 0: there is no machine 0, only 1 to 3",
    ),
    "no machines table": ("2 3 1 1 9 9\nTimes\n3 2 2\n2 1 4\n", ":4: there is no line `Machines`"),
    "no sizes before": ("Times\n3 2 2\nMachines\n1 2 3\n", ":1: no line before it says"),
    "a short table": (
        "2 3 1 1 9 9\nTimes\n3 2 2\n2 1\nMachines\n1 2 3\n1 3 2\n",
        ":4: 2 numbers for 3 machines",
    ),
    "a row too few": (
        "2 3 1 1 9 9\nTimes\n3 2 2\nMachines\n1 2 3\n1 3 2\n",
        ":4: only 1 of 2 jobs below `Times` are there",
    ),
    "a row of machines too few": (
        "2 3 1 1 9 9\nTimes\n3 2 2\n2 1 4\nMachines\n1 2 3\n",
        ":6: only 1 of 2 jobs below `Machines` are there",
    ),
    "an empty row": (
        "2 3 1 1 9 9\nTimes\n\n3 2 2\nMachines\n1 2 3\n1 3 2\n",
        ":3: the line is empty, and only 1 of 2 jobs below `Times`",
    ),
    "a time too high in a table": (
        "1 1 1 1 9 9\nTimes\n9223372036854775807\nMachines\n1\n",
        ":3: operation 0: takes 9223372036854775807",
    ),
    "a negative time in a table": (
        "1 2 1 1 9 9\nTimes\n3 -2\nMachines\n1 2\n",
        ":3: operation 1: takes -2",
    ),
    "a machine too high in a table": (
        "1 2 1 1 9 9\nTimes\n3 2\nMachines\n1 3\n",
        ":5: operation 1: there is no machine 3, only 1 to 2",
    ),
    "no JSON": ('{"machines": 3,\n "data": [}', ":2: no JSON"),
    "another JSON": ('{"jobs": 3}', ":1: a JSON object with `data`"),
    "a list": ("\n[1]", ":2: a JSON object with `data`"),
    "no list": ('{"machines": 2,\n "data": 5}', ":2: column data: a list is needed"),
    "null": ('{"machines": 2,\n "data": null}', ":2: column data: a list is needed"),
    "no jobs in JSON": ('{"machines": 2,\n "data": []}', ":2: column data: a list is needed"),
    "no machines in JSON": ('{"data": [7]}', ":1: column machines: a whole number is needed"),
    "0 machines in JSON": (
        '{"data": [7],\n"machines":\n 0}',
        ":3: column machines: must be from 1 to 9007199254740992, not 0",
    ),
    "no object in it": ('{"machines": 1, "data":\n[7]}', ":2: column data[0]: not an object"),
    "no duration": (
        entries({"job": 0, "operation": 0, "machine": 0}),
        ":10: column data[0].duration: a whole number is needed",
    ),
    "a fraction in JSON": (
        entries(entry(0, 0, 0, 1), entry(0, 1, 0, 1.5)),
        ":20: column data[1].duration: 1.5 is no whole number",
    ),
    "true in JSON": (
        entries(entry(0, 0, 0, True)),
        ":14: column data[0].duration: True is no whole",
    ),
    "a negative time in JSON": (
        entries(entry(0, 0, 0, -1)),
        ":14: column data[0].duration: must be from 0 to 9007199254740992, not -1",
    ),
    "a time too high in JSON": (
        entries(entry(0, 0, 0, 2**63 - 1)),
        ":14: column data[0].duration: must be from 0 to 9007199254740992, not 9223372036854775807",
    ),
    "a machine that is not there": (
        entries(entry(0, 0, 0, 1), entry(0, 1, 2, 1)),
        ":19: column data[1].machine: must be from 0 to 1, not 2",
    ),
    "an operation left out": (
        entries(entry(0, 1, 0, 1)),
        ":9: column data: job 0 has no operation 0, but a later one",
    ),
    "a job left out": (
        entries(entry(0, 0, 0, 1), entry(2, 0, 0, 1)),
        ":9: column data: job 1 visits no machine",
    ),
    "fewer jobs than said": (
        entries(entry(0, 0, 0, 1), jobs=3),
        ":10: column data: job 1 visits no machine",
    ),
    "more jobs than said": (
        entries(entry(0, 0, 0, 1), entry(1, 0, 0, 1), jobs=1),
        ":18: column data[1].job: must be from 0 to 0, not 1",
    ),
    "no list of lists": (
        '{"duration_matrix": [[1]],\n "machines_matrix": [\n1]}',
        ":3: column machines_matrix[0]: a list is needed",
    ),
    "a missing matrix": ('{"duration_matrix": [[1]]}', ":1: column machines_matrix: a list"),
    "matrices of two sizes": (
        '{"duration_matrix": [[1], [1]],\n "machines_matrix": [[0]]}',
        ":1: column duration_matrix: 2 jobs, of which 1 are in machines_matrix",
    ),
    "rows of two sizes": (
        '{"duration_matrix": [[1],\n [1, 2]], "machines_matrix": [[0], [0]]}',
        ":2: column duration_matrix[1]: 2 durations for 1 machines",
    ),
    "a job that visits nothing in a matrix": (
        '{"duration_matrix": [[1], []], "machines_matrix": [[0], []]}',
        ":1: column machines_matrix[1]: a list is needed that is not empty",
    ),
    "a word in a matrix": (
        '{"duration_matrix": [["x"]], "machines_matrix": [[0]]}',
        ":1: column duration_matrix[0][0]: 'x' is no whole number",
    ),
    "a negative machine in a matrix": (
        '{"duration_matrix": [[1]], "machines_matrix": [\n\n[-1]]}',
        ":3: column machines_matrix[0][0]: must be from 0 to",
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_file_is_one_error_with_its_place(bad: str, tmp_path: Path):
    text, said = BAD[bad]
    path = written(tmp_path, text, "shop.rcp" if text == PROJECT else "shop.txt")
    with pytest.raises(TraceError) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
