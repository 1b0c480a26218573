"""The status page, in a real browser."""

import asyncio
import json
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from headless import Tab, chromium, find_chromium, tab

from makespan.agents.serve.status import HOLD, BackendState, Status
from makespan.agents.serve.status_page import PAGE, status_page

in_browser = pytest.mark.skipif(find_chromium() is None, reason="chromium is not installed")

HOSTILE = 'http://x/<img src=x onerror="window.hacked=1">\'&amp;'

A = BackendState("http://a:8000", True, "", "closed", 3, 900, 12_345, 2.0, 0.0, 0.25, 0.05)

Script = Callable[[Tab, "Server"], Awaitable[None]]


def answer(*backends: BackendState, events: Callable[[Status], None] | None = None, **more: Any):
    """What `/status` says of a router with these backends."""
    status = Status("lmetric", ["agent"], old_after_s=10.0, now=0.0)
    if events is not None:
        events(status)
    return {**status.snapshot(65.0, backends, held=0, queued=0, draining=False), **more}


class Handler(BaseHTTPRequestHandler):
    server: "Server"

    def do_GET(self) -> None:
        page, headers = status_page()
        if self.path == "/router/":  # as behind a proxy that adds a prefix
            self.reply(200, page, headers)
        elif self.path == "/router/status":
            self.server.answers.wait(timeout=30)
            self.reply(self.server.code, self.server.body, {"Content-Type": "application/json"})
        else:
            self.send_error(404)

    def reply(self, code: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests look at what the page makes of it."""


class Server(ThreadingHTTPServer):
    """A router as the page sees it: canned answers, which a test may change."""

    daemon_threads = True

    def __init__(self, said: dict[str, Any], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.code = 200
        self.answers = threading.Event()
        self.answers.set()
        self.say(said)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self._thread.start()

    def say(self, said: dict[str, Any]) -> None:
        self.body = json.dumps(said, allow_nan=False).encode()

    def stop(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with chromium(tmp_path_factory.mktemp("profile")) as address:
        yield address


@pytest.fixture
def visit(browser: str) -> Iterator[Callable[[dict[str, Any], Script], None]]:
    """Opens the page of a router that says so, and runs the script in it."""
    servers: list[Server] = []

    def run(said: dict[str, Any], script: Script) -> None:
        server = Server(said)
        servers.append(server)

        async def main() -> None:
            async with tab(browser) as page:
                await page.open(f"http://127.0.0.1:{server.server_port}/router/")
                await script(page, server)

        asyncio.run(main())

    yield run
    for server in servers:
        server.stop()


def cells(column: int, body: str = "backends") -> str:
    """JavaScript for the texts of a column."""
    rows = f"[...document.querySelectorAll('#{body} tr:not(.empty)')]"
    return f"{rows}.map(row => row.children[{column}].textContent)"


def shown(column: int, *texts: str, body: str = "backends") -> str:
    """JavaScript that asks whether a column holds these texts."""
    expected = json.dumps(texts, separators=(",", ":"), ensure_ascii=False)
    return f"JSON.stringify({cells(column, body)}) === {json.dumps(expected)}"


def bars(column: int) -> str:
    """JavaScript for the lengths of a column's bars, as fractions."""
    rows = "[...document.querySelectorAll('#backends tr')]"
    cells = f"{rows}.map(row => row.children[{column}])"
    width = "getBoundingClientRect().width"
    return f"{cells}.map(c => c.querySelector('b').{width} / c.querySelector('i').{width})"


BANNER = "(banner => banner.hidden ? '' : banner.textContent)(document.getElementById('banner'))"
FIGURES = "Object.fromEntries([...document.querySelectorAll('#totals div')].map(d => \
[d.firstChild.textContent, d.lastChild.textContent]))"


def test_the_page_asks_nobody_but_the_router():
    page = PAGE.read_text()
    assert page.isascii()
    outside = r"https?:|//\w|@import|(?<!\.)\burl\(|\bsrc="
    assert re.findall(outside + "|innerHTML|insertAdjacentHTML", page) == []
    assert re.findall(r'href="([^"]*)"', page) == ["data:,", "status"]


def test_the_security_policy_allows_no_inline_code_but_the_page_s_own():
    _, headers = status_page()
    rules = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self'"
    for kind in ("script-src", "style-src"):
        assert re.fullmatch(r"'sha256-[\w+/]{43}='", rules[kind])


@in_browser
def test_every_backend_has_a_row_that_follows_the_answers(visit):
    down = replace(A, url="http://b:8000", up=False, why="breaker open", breaker="open")

    async def script(page: Tab, server: Server) -> None:
        await page.until(shown(0, A.url, down.url))
        assert await page.value(cells(1)) == ["up", "breaker open"]
        assert await page.value(cells(2)) == ["closed", "open"]
        assert await page.value(cells(3)) == ["3", "3"]
        assert await page.value(cells(5)) == ["12.3k", "12.3k"]
        assert await page.value(cells(8)) == ["25.0%", "25.0%"]
        assert (await page.value(FIGURES))["In flight"] == "6"
        await page.value("window.row = document.querySelector('#backends tr')")
        server.say(answer(replace(A, in_flight=41), down))
        await page.until(shown(3, "41", "3"))
        assert await page.value("window.row === document.querySelector('#backends tr')")
        assert (await page.value(FIGURES))["In flight"] == "44"
        server.say(answer(down))
        await page.until(shown(0, down.url))
        assert page.complaints == []

    visit(answer(A, down), script)


@in_browser
def test_bars_are_as_long_as_the_numbers_say(visit):
    async def script(page: Tab, server: Server) -> None:
        await page.until(shown(3, "3", "12"))
        assert await page.value(bars(3)) == pytest.approx([0.25, 1], abs=0.02)
        assert await page.value(bars(8)) == pytest.approx([0.25, 0.97], abs=0.02)

    visit(answer(A, replace(A, url="http://b:8000", in_flight=12, kv_usage=0.97)), script)


@in_browser
def test_what_is_unknown_is_a_dash(visit):
    nan = float("nan")
    state = replace(A, running=nan, waiting=nan, kv_usage=nan, gauge_age_s=nan)

    async def script(page: Tab, server: Server) -> None:
        await page.until(shown(0, A.url))
        found = [(await page.value(cells(column)))[0] for column in (6, 7, 8, 9, 10, 13, 16)]
        assert found == ["\u2013"] * 7
        assert page.complaints == []

    visit(answer(state), script)


@in_browser
def test_the_router_says_from_which_age_gauges_are_old(visit):
    ages = "[...document.querySelectorAll('#backends tr')].map(row => row.children[9].className)"

    async def script(page: Tab, server: Server) -> None:
        await page.until(shown(9, "2.5 s", "12 s"))
        assert await page.value(ages) == ["calm", "warn"]
        server.say(answer(young, old, old_after_s=2.0))
        await page.until(shown(9, "2 s", "12 s"))
        assert await page.value(ages) == ["warn", "warn"]
        server.say(answer(young, old, old_after_s=30.0))
        await page.until(shown(9, "2.5 s", "12.0 s"))
        assert await page.value(ages) == ["calm", "calm"]

    young, old = replace(A, gauge_age_s=2.5), replace(A, url="http://b:8000", gauge_age_s=12.0)
    visit(answer(young, old), script)


@in_browser
def test_what_waits_in_the_router_is_shown(visit):
    async def script(page: Tab, server: Server) -> None:
        await page.until(f"{FIGURES}['Queued'] === '1,024'")
        assert (await page.value(FIGURES))["Held"] == "7"

    visit(answer(A, held=7, queued=1024), script)


@in_browser
def test_a_banner_tells_when_the_router_is_gone_and_when_it_is_back(visit):
    async def script(page: Tab, server: Server) -> None:
        await page.until(shown(0, A.url))
        assert await page.value(BANNER) == ""
        port = server.server_port
        server.stop()
        await page.until(f"{BANNER}.includes('The router does not answer.')")
        await page.until(f"/Last answer [1-9]\\d* s ago/.test({BANNER})")
        assert await page.value("document.getElementById('alert').getAttribute('aria-live')")
        assert await page.value(cells(0)) == [A.url]  # the last that was known
        again = Server(answer(replace(A, in_flight=8)), port)
        try:
            await page.until(shown(3, "8"))
            assert await page.value(BANNER) == ""
        finally:
            again.stop()

    visit(answer(A), script)


@in_browser
def test_a_router_that_hangs_is_like_one_that_is_gone(visit):
    async def script(page: Tab, server: Server) -> None:
        await page.until(shown(0, A.url))
        server.answers.clear()
        try:
            await page.until(f"{BANNER}.includes('The router does not answer.')")
        finally:
            server.answers.set()
        await page.until(f"{BANNER} === ''")

    visit(answer(A), script)


@in_browser
@pytest.mark.parametrize(
    ("code", "body", "says"),
    [
        (503, b"{}", "The router answers with status 503."),
        (200, b"<html>", "The router's answer cannot be read."),
        (200, b'{"totals": 3}', "The router's answer cannot be read."),
    ],
)
def test_an_answer_that_is_none_is_named_and_asked_for_again(visit, code, body, says):
    async def script(page: Tab, server: Server) -> None:
        await page.until(shown(0, A.url))
        server.code, server.body = code, body
        await page.until(f"{BANNER}.includes({json.dumps(says)})")
        server.code = 200
        server.say(answer(A))
        await page.until(f"{BANNER} === ''")

    visit(answer(A), script)


@in_browser
def test_hostile_names_are_shown_as_text(visit):
    def events(status: Status) -> None:
        status.decision(60.0, HOSTILE, 640, HOSTILE, {"agent": HOSTILE + "b"}, 0.00025)

    said = answer(replace(A, url=HOSTILE, why=HOSTILE), events=events)
    said.update(policy=HOSTILE, shadow=[HOSTILE])

    async def script(page: Tab, server: Server) -> None:
        await page.until(shown(0, HOSTILE))
        assert await page.value(cells(1)) == [HOSTILE]
        assert await page.value(cells(0, "decisions")) == [HOSTILE]
        assert await page.value(cells(4, "decisions")) == [HOSTILE]
        assert await page.value(cells(5, "decisions")) == [HOSTILE + "b"]
        assert await page.value("document.getElementById('policy').textContent") == HOSTILE
        assert await page.value("document.images.length") == 0
        assert await page.value("typeof window.hacked") == "undefined"
        assert page.complaints == []

    visit(said, script)


@in_browser
def test_the_last_decisions_say_where_the_shadow_differs(visit):
    def events(status: Status) -> None:
        status.decision(5.0, "old", 20_000, A.url, {"agent": A.url}, 0.0125)
        status.decision(64.0, "new", 640, HOLD, {"agent": A.url}, 0.00025)

    async def script(page: Tab, server: Server) -> None:
        await page.until(shown(0, "new", "old", body="decisions"))
        assert await page.value(cells(1, "decisions")) == ["1 s", "1 min 0 s"]
        assert await page.value(cells(2, "decisions")) == ["640", "20,000"]
        assert await page.value(cells(3, "decisions")) == ["0.25 ms", "12.5 ms"]
        assert await page.value(cells(4, "decisions")) == [HOLD, A.url]
        assert await page.value(cells(5, "decisions")) == [A.url, "agrees"]

    visit(answer(A, events=events), script)


@in_browser
def test_the_request_rate_is_that_of_the_router_s_clock(visit):
    totals = answer()["totals"]

    async def script(page: Tab, server: Server) -> None:
        await page.until(f"{FIGURES}['Requests'] === '100'")
        assert (await page.value(FIGURES))["Requests/s"] == "\u2013"
        server.say(answer(A, totals={**totals, "requests": 150}, uptime_s=69.0))
        await page.until(f"{FIGURES}['Requests/s'] === '12.5'")
        server.say(answer(A, totals={**totals, "requests": 3}, uptime_s=2.0))  # began anew
        await page.until(f"{FIGURES}['Requests/s'] === '\u2013'")

    visit(answer(A, totals={**totals, "requests": 100}), script)


@in_browser
@pytest.mark.parametrize("width", [400, 1440])
def test_sixty_four_backends_do_not_widen_the_page(visit, width: int):
    urls = [f"http://vllm-{number}.inference.svc:8000" for number in range(64)]

    async def script(page: Tab, server: Server) -> None:
        await page.screenshot(width, 900)
        await page.until(shown(0, *urls))
        assert await page.value("document.documentElement.scrollWidth <= innerWidth")
        assert await page.value("document.getElementById('health').textContent") == "64 of 64 up"

    visit(answer(*(replace(A, url=url) for url in urls)), script)


@in_browser
def test_cells_have_headings_for_those_who_cannot_see_the_table(visit):
    async def script(page: Tab, server: Server) -> None:
        await page.until(shown(0, A.url))
        heads = "[...document.querySelectorAll('thead th')].every(cell => cell.scope)"
        assert await page.value(heads)
        assert await page.value("document.querySelector('#backends th').scope") == "row"
        columns = "document.querySelector('#backends tr').children.length"
        groups = "[...document.querySelectorAll('thead')][0].rows"
        width = f"[...{groups}[0].cells].reduce((sum, cell) => sum + cell.colSpan, 0)"
        assert await page.value(f"{columns} === {width}")
        assert await page.value(f"{groups}[1].cells.length === {columns} - 3")

    visit(answer(A), script)
