"""The ledger's page in a real browser: on phone and desk, light and dark, by mouse and by keyboard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.page.conftest import Served
from tests.page.looking import ask, hidden_focus

SIZES = {"phone": (360, 740), "desk": (1280, 800)}
AUDIT_MS = 240_000


@contextmanager
def looking(
    browser: Browser, size: str = "desk", scheme: str = "light", *, scripts: bool = True
) -> Iterator[tuple[Page, list[str]]]:
    """Open a window and collect what its console complains about."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        device_scale_factor=2 if size == "phone" else 1,
        java_script_enabled=scripts,
    )
    page, complaints = context.new_page(), []
    page.on(
        "console", lambda told: complaints.append(told.text) if told.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
    try:
        yield page, complaints
    finally:
        context.close()


@pytest.fixture(scope="session")
def nodes(served: Served) -> list[str]:
    return [row["node"] for row in served.json("/nodes")]


def pages(nodes: list[str]) -> dict[str, str]:
    return {
        "overview": "/",
        "campaign-proven": "/campaigns/1",
        "campaign-unproven": "/campaigns/2",
        "round-proven": "/campaigns/1/rounds/1",
        "round-unproven": "/campaigns/2/rounds/1",
        "contribution-admitted": f"/campaigns/1/rounds/1/nodes/{nodes[0]}",
        "contribution-refused": f"/campaigns/1/rounds/1/nodes/{nodes[2]}",
        "nodes": "/nodes",
        "node": f"/nodes/{nodes[0]}",
        "not-found": "/campaigns/99",
    }


def test_every_page_is_reached_by_links(served: Served, browser: Browser, nodes: list[str]) -> None:
    wanted = set(pages(nodes).values()) - {"/campaigns/99"}
    to_visit, visited, documents = ["/"], set(), set()
    with looking(browser) as (page, complaints):
        while to_visit:
            address = to_visit.pop()
            visited.add(address)
            answer = page.goto(served.url + address)
            assert answer is not None
            assert answer.status == 200, address
            for href in page.eval_on_selector_all("a[href], link[href], script[src], video[src]", _TARGETS):
                target = urlsplit(urljoin(served.url + address, href))
                assert target.netloc == urlsplit(served.url).netloc, f"{address} leads elsewhere: {href}"
                if re.search(r"\.(json|css|js|svg|mp4)$", target.path):
                    documents.add(target.path)
                elif target.path not in visited and target.path not in to_visit:
                    to_visit.append(target.path)
        assert complaints == []
    assert wanted <= visited
    for path in documents:
        assert httpx.get(served.url + path).status_code == 200, path
    assert any(path.endswith("video.mp4") for path in documents)


_TARGETS = "found => found.map(e => e.getAttribute('href') ?? e.getAttribute('src'))"


def test_a_contribution_is_verified_by_clicking(
    served: Served, browser: Browser, nodes: list[str], screenshots: Path
) -> None:
    with looking(browser, "phone") as (page, complaints):
        page.goto(served.url)
        page.get_by_role("link", name="Campaign 1, round 1").click()
        page.get_by_role("link", name=re.compile(nodes[0][:10])).first.click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("Contribution")
        page.get_by_role("button", name="Verify this round").click()
        status = page.locator("[data-verify-status]")
        expect(status).to_contain_text("audit running")
        page.screenshot(path=screenshots / "verify-running.png")
        expect(status).to_contain_text("audit held", timeout=AUDIT_MS)
        expect(page.get_by_role("button", name="Verify again")).to_be_disabled()
        page.get_by_text(re.compile(r"All \d+ checks")).click()
        expect(page.locator(".checks").get_by_text("own proofs")).to_be_visible()
        page.locator("#verification").screenshot(path=screenshots / "verify-held.png")
        assert complaints == []


def test_without_scripts_a_round_is_verified_by_reloading(served: Served, browser: Browser) -> None:
    with looking(browser, scripts=False) as (page, _):
        page.goto(served.url + "/campaigns/2/rounds/1")
        page.get_by_role("button", name="Verify this round").click()
        assert page.url.endswith("/campaigns/2/rounds/1#verification")
        # A page without scripts asks again by itself while an audit runs.
        expect(page.locator("[data-verify-status]")).to_contain_text("audit held", timeout=AUDIT_MS)


def test_a_changed_manifest_is_called_failed(served: Served, browser: Browser, screenshots: Path) -> None:
    address = "/campaigns/1/rounds/2"
    digest = served.json(address)["round"]["manifest_digest"]
    path = served.home / "manifests" / f"{digest[2:]}.json"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"taken over", b"taken 0ver"))
    try:
        with looking(browser) as (page, complaints):
            page.goto(served.url + address)
            page.get_by_role("button", name="Verify this round").click()
            expect(page.locator("[data-verify-status]")).to_contain_text("audit FAILED", timeout=AUDIT_MS)
            expect(page.locator("#verification > .checks")).to_contain_text("digest of the manifest is")
            page.locator("#verification").screenshot(path=screenshots / "verify-failed.png")
            assert complaints == []
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
def test_every_page_is_fit_for_everybody(
    served: Served, browser: Browser, nodes: list[str], screenshots: Path, size: str, scheme: str
) -> None:
    with looking(browser, size, scheme) as (page, complaints):
        for name, address in pages(nodes).items():
            page.goto(served.url + address)
            page.screenshot(path=screenshots / f"{name}-{size}-{scheme}.png", full_page=True)
            for summary in page.locator("summary").all():
                summary.click()
            assert ask(page, "widthOver") <= 0, f"{name} scrolls sideways"
            assert ask(page, "lowContrasts") == [], name
            assert ask(page, "faults") == [], name
            assert page.title() != "taken over"
            if name == "not-found":
                assert complaints.pop().startswith("Failed to load resource")
            assert complaints == [], name


def test_the_keyboard_shows_where_it_is(served: Served, browser: Browser, nodes: list[str]) -> None:
    with looking(browser) as (page, _):
        for name, address in pages(nodes).items():
            page.goto(served.url + address)
            assert hidden_focus(page) == [], name
        page.goto(served.url)
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main", "the first stop skips to the content"


def test_the_video_plays(served: Served, browser: Browser) -> None:
    with looking(browser) as (page, complaints):
        page.goto(served.url + "/campaigns/1/rounds/1")
        page.wait_for_function("document.querySelector('video').readyState >= 1")
        assert page.evaluate("document.querySelector('video').duration") == pytest.approx(2, abs=0.3)
        assert complaints == []


def test_an_open_page_follows_the_chain(served: Served, browser: Browser) -> None:
    with looking(browser) as (page, complaints):
        page.goto(served.url)
        before = page.locator(".asof time").inner_text()
        expect(page.locator(".asof time")).not_to_have_text(before, timeout=20_000)
        assert complaints == []
