#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
"""page.py DFR0 EXAMPLE: makes a page of results with DFR0 and tests it in headless Chromium.

EXAMPLE is a file of results. The page shows a matrix of hosts that reported these results, each with changes, and of one
host that did not report. With DFR0_SHOTS=DIR the screenshots are written to DIR.
"""

import copy
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

EVIL = "\"'><script>document.title = 'evil'</script><img src=x onerror=\"document.title = 'evil'\">"


def outcomes(records, **changed):
    """The records with these outcomes, and with totals that agree."""
    records = copy.deepcopy(records)
    cases = [record for record in records if record["record"] == "case"]
    for case in cases:
        case["outcome"] = changed.get(case["name"].split(".")[-1], case["outcome"])
    totals = records[-1]["totals"]
    for key in totals:
        totals[key] = sum(case["outcome"] == key for case in cases)
    return records


def evil(value):
    """The value with its texts replaced by HTML that the page must not execute."""
    if isinstance(value, dict):
        kept = ("record", "format", "id", "plan", "outcome", "midr", "id_aa64dfr0", "writable", "how")
        name = "rule" in value or "record" in value
        return {key: old if key in kept or key == "name" and name else evil(old) for key, old in value.items()}
    if isinstance(value, list):
        return [evil(one) for one in value]
    return EVIL if isinstance(value, str) else value


def matrix(directory, example):
    """Writes a directory like one of `lab matrix`."""
    hosts = {
        "one": outcomes(example),
        "two": outcomes(example, b="pass", e="pass"),
        "evil": evil(outcomes(example, c="pass")),
        "silent": None,
    }
    cells = []
    for host, records in hosts.items():
        status = {"deadline": 600} if records is None else {"exited": 1}
        cells.append({"host": host, "kernel": "newest", "status": status})
        if records is not None:
            records[0]["lab_host"] = host
            (directory / f"{host}@newest").mkdir()
            lines = "".join(json.dumps(record) + "\n" for record in records)
            (directory / f"{host}@newest" / "stdout").write_text(lines)
    kernels = [{"name": "newest", "release": "7.3.4"}]
    (directory / "matrix.json").write_text(json.dumps({"version": 1, "kernels": kernels, "cells": cells}))


