"""What a page must be for everybody, asked of the browser itself: contrast, order, names, focus, width."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Page

_QUESTIONS = Path(__file__).with_suffix(".js").read_text(encoding="utf-8").partition("\n")[2].rstrip(";\n")
_MOST_STOPS = 60


def ask(page: Page, question: str) -> Any:
    """Return the page's answer to one of the questions in looking.js."""
    return page.evaluate(_QUESTIONS, question)


def hidden_focus(page: Page) -> list[str]:
    """Walk the page with the Tab key and return what is focused without showing it."""
    found, seen = [], set()
    for _ in range(_MOST_STOPS):
        page.keyboard.press("Tab")
        told = ask(page, "focus")
        if not told["what"] or told["place"] in seen:
            break
        seen.add(told["place"])
        if told["outline"] < 2 or not told["isShown"]:
            found.append(told["what"])
    assert len(seen) > 3, "the Tab key reaches nothing"
    return found
