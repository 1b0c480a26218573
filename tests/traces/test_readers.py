"""Each format, written by hand and read back, and what happens to bad files."""

import gzip
import io
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan.traces import Request, TraceError, TraceWarning, Workload, read, write
from makespan.traces.readers import READERS, recognise
from makespan.traces.readers.table import CHUNK_ROWS

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
STAMP = "2023-11-16 18:15:46.6805900"


def put(folder: Path, text: str | bytes, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def jsonl(*rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def mooncake(**changes) -> dict:
    return {"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [3, 9]} | changes


def bailian(**changes) -> dict:
    row = {"chat_id": 1, "parent_chat_id": -1, "timestamp": 0.5, "input_length": 40}
    return row | {"output_length": 8, "type": "text", "turn": 1, "hash_ids": [5, 6, 7]} | changes


def test_azure_2023(tmp_path):
    path = put(tmp_path, f"{AZURE}{STAMP},374,44\r\n2023-11-16 18:15:50.9951690,396,109")
    workload = read(path)
    np.testing.assert_allclose(workload.arrival_s, [0, 4.314579], atol=1e-12)
    assert workload.prompt_tokens.tolist() == [374, 396]
    assert workload.output_tokens.tolist() == [44, 109]
    assert workload.name == "trace"


def test_azure_2024_has_time_zones_and_mixed_fractions(tmp_path):
    rows = "2024-05-10 00:00:00+00:00,1,5\n2024-05-10 00:00:01.250000+00:00,2,6\n"
    assert read(put(tmp_path, AZURE + rows)).arrival_s.tolist() == [0, 1.25]


def test_requests_that_failed_are_left_out_and_counted(tmp_path):
    path = put(tmp_path, f"{AZURE}{STAMP},3,0\n{STAMP},4,5\n{STAMP},0,5\n")
    with pytest.warns(TraceWarning, match=r"left out 2 of 3 requests"):
        workload = read(path)
    assert workload.prompt_tokens.tolist() == [4]


def test_only_failed_requests_is_an_error(tmp_path):
    with pytest.raises(TraceError, match="no request with both a prompt and an answer"):
        read(put(tmp_path, f"{AZURE}{STAMP},3,0\n"))


def test_mooncake_blocks_expand_as_far_as_full_blocks_reach(tmp_path):
    # 600 tokens: 512 + 88; the second block holds 5 full blocks of 16.
    later = mooncake(timestamp=1500, input_length=512, hash_ids=[3])
    workload = read(put(tmp_path, jsonl(mooncake(), later), "t.jsonl"))
    assert workload.arrival_s.tolist() == [0, 1.5]
    first = [3 * 32 + k for k in range(32)]
    assert workload.prefix_hashes(0).tolist() == first + [9 * 32 + k for k in range(5)]
    assert workload.prefix_hashes(1).tolist() == first


def test_dropped_requests_take_their_hashes_with_them(tmp_path):
    rows = jsonl(mooncake(output_length=0), mooncake(hash_ids=[4], input_length=20))
    with pytest.warns(TraceWarning, match="1 of 2"):
        workload = read(put(tmp_path, rows, "t.jsonl"))
    assert workload.prefix_hashes(0).tolist() == [128]


def test_bailian_chains_blocks_and_finds_the_root_of_a_conversation(tmp_path):
    rows = [
        bailian(chat_id=1),
        bailian(chat_id=2, parent_chat_id=1, input_length=64, hash_ids=[5, 6, 8, 9]),
        bailian(chat_id=3, parent_chat_id=2, hash_ids=[6, 6, 7], type="search"),
        bailian(chat_id=4, parent_chat_id=77),
    ]
    workload = read(put(tmp_path, jsonl(*rows), "t.jsonl"))
    assert workload.session.tolist() == [1, 1, 1, 77]
    assert workload[2].slo_class == "search"
    a, b, c, d = (workload.prefix_hashes(i).tolist() for i in range(4))
    assert a == d
    assert len(a) == 40 // 16
    assert b[:2] == a
    # Block 6 is in both, but behind another block: another prefix.
    assert not set(c) & set(b)


def test_burstgpt(tmp_path):
    header = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,"
    rows = """5,s9,1.5,ChatGPT,472,18,490,Conversation log
45,,2.5,GPT-4,10,20,30,API log
46,s3,2.5,GPT-4,10,0,10,Conversation log
47,s9,2.5,GPT-4,11,21,32,Conversation log
"""
    with pytest.warns(TraceWarning, match="1 of 4"):
        workload = read(put(tmp_path, f"{header}Log Type\n{rows}"))
    assert workload.arrival_s.tolist() == [0, 40, 42]
    assert workload.session.tolist() == [0, -1, 0]
    assert [r.model for r in workload] == ["ChatGPT", "GPT-4", "GPT-4"]
    assert workload[1].slo_class == "API log"


def test_burstgpt_of_the_first_release_has_no_sessions(tmp_path):
    header = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    assert read(put(tmp_path, f"{header}5,GPT-4,1,2,3,API log\n")).session.tolist() == [-1]


def test_vidur_with_arrival_times(tmp_path):
    header = "arrived_at,num_prefill_tokens,num_decode_tokens\n"
    workload = read(put(tmp_path, f"{header}1.5,3,4\n2.0,5,6\n"))
    assert workload.arrival_s.tolist() == [0, 0.5]


def test_length_tables_get_poisson_arrivals_at_the_rate_asked_for(tmp_path):
    header = "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n"
    path = put(tmp_path, header + "10,2,12,5\n" * 4000)
    assert recognise(path) == "vidur-lengths"
    workload = read(path, rate=8.0, seed=1)
    gaps = np.diff(workload.arrival_s)
    assert workload.rate == pytest.approx(8, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(1, abs=0.06)
    assert (read(path, rate=8.0, seed=1).arrival_s == workload.arrival_s).all()
    assert (read(path, rate=8.0, seed=2).arrival_s != workload.arrival_s).any()


def test_conversations_resend_their_history(tmp_path):
    header = "conversation,turn,user_tokens,assistant_tokens\n"
    workload = read(put(tmp_path, f"{header}7,0,20,30\n7,1,14,10\n9,0,100,5\n"))
    rows = {(s, p, o): h for s, p, o, h in zip(*columns(workload), strict=True)}
    assert set(rows) == {(0, 20, 30), (0, 64, 10), (1, 100, 5)}
    # 50 tokens of the first turn are 3 full blocks, which the second turn's 4 begin with.
    assert rows[0, 64, 10][:3] == rows[0, 20, 30]
    assert not set(rows[1, 100, 5]) & set(rows[0, 64, 10])


def columns(workload):
    hashes = [workload.prefix_hashes(i).tolist() for i in range(len(workload))]
    tokens = workload.prompt_tokens.tolist(), workload.output_tokens.tolist()
    return workload.session.tolist(), *tokens, hashes


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("1,0,5,5\n1,0,5,5\n", r":3: column turn: expected a turn after 0, found 0"),
        ("1,0,5,5\n2,0,5,5\n1,1,5,5\n", r":4: column conversation: conversation 1 comes back"),
    ],
)
def test_disordered_conversations(tmp_path, rows, message):
    path = put(tmp_path, "conversation,turn,user_tokens,assistant_tokens\n" + rows)
    with pytest.raises(TraceError, match=message):
        read(path)


requests = st.builds(
    Request,
    arrival_s=st.floats(0, 1e6),
    prompt_tokens=st.integers(1, 10**6),
    output_tokens=st.integers(1, 10**5),
    prefix_hashes=st.lists(st.integers(0, 2**63 - 1), max_size=4).map(tuple),
    session=st.integers(-1, 2**40),
    priority=st.integers(-(2**40), 2**40),
    slo_class=st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=5),
    model=st.sampled_from(["", "a,b", 'say "x"']),
)


@given(st.lists(requests, min_size=1, max_size=8), st.sampled_from(["w.csv", "w.csv.gz"]))
def test_generic_round_trip(tmp_path_factory, found, name):
    found = sorted(found, key=lambda r: r.arrival_s)
    path = tmp_path_factory.mktemp("round") / name
    workload = Workload.from_requests(found)
    write(workload, path)
    back = read(path)
    shifted = workload.arrival_s - workload.arrival_s[0]
    assert (back.arrival_s == shifted).all()
    for ours, theirs in zip(back, found, strict=True):
        assert ours == Request(ours.arrival_s, *[getattr(theirs, f) for f in FIELDS])
    assert [file.name for file in path.parent.iterdir()] == [name]


FIELDS = (
    "prompt_tokens",
    "output_tokens",
    "prefix_hashes",
    "session",
    "priority",
    "slo_class",
    "model",
)


def test_defaults_are_not_written(tmp_path):
    write(Workload.from_requests([Request(0.0, 1, 2)]), tmp_path / "w.csv")
    text = (tmp_path / "w.csv").read_text()
    assert text == "arrival_s,prompt_tokens,output_tokens\n0.0,1,2\n"


def test_the_same_workload_gives_the_same_gzip_bytes(tmp_path):
    for name in ("a.csv.gz", "b.csv.gz"):
        write(Workload.from_requests([Request(0.0, 1, 2)]), tmp_path / name)
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = put(tmp_path, "old")
    broken = Workload.from_requests([Request(0.0, 1, 2, model="\ud800")])
    with pytest.raises(UnicodeEncodeError):
        write(broken, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_hashes_wider_than_the_csv_limit(tmp_path):
    hashes = tuple(range(2**62, 2**62 + 10_000))
    write(Workload.from_requests([Request(0.0, 160_000, 1, hashes)]), tmp_path / "w.csv")
    assert read(tmp_path / "w.csv")[0].prefix_hashes == hashes


def test_gzip_is_told_by_content_and_not_by_name(tmp_path):
    path = put(tmp_path, gzip.compress(f"{AZURE}{STAMP},3,4\n".encode()), "trace.csv")
    assert len(read(path)) == 1


def test_line_ends_of_old_macs(tmp_path):
    assert len(read(put(tmp_path, f"{AZURE}{STAMP},3,4\n".replace("\n", "\r")))) == 1


def test_byte_order_mark_blank_lines_and_spaces_in_the_header(tmp_path):
    text = f"\ufeffTIMESTAMP, ContextTokens ,GeneratedTokens\n\n{STAMP},3,4\n\n"
    assert len(read(put(tmp_path, text))) == 1


BAD = {
    "missing column": ("TIMESTAMP,ContextTokens\n", ":1: column GeneratedTokens: is missing"),
    "misspelt column": (
        "TIMESTAMP,ContextTokens,GeneratedToken\n",
        ":1: column GeneratedTokens: .*did you mean 'GeneratedToken'",
    ),
    "column twice": (
        AZURE.replace("\n", ",TIMESTAMP\n") + "1,2,3,4\n",
        ":1: column TIMESTAMP: stands twice",
    ),
    "optional to tell it, but not to read it": (
        "Timestamp,Model,Request tokens,Response tokens\n1,m,2,3\n",
        ":1: column Log Type: is missing",
    ),
    "one endless line": ("x" * 200_000, ":1: unknown format, begins 'x{60}'"),
    "odd white space": ("\x1c", "is empty"),
    "negative": (
        f"{AZURE}{STAMP},3,4\n{STAMP},-3,4\n",
        ":3: column ContextTokens: expected a whole number >= 0, found '-3'",
    ),
    "not a number": (f"{AZURE}{STAMP},3,many\n", ":2: column GeneratedTokens: .* found 'many'"),
    "fraction": (f"{AZURE}{STAMP},3.5,4\n", ":2: column ContextTokens: .* found '3.5'"),
    "too big": (f"{AZURE}{STAMP},{10**30},4\n", ":2: column ContextTokens"),
    "no number": (f"{AZURE}{STAMP},,4\n", ":2: column ContextTokens: .* found ''"),
    "line after blanks": (f"{AZURE}\n\n{STAMP},x,4\n", ":4: column ContextTokens"),
    "unsorted": (
        f"{AZURE}{STAMP},3,4\n2023-11-16 18:15:40,3,4\n",
        ":3: column TIMESTAMP: 2023-11-16T18:15:40.* is earlier than .* sort the trace",
    ),
    "mixed zones": (
        f"{AZURE}{STAMP},3,4\n{STAMP}+00:00,3,4\n",
        ":3: column TIMESTAMP: expected a time .* all with .* or all without",
    ),
    "seconds among times": (f"{AZURE}{STAMP},3,4\n1234.5,3,4\n", ":3: column TIMESTAMP"),
    "another zone": (f"{AZURE}2023-11-16 18:15:46+02:00,3,4\n", ":2: column TIMESTAMP"),
    "no such day": (f"{AZURE}2023-02-31 18:15:46.000,3,4\n", ":2: column TIMESTAMP"),
    "no time": (f"{AZURE}NaT                      ,3,4\n", ":2: column TIMESTAMP"),
    "short row": (f"{AZURE}{STAMP},3,4\n{STAMP},3\n", ":3: expected 3 fields, found 2"),
    "long row": (f"{AZURE}{STAMP},3,4,5\n", ":2: expected 3 fields, found 4"),
    "header only": (AZURE, ":1: has a header but no requests"),
    "empty": ("", "is empty"),
    "blank": ("\n \n", "is empty"),
    "unknown": ("a,b,c\n1,2,3\n", r":1: unknown format, begins 'a, b, c'. Known .*azure"),
    "binary": (b"\x89PNG\0\0\0\x01", ":1: is binary data. Known formats: azure"),
    "not UTF-8": (f"{AZURE}{STAMP},3,4\n".encode() + b"\xff\xfe,3,4\n", ":3: not UTF-8 text"),
    "truncated gzip": (
        gzip.compress((AZURE + f"{STAMP},3,4\n" * 20_000).encode())[:-200],
        r":\d+: the gzip data is truncated here",
    ),
    "gzip header only": (gzip.compress(b"x" * 99)[:12], ":1: the gzip data is truncated here"),
    "damaged gzip": (b"\x1f\x8bjunk that is no gzip at all", ":1: the gzip data is damaged here"),
    "negative time": ("arrival_s,prompt_tokens,output_tokens\nnan,1,1\n", ":2: column arrival_s"),
    "zero in a generic file": (
        "arrival_s,prompt_tokens,output_tokens\n0,0,1\n",
        ":2: column prompt_tokens: expected a whole number >= 1, found '0'",
    ),
    "negative hash": (
        "arrival_s,prompt_tokens,output_tokens,prefix_hashes\n0,1,1,4 -5\n",
        ":2: column prefix_hashes: expected whole numbers >= 0 parted by spaces, found '4 -5'",
    ),
    "JSON that is none": (jsonl(mooncake()) + "{,\n", ":2: not JSON: .* at character 2"),
    "JSON that is none at once": ("{'timestamp': 1}\n", ":1: not JSON"),
    "JSON list": (jsonl(mooncake(), [1]), ":2: expected a JSON object"),
    "JSON without a key": (
        jsonl(mooncake(), {"timestamp": 1}),
        ":2: column input_length: is missing; found timestamp",
    ),
    "JSON without a key at once": (
        jsonl({"timestamp": 1, "input_length": 3, "output_length": 4}),
        ":1: column hash_ids: is missing from this mooncake trace",
    ),
    "JSON unknown": (jsonl({"a": 1}), ":1: unknown format"),
    "JSON true for a number": (
        jsonl(mooncake(output_length=True)),
        ":1: column output_length: expected a whole number >= 0, found True",
    ),
    "JSON text for a time": (jsonl(mooncake(timestamp="0")), ":1: column timestamp"),
    "JSON bad hashes": (jsonl(mooncake(hash_ids=[-1])), ":1: column hash_ids: expected a list"),
    "JSON number for text": (jsonl(bailian(type=3)), ":1: column type: expected text, found 3"),
    "JSON unsorted": (
        jsonl(mooncake(timestamp=5), {}, mooncake()).replace("{}\n", "\n"),
        ":3: column timestamp: .* earlier",
    ),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_bad_files_give_one_error_that_names_the_place(tmp_path, content, message):
    path = put(tmp_path, content)
    with pytest.raises(TraceError, match=re.escape(str(path)) + ".*" + message) as caught:
        read(path)
    assert caught.value.path == path
    assert "\n" not in str(caught.value)


def test_the_line_is_right_beyond_the_first_chunk(tmp_path):
    good = f"{STAMP},3,4\n" * (CHUNK_ROWS + 10)
    with pytest.raises(TraceError) as caught:
        read(put(tmp_path, f"{AZURE}{good}{STAMP},3,oops\n"))
    assert (caught.value.line, caught.value.column) == (CHUNK_ROWS + 12, "GeneratedTokens")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that cannot be read")
def test_a_file_that_cannot_be_read():
    with pytest.raises(TraceError, match="/proc/self/mem: cannot be read: Input/output error"):
        read("/proc/self/mem")


def test_missing_file_and_foreign_folder(tmp_path):
    with pytest.raises(TraceError, match="no such file"):
        read(tmp_path / "nothing.csv")
    with pytest.raises(TraceError, match="is not a ServeGen folder"):
        read(tmp_path)


@given(st.binary(max_size=200))
def test_no_junk_gets_past_with_another_error(tmp_path_factory, junk):
    path = tmp_path_factory.mktemp("junk") / "trace"
    path.write_bytes(junk)
    with pytest.raises(TraceError):
        read(path)


# ServeGen

PMF = "{10: 0.25, 20: 0.75}"
DATASET = json.dumps({"0": {"input_tokens": PMF, "output_tokens": "{5: 1.0}"}})
WINDOWS = "0,2.0,1,Gamma,1.0,0.5\n600,0,0,,0,0\n1200,1.0,1,Weibull,0.8,1.0\n"


def servegen(folder: Path, trace: str = WINDOWS, dataset: str = DATASET, client: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    put(folder, trace, f"chunk-{client}-trace.csv")
    put(folder, dataset, f"chunk-{client}-dataset.json")
    return folder


def test_servegen_follows_its_windows_and_histograms(tmp_path):
    workload = read(servegen(tmp_path / "m-small"), seed=3)
    early = workload.arrival_s < 600
    assert early.sum() == 1200
    assert not ((workload.arrival_s >= 600) & (workload.arrival_s < 1195)).any()
    assert len(workload) == 1800
    assert set(workload.prompt_tokens.tolist()) == {10, 20}
    assert (workload.prompt_tokens == 20).mean() == pytest.approx(0.75, abs=0.04)
    assert set(workload.output_tokens.tolist()) == {5}
    assert workload.models == ("m-small",)
    assert workload.name == "m-small"
    # A gamma of shape 1 is exponential.
    gaps = np.diff(workload.arrival_s[early])
    assert gaps.std() / gaps.mean() == pytest.approx(1, abs=0.1)


def test_servegen_is_seeded(tmp_path):
    folder = servegen(servegen(tmp_path / "m"), client=1)
    again = [read(folder, seed=s).arrival_s for s in (0, 0, 1)]
    assert (again[0] == again[1]).all()
    assert (again[0] != again[2]).any()


def test_servegen_rare_clients_are_not_lost(tmp_path):
    trace = "0,0.002,1,Gamma,1.0,500\n600,0.002,1,Gamma,1.0,500\n"
    folder = tmp_path / "m"
    for client in range(100):
        servegen(folder, trace, client=client)
    # 100 clients, 1,200 s, 0.002 requests/s.
    assert len(read(folder)) == pytest.approx(240, abs=30)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_servegen_archives(tmp_path, mode):
    path = tmp_path / "archive"
    with tarfile.open(path, mode) as archive:
        for name, text in (("trace.csv", WINDOWS), ("dataset.json", DATASET)):
            member = tarfile.TarInfo(f"data/reason/r1/chunk-4-{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    workload = read(path)
    assert len(workload) == 1800
    assert workload.models == ("r1",)
    path.write_bytes(path.read_bytes()[:600] if mode == "w" else path.read_bytes()[:-30])
    with pytest.raises(TraceError, match=r"archive is damaged|is not a ServeGen|has no chunk"):
        read(path)


def histogram(text: str) -> str:
    return json.dumps({"0": {"input_tokens": text, "output_tokens": PMF}})


@pytest.mark.parametrize(
    ("trace", "dataset", "message"),
    [
        ("0,1,1\n", DATASET, "trace.csv:1: expected 6 fields, found 3"),
        ("0,x,1,Gamma,1,1\n" * 2, DATASET, "trace.csv:1: column rate: .* found 'x'"),
        ("0,-1,1,Gamma,1,1\n" * 2, DATASET, "trace.csv:1: column rate: .* found '-1'"),
        ("0,1,1,Pareto,1,1\n" * 2, DATASET, "trace.csv:1: column family: .* found 'Pareto'"),
        ("0,1,1,Gamma,0,1\n" * 2, DATASET, "trace.csv:1: column shape"),
        ("0,1,1,Gamma,1,1\n" * 2, DATASET, "trace.csv:2: column start: windows must be in order"),
        ("0,1,1,Gamma,1,1\n", DATASET, "needs at least two windows"),
        ("0,0,0,,0,0\n600,0,0,,0,0\n", DATASET, "every client's rate is 0"),
        ("\udcff".encode("utf-8", "surrogateescape"), DATASET, "trace.csv:1: not UTF-8"),
        (WINDOWS, "[]", "dataset.json:1: not a JSON object"),
        (WINDOWS, "{", "dataset.json:1: not a JSON object"),
        (WINDOWS, json.dumps({"0": {}}), "dataset.json:1: column input_tokens: is missing"),
        (WINDOWS, histogram("{1: x}"), "dataset.json:1: column input_tokens: expected {tokens"),
        (WINDOWS, histogram("{1: -1}"), "column input_tokens: negative"),
        (WINDOWS, histogram("{}"), "has no lengths for the window at 0 s"),
    ],
)
def test_servegen_bad_files(tmp_path, trace, dataset, message):
    folder = servegen(tmp_path / "m", "", dataset)
    put(folder, trace, "chunk-0-trace.csv")
    with pytest.raises(TraceError, match=message):
        read(folder)


def test_servegen_needs_pairs_and_one_folder(tmp_path):
    put(tmp_path, WINDOWS, "chunk-0-trace.csv")
    with pytest.raises(TraceError, match=r"has no chunk-0-dataset.json"):
        read(tmp_path)
    servegen(tmp_path / "other")
    with pytest.raises(TraceError, match=r"holds 2 folders of clients"):
        read(tmp_path)


def test_every_reader_is_told_from_the_others():
    keys = [(reader.container, reader.keys) for reader in READERS.values()]
    assert len(set(keys)) == len(keys)
