"""The page in a real browser: with a mouse, with the keyboard alone, and on a phone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.index.conftest import draw
from tests.service.clients import Client, answering
from tests.service.test_app import labelled

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = os.environ.get("DML_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync", "--no-sandbox"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    api = pytest.importorskip(
        "playwright.sync_api", reason="the page is tested with playwright: pip install playwright"
    )
    if CHROMIUM is None:
        pytest.skip("the page is tested in chromium, which is not installed: apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def service(photo_index: Path) -> Iterator[Client]:
    labelled(photo_index, n1="mug", n7="mug")
    with answering(photo_index, hosts=["127.0.0.1"]) as client:
        yield client


def opened(browser: Browser, client: Client, **device: Any) -> Page:
    """The page, of 9 images."""
    page = browser.new_context(**device).new_page()
    page.set_default_timeout(10_000)
    page.goto(f"http://127.0.0.1:{client.port}/")
    page.locator("#exact", has_text="search of 9 images").wait_for()
    return page


def scores(page: Page) -> list[str]:
    return page.locator("#found strong").all_text_contents()


def test_an_image_is_chosen_a_neighbour_is_clicked_and_back(
    browser: Browser, service: Client, photos: Path
) -> None:
    page = opened(browser, service)
    assert page.locator("#exact").text_content().startswith("Exact search of 9 images, model seed-0/best ")
    page.set_input_files("#file", photos / "class 1" / "4.png")
    page.wait_for_selector("#found li:nth-child(9) img[src^=blob]")
    assert page.locator("#said").text_content() == "9 images found." and scores(page)[0] == "1.0000"
    second = page.locator("#found li:nth-child(2) button")
    name = second.get_attribute("title")
    second.click()
    page.locator("#verdict", has_text="item").wait_for()
    assert page.locator("#found li:first-child button").get_attribute("title") == name
    page.click("#back")
    page.locator("#verdict", has_text="4.png").wait_for()
    assert page.locator("#back").is_hidden()
    page.context.close()


def test_it_works_with_the_keyboard_alone_and_filters_by_label(
    browser: Browser, service: Client, photos: Path
) -> None:
    page = opened(browser, service)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    page.set_input_files(":focus", photos / "class 0" / "0.png")
    page.wait_for_selector("#found li:nth-child(9)")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "label"
    page.keyboard.type("mug")
    page.keyboard.press("Enter")
    page.wait_for_selector("#found li:nth-child(3)", state="detached")
    assert all("mug · " in text for text in page.locator("#found small").all_text_contents())
    while page.evaluate("document.activeElement.closest('#found') === null"):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator("#verdict", has_text="item").wait_for()
    page.context.close()


def test_it_fits_a_phone_and_names_are_text(
    browser: Browser, service: Client, photos: Path, tmp_path: Path
) -> None:
    phone = {"viewport": {"width": 360, "height": 640}, "is_mobile": True, "has_touch": True}
    page = opened(browser, service, **phone)
    evil = draw(tmp_path / "<img src=x onerror=alert(1)>.png", 3)
    page.set_input_files("#file", evil)
    page.wait_for_selector("#found li:nth-child(9) img[src^=blob]")
    assert page.locator("#verdict").text_content() == evil.name
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.locator("#found li:nth-child(2) button").tap()
    page.locator("#verdict", has_text="item").wait_for()
    page.context.close()


def test_a_threshold_tells_matches_and_what_is_wrong_is_said(
    browser: Browser, photo_index: Path, photos: Path, tmp_path: Path
) -> None:
    with answering(photo_index, token="a-token-of-a-test", hosts=["127.0.0.1"]) as client:
        describe, answer = client.catalogue.describe, client.catalogue.answer

        def matching(queries: Any) -> Any:
            found: Any = answer(queries)
            for query in found[0]["queries"]:
                query["match"] = True
                for hit in query["hits"]:
                    hit["match"] = hit["score"] > 0.999
            return found

        client.catalogue.describe = lambda: {**describe(), "threshold": 0.999}  # type: ignore[method-assign]
        client.catalogue.answer = matching  # type: ignore[method-assign]
        page = browser.new_context().new_page()
        page.goto(f"http://127.0.0.1:{client.port}/")
        page.wait_for_selector("#key:not([hidden])")
        assert "token is missing" in str(page.locator("#said").text_content())
        page.fill("#token", "a-token-of-a-test")
        page.keyboard.press("Enter")
        page.locator("#exact", has_text="0.9990 or more").wait_for()
        page.set_input_files("#file", photos / "class 1" / "4.png")
        page.wait_for_selector("#found li:nth-child(9)")
        assert page.locator("#verdict").text_content() == "4.png: match"
        assert scores(page)[0].endswith(" match") and scores(page)[-1].endswith(" no match")
        (tmp_path / "note.png").write_text("hello")
        page.set_input_files("#file", tmp_path / "note.png")
        page.wait_for_selector("#said.error")
        assert "cannot be read as an image" in str(page.locator("#said").text_content())
        page.context.close()
