"""Starting a server and stopping it, whatever happens; a script stands in for vLLM."""

import json
import os
import signal
import sys
import textwrap
import time
import urllib.error
import urllib.request

import pytest

from makespan.experiments.live import tiny_server
from makespan.experiments.live.client import ServerError
from makespan.experiments.live.tiny_server import servers, serving, write_model

ANSWERS = """
import http.server, pathlib, sys
class Face(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(pathlib.Path(sys.argv[2], "config.json").read_bytes())
print(" ".join(sys.argv))
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Face).serve_forever()
"""

STOPS = """
print("there is no such option")
raise SystemExit(3)
"""

IGNORES_SIGTERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + ANSWERS


@pytest.fixture
def environment(tmp_path):
    """Make an environment whose vLLM is the script that is given."""

    def make(script):
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "python").symlink_to(sys.executable)
        (folder / "vllm").write_text(textwrap.dedent(script))
        return tmp_path

    return make


def answers(url):
    """What is answered there; empty if nobody listens."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return json.load(response)
    except urllib.error.URLError:
        return {}


def test_it_serves_the_tiny_model_and_is_stopped(environment):
    with serving(environment(ANSWERS)) as url:
        assert answers(url)["architectures"] == ["LlamaForCausalLM"]
    assert answers(url) == {}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_it_is_stopped_on_an_exception(environment, error):
    urls = []

    def use():
        with serving(environment(ANSWERS)) as url:
            urls.append(url)
            raise error

    with pytest.raises(error):
        use()
    assert answers(urls[0]) == {}


def test_it_is_stopped_on_sigterm(environment):
    before = signal.getsignal(signal.SIGTERM)
    urls = []

    def use():
        with serving(environment(ANSWERS)) as url:
            urls.append(url)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        use()
    assert answers(urls[0]) == {}
    assert signal.getsignal(signal.SIGTERM) is before


def test_one_that_does_not_stop_is_killed(environment, monkeypatch):
    monkeypatch.setattr(tiny_server, "STOP_TIMEOUT_S", 0.2)
    with serving(environment(IGNORES_SIGTERM)) as url:
        assert answers(url)
    assert answers(url) == {}


def test_one_of_several_is_killed_and_started_again_at_its_address(environment):
    with servers(environment(ANSWERS), 2) as (victim, other):
        victim.kill()
        assert answers(victim.url) == {}
        assert answers(other.url)
        victim.start()
        victim.wait()
        assert answers(victim.url)
    assert answers(victim.url) == answers(other.url) == {}


def test_one_that_does_not_start_says_what_it_printed(environment):
    with (
        pytest.raises(ServerError, match="there is no such option"),
        serving(environment(STOPS)),
    ):
        pass


def test_an_environment_without_python_is_named(tmp_path):
    with pytest.raises(ServerError, match="does not start"), serving(tmp_path / "none"):
        pass


def test_the_tokenizer_has_a_word_for_every_token(tmp_path):
    write_model(tmp_path)
    vocabulary = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]
    assert sorted(vocabulary.values()) == list(range(tiny_server.VOCABULARY))
    assert json.loads((tmp_path / "config.json").read_text())["vocab_size"] == len(vocabulary)
