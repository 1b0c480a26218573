"""The report of a comparison on job shops, also as a browser draws it."""

import asyncio
import json
import re

import headless
import pytest

from makespan.experiments import run
from makespan.experiments.jobshop import report


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    policies = ["--policy", "tail_p,spt:active,random:4", "--set", "ft06,la01,ta71"]
    arguments = ["--env", "job_shop", *policies, "--out", str(folder), "--name", "run"]
    assert run.main(arguments) == 0
    return folder / "run" / "report.html"


def test_the_page_holds_every_schedule_and_loads_nothing(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"@(TITLE|DATA|PLOTLY|STYLE|COMMON)@", text)
    assert not re.search(r"<(script|link)[^>]*(src|href)=", text)
    (data,) = re.findall(r"^const data = (.*);$", text, re.MULTILINE)
    data = json.loads(data)
    assert {instance["name"] for instance in data["instances"]} == {"ft06", "la01", "ta71"}
    for schedules in data["schedules"].values():
        assert {name: len(shown["start"]) for name, shown in schedules.items()} == {
            "ft06": 36,
            "la01": 50,
            "ta71": 2000,
        }


def test_the_page_is_shipped():
    assert report.PAGE.is_file()


@pytest.mark.skipif(headless.find_chromium() is None, reason="no chromium")
def test_a_browser_draws_it(page, tmp_path):
    asyncio.run(_look(page, tmp_path))


BARS = "document.querySelectorAll('#gantt .bars .point').length"
LABELS = "document.querySelectorAll('#gantt .bars .point text').length"


async def _look(page, folder):
    with headless.chromium(folder) as browser:
        async with headless.tab(browser) as tab:
            await tab.open(page.as_uri())
            path = "data.schedules[data.policies[0].policy].ft06.path.length"
            await tab.until(f"document.readyState === 'complete' && {BARS} === 36 + {path}")
            assert await tab.value(LABELS) == 36
            assert await tab.value("byId('tables').querySelectorAll('tbody tr').length") == 3
            await tab.value("byId('instance').value = 'ta71'")
            await tab.value("byId('instance').dispatchEvent(new Event('change'))")
            await tab.until(f"{BARS} > 2000")
            assert await tab.value(LABELS) == 0
            assert "Makespan" in await tab.value("byId('length').textContent")
            job_7 = "{points: [{customdata: [7]}]}"
            for others in (0.12, 1):
                await tab.value(f"byId('gantt').emit('plotly_click', {job_7})")
                assert await tab.value("byId('gantt').data[8].opacity") == others
                assert await tab.value("byId('gantt').data[7].opacity") == 1
            assert tab.complaints == []