class Page:
    """The page in a browser."""

    def __init__(self, path):
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
        self.url = path.as_uri()

    def size(self, width, height):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def dark(self, dark):
        value = "dark" if dark else "light"
        features = {"features": [{"name": "prefers-color-scheme", "value": value}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", features)

    def load(self, fragment=""):
        self.driver.get("about:blank")
        self.driver.get(self.url + fragment)

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def run(self, script, *arguments):
        return self.driver.execute_script(f"return {script}", *arguments)

    def keys(self, *keys):
        self.driver.switch_to.active_element.send_keys(*keys)

    def focused(self):
        return self.run("document.activeElement.closest('details, input, a')?.id")

    def shown(self):
        """The names of the visible cases."""
        visible = "[...document.querySelectorAll('.case')].filter(one => one.checkVisibility()).map(one => one.id)"
        return [name.removeprefix("case-") for name in self.run(visible)]

    def shot(self, name):
        directory = os.environ.get("DFR0_SHOTS")
        if directory:
            Path(directory).mkdir(parents=True, exist_ok=True)
            self.driver.save_screenshot(f"{directory}/{name}.png")


def nothing_is_wrong(page):
    log = [entry for entry in page.driver.get_log("browser") if entry["level"] != "INFO"]
    assert not log, log
    assert page.driver.title.startswith("Failed: "), page.driver.title
    fetched = page.run("performance.getEntriesByType('resource').map(one => one.name)")
    assert fetched == [], fetched


def first_screen_has_the_result(page):
    page.load()
    head = page.one("header").text
    for part in ("Failed", "1 case fails on 2 of 4 hosts", "1 of 4 hosts did not report", "Emulated"):
        assert part in head, f"{part!r} is not in {head!r}"
    assert "did not report" in page.one("#grid table").text
    assert len(page.driver.find_elements(By.CSS_SELECTOR, "#hosts article")) == 4
    nothing_is_wrong(page)


def text_filters_cases(page):
    page.load()
    assert page.shown() == ["s.b", "s.e"], "cases that need attention are open, the others are closed"
    page.one("body").send_keys("/")
    assert page.focused() == "filter"
    page.keys("s.c")
    assert page.shown() == ["s.c"], page.shown()
    assert page.one("#shown").text == "1 of 5 cases"
    page.keys(Keys.ESCAPE)
    page.keys("marker no event")
    assert page.shown() == ["s.b", "s.d"], f"an observation is not found: {page.shown()}"
    page.keys(Keys.ESCAPE)
    assert page.shown() == ["s.b", "s.e"] and page.one("#shown").text == "5 of 5 cases"
    page.keys("no such case")
    assert page.shown() == [] and page.one("#shown").text == "0 of 5 cases"
    nothing_is_wrong(page)


def outcomes_filter_cases(page):
    page.load()
    page.one("#show-fail").send_keys(Keys.SPACE)
    assert page.shown() == ["s.e"], page.shown()
    assert page.one("#shown").text == "4 of 5 cases"
    nothing_is_wrong(page)


def the_keyboard_opens_a_case(page):
    page.load()
    case = page.one("#case-s\\.b")
    for _ in range(200):
        page.keys(Keys.TAB)
        if page.focused() == "case-s.b":
            break
    assert page.focused() == "case-s.b", "TAB does not reach the case"
    outline = page.run("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", f"its focus is not visible: {outline}"
    page.keys(Keys.ENTER)
    assert case.get_attribute("open") and "Breakpoint exception" in case.text
    assert page.one("#case-s\\.b .departs").text.startswith("isb")
    assert page.run("location.hash") == "#case-s.b", "the location is not a link to the case"
    nothing_is_wrong(page)


def a_link_opens_its_case(page):
    page.load("#case-s.d")
    assert page.one("#case-s\\.d").get_attribute("open")
    assert page.one("#case-s\\.d a[href^='#deviation-']").is_displayed()
    page.run("(location.hash = '#deviation-n')")
    assert page.one("#deviation-n").get_attribute("open") and "sys_regs.c" in page.one("#deviation-n").text
    nothing_is_wrong(page)


def the_page_fits_a_phone_in_light_and_dark(page):
    for dark in (False, True):
        page.dark(dark)
        for width in (1280, 400):
            page.size(width, 900)
            page.load()
            page.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
            wide = page.run("document.documentElement.scrollWidth")
            assert wide <= width, f"the page is {wide} pixels wide at {width}"
            page.shot(f"test-{'dark' if dark else 'light'}-{width}")
    colours = []
    for dark in (False, True):
        page.dark(dark)
        colours.append(page.run("getComputedStyle(document.body).backgroundColor"))
    assert colours[0] != colours[1], colours
    page.dark(False)
    page.size(1280, 900)
    nothing_is_wrong(page)


def the_page_is_complete_without_its_script(page):
    page.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    page.load()
    page.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert page.run("document.getElementById('shown').textContent") == "", "the script ran"
    assert not page.one("#filter").is_displayed(), "there is a filter that does nothing"
    assert page.shown() == ["s.b", "s.e"], page.shown()
    page.one("#show-fail").send_keys(Keys.SPACE)
    assert page.shown() == ["s.e"], page.shown()
    page.one("#case-s\\.e > summary").send_keys(Keys.ENTER)
    assert "deviation" in page.one("#case-s\\.e .body").text


def paper_shows_what_fails(page):
    page.load()
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    visible = "document.querySelector('#case-s\\\\.b .events').checkVisibility({contentVisibilityAuto: true})"
    assert page.run(visible), "a failing case is closed on paper"
    assert not page.one(".filter").is_displayed()
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def everything_has_a_name(page):
    page.load()
    page.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    kinds = ("link", "button", "checkbox", "searchbox", "DisclosureTriangle", "table")
    for node in tree:
        role = node.get("role", {}).get("value")
        if role in kinds and not node.get("ignored"):
            assert node.get("name", {}).get("value", "").strip(), f"a {role} without a name: {node}"
    ids = page.run("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(ids) == len(set(ids)), "an id occurs twice"
    missing = page.run(
        "[...document.querySelectorAll('a[href^=\"#\"]')].map(one => one.getAttribute('href').slice(1))"
        ".filter(id => !document.getElementById(id))"
    )
    assert missing == [], missing


def main():
    dfr0, example = sys.argv[1:]
    example = [json.loads(line) for line in Path(example).read_text().splitlines()]
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory) / "matrix"
        folder.mkdir()
        matrix(folder, example)
        path = Path(directory) / "page.html"
        status = subprocess.run([dfr0, "report", "html", "--out", path, folder], stderr=subprocess.PIPE, text=True)
        assert status.returncode == 1 and "silent@newest did not report" in status.stderr, status
        page = Page(path)
        tests = [
            first_screen_has_the_result,
            text_filters_cases,
            outcomes_filter_cases,
            the_keyboard_opens_a_case,
            a_link_opens_its_case,
            the_page_fits_a_phone_in_light_and_dark,
            the_page_is_complete_without_its_script,
            paper_shows_what_fails,
            everything_has_a_name,
        ]
        try:
            page.size(1280, 900)
            for test in tests:
                test(page)
                print(f"test {test.__name__} ... ok", flush=True)
        finally:
            page.driver.quit()
    print(f"test result: ok. {len(tests)} passed; 0 failed; 0 ignored; 0 measured; 0 filtered out")


main()
