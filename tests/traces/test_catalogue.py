"""The catalogue, and fetching from a real HTTP server on this machine."""

import hashlib
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from makespan.traces import TraceError, catalogue, read
from makespan.traces.catalogue import CATALOGUE, FetchError, Source, fetch, load, source
from makespan.traces.readers import READERS, recognise
from makespan.traces.synthetic import SYNTHETIC

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "llm"
TRACE = "arrival_s,prompt_tokens,output_tokens\n0,3,4\n1,5,6\n"
DIGEST = hashlib.sha256(TRACE.encode()).hexdigest()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


class Cut(Quiet):
    """Announces more than it sends."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(TRACE.encode())


@pytest.fixture(params=[Quiet])
def publisher(tmp_path, request):
    """A source on a server that is up for the test."""
    served = tmp_path / "served"
    served.mkdir()
    (served / "trace.csv").write_text(TRACE)
    handler = partial(request.param, directory=str(served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/trace.csv"
        yield Source(url, DIGEST, "generic", "CC0-1.0", "two requests")
        server.shutdown()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "kept"


def kept(folder):
    return [file.name for file in folder.iterdir()] if folder.exists() else []


def test_fetch(publisher, folder, capfd):
    file, digest = fetch(publisher, folder, progress=True)
    assert digest == DIGEST
    assert len(read(file)) == 2
    assert kept(folder) == ["trace.csv"]
    assert "100%" in capfd.readouterr().err


def test_fetched_once(publisher, folder):
    fetch(publisher, folder)
    gone = replace(publisher, url=publisher.url.replace("127.0.0.1", "127.0.0.9"))
    assert fetch(gone, folder)[0].read_text() == TRACE


def test_a_file_of_another_digest_is_not_kept(publisher, folder):
    with pytest.raises(FetchError, match="nothing was kept"):
        fetch(replace(publisher, sha256="0" * 64), folder)
    assert kept(folder) == []


def test_a_damaged_file_is_fetched_again(publisher, folder):
    folder.mkdir()
    (folder / "trace.csv").write_text("damaged")
    assert fetch(publisher, folder)[0].read_text() == TRACE


def test_an_unknown_digest_needs_consent(publisher, folder):
    unknown = replace(publisher, sha256="")
    with pytest.raises(FetchError, match="--unverified"):
        fetch(unknown, folder)
    assert kept(folder) == []
    assert fetch(unknown, folder, unverified=True)[1] == DIGEST


def test_not_found(publisher, folder):
    with pytest.raises(FetchError, match=r"nothing was kept: 404"):
        fetch(replace(publisher, url=publisher.url + "x"), folder)
    assert kept(folder) == []


@pytest.mark.parametrize("publisher", [Cut], indirect=True)
def test_a_download_that_breaks_off(publisher, folder):
    with pytest.raises(FetchError, match="nothing was kept"):
        fetch(replace(publisher, sha256=""), folder, unverified=True)
    assert kept(folder) == []


def test_no_connection(folder):
    nowhere = Source("http://127.0.0.1:9/trace.csv", DIGEST, "generic", "CC0-1.0", "")
    message = r"trace\.csv: not fetched, nothing was kept: no connection$"
    with pytest.raises(FetchError, match=message):
        fetch(nowhere, folder)
    assert kept(folder) == []


def test_entries_are_complete():
    for name, entry in CATALOGUE.items():
        assert entry.url.startswith("https://"), name
        assert entry.format in READERS, name
        assert entry.licence, name
        assert len(entry.sha256) in (0, 64), name
    files = [entry.filename for entry in CATALOGUE.values()]
    assert len(set(files)) == len(files)
    assert not set(CATALOGUE) & set(SYNTHETIC)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("azure-conv-2023", "AzureLLMInferenceTrace_conv.csv"),
        ("azure-code-2023", "AzureLLMInferenceTrace_code.csv"),
        ("mooncake-conversation", "mooncake_conversation_trace.jsonl.gz"),
        ("vidur-arxiv", "vidur_arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv"),
    ],
)
def test_known_digests_are_those_of_the_real_files(name, file):
    import gzip

    if not (DATA / file).exists():
        pytest.skip(f"{file} is not here")
    content = (DATA / file).read_bytes()
    content = gzip.decompress(content) if file.endswith(".gz") else content
    assert hashlib.sha256(content).hexdigest() == source(name).sha256
    assert recognise(DATA / file) == source(name).format


def test_unknown_names_get_a_hint():
    with pytest.raises(ValueError, match=r"Did you mean .*'azure-conv-2023'"):
        source("azure-conv-2032")
    with pytest.raises(ValueError, match=r"unknown trace 'zzz'\. Known: azure"):
        load("zzz")


def test_load_takes_paths_public_and_synthetic_names(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "cache_folder", lambda: tmp_path)
    with pytest.raises(ValueError, match="makespan traces fetch vidur-arxiv"):
        load("vidur-arxiv")
    lengths = "num_prefill_tokens,num_decode_tokens\n" + "3,4\n" * 300
    file = tmp_path / CATALOGUE["vidur-arxiv"].filename
    file.write_text(lengths)
    assert load("vidur-arxiv", rate=50.0).rate == pytest.approx(50, rel=0.2)
    assert len(load(str(file))) == 300
    assert len(load("steady", requests=7)) == 7
    with pytest.raises(TraceError, match=r"gone.csv: no such file"):
        load(str(tmp_path / "gone.csv"))


def test_the_cache_is_the_users():
    assert catalogue.cache_folder().is_relative_to(Path.home())
