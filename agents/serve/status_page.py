"""The status page as it is sent: the file, and headers that let a browser run nothing else."""

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

PAGE = Path(__file__).with_name("status_page.html")


def status_page() -> tuple[bytes, dict[str, str]]:
    """Body and headers of the answer to `/`.

    The one style sheet and the one script of the page are allowed by their hashes, which are
    computed here, so an edit of the page needs nothing else.
    """
    page = PAGE.read_text(encoding="utf-8")  # with the line ends that a browser hashes
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": _security_policy(page),
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return page.encode(), headers


def _security_policy(page: str) -> str:
    rules = (
        "default-src 'none'",
        f"style-src {_hash_of('style', page)}",
        f"script-src {_hash_of('script', page)}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    return "; ".join(rules)


def _hash_of(tag: str, page: str) -> str:
    """The source expression for the content of the page's one element of that name."""
    (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"
