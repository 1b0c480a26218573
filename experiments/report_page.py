"""Pages that open offline: one file with its data, its style and Plotly's script inside."""

import json
from pathlib import Path
from typing import Any

from makespan.experiments.run_folder import plain

STYLE = Path(__file__).with_name("report_style.css")
COMMON = Path(__file__).with_name("report_common.js")
"""The style, and what the scripts of all pages share."""


def fill(page: Path, title: str, data: dict[str, Any]) -> str:
    """The page as text, with `@TITLE@`, `@DATA@` and what all pages share filled in."""
    from plotly.offline import get_plotlyjs

    # A "</script>" inside the data would end the script that holds it.
    values = json.dumps(plain(data), separators=(",", ":")).replace("</", "<\\/")
    parts = {
        "STYLE": STYLE.read_text(encoding="utf-8"),
        "COMMON": COMMON.read_text(encoding="utf-8"),
        "TITLE": title,
        "DATA": values,
        "PLOTLY": get_plotlyjs(),
    }
    text = page.read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace(f"@{name}@", part)
    return text
