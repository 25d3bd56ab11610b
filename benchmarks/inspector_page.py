"""How fast the inspector page reacts, with many sites in its largest layer, in a headless Chromium.

    python -m benchmarks.inspector_page                          # a layer of 100,000 sites
    python -m benchmarks.inspector_page --sites 10000 --repeats 20 --page page.html

Times are in milliseconds, from the user's action to the frame that shows its result; a frame of a drag is the time
between two frames while the mouse turns the picture.  Chromium draws on the processor (SwiftShader): where there is a
GPU, frames are much faster.  Needs the extras inspect and test, and Debian's packages chromium and chromium-driver.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import sparsenet as sn
from sparsenet.info import processor_name
from sparsenet.inspect.page import write_page

FLAGS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader",
         "--enable-unsafe-swiftshader", "--window-size=1400,1000", "--no-first-run")
SECONDS = 300  # that a step may take
# Runs an action and answers with the milliseconds until the frame after the page has drawn
TIMED = """
const [action, done] = [arguments[0], arguments[arguments.length - 1]];
const frame = () => new Promise((next) => requestAnimationFrame(next));
(async () => {
  await frame();
  const begun = performance.now();
  const before = document.documentElement.dataset.drawn;
  new Function("value", action)(arguments[1]);
  while ("busy" in document.documentElement.dataset || document.documentElement.dataset.drawn === before) await frame();
  await frame();
  done(performance.now() - begun);
})();
"""
CHOOSE = "document.getElementById(%r).value = value; document.getElementById(%r).%s;"
CHANGE = "dispatchEvent(new Event('change'))"
ACTIONS = {
    "select a site": CHOOSE % ("row", "choose", "click()"),
    "change the channel": CHOOSE % ("channel", "channel", CHANGE),
    "change the layer and back": CHOOSE % ("layer", "layer", "dispatchEvent(new Event('input'))"),
}
FRAMES = """
window.frames = [];
const note = (now) => { window.frames.push(now); window.counting = requestAnimationFrame(note); };
window.counting = requestAnimationFrame(note);
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=100_000, metavar="N", help="of the layer (default: 100000)")
    parser.add_argument("--repeats", type=int, default=10, metavar="N", help="of each action (default: 10)")
    parser.add_argument("--page", type=Path, metavar="FILE", help="keep the page here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page = (args.page or Path(folder) / "page.html").absolute()
        size, sites = make_page(page, args.sites)
        print(f"{processor_name()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        print(f"{page.name}: {size / 1e6:.1f} MB, {sites:,} sites in convolution1")
        with chromium() as driver:
            measure(driver, page, sites, args.repeats)


def make_page(path: Path, wanted: int) -> tuple[int, int]:
    """Write a page whose first convolution makes about so many sites: a sphere.  Returns its bytes, and the sites."""
    radius = np.sqrt(wanted / 24.5)
    side = 2 * int(radius) + 8
    centre = (side - 1) / 2
    grid = np.indices((side,) * 3, np.float32) - centre
    cells = np.argwhere(np.abs(np.sqrt((grid**2).sum(axis=0)) - radius) < 0.5)
    x = sn.SparseTensor(np.ones((len(cells), 1), np.float32), np.insert(cells, 0, 0, axis=1), (side,) * 3, 1)
    net = sn.SparseNetwork(seed=1).add_convolution(4, 2).add_leaky_relu(0.33).add_max_pool(3, 2)
    net.add_convolution(8, 2).add_leaky_relu(0.33).add_max_pool(3, 2).add_global_pool().add_linear(4)
    size = write_page(path, net, x, None, ["a", "b", "c", "d"], "a sphere")
    return size, len(net.activations(x)[0].features)


@contextmanager
def chromium() -> Iterator[Any]:
    """A driver of a headless Chromium."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for flag in FLAGS:
        options.add_argument(flag)
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        driver.set_script_timeout(SECONDS)
        yield driver
    finally:
        driver.quit()


def measure(driver: Any, page: Path, sites: int, repeats: int) -> None:
    """Print the times of all actions."""
    begun = time.perf_counter()
    driver.get(f"{page.as_uri()}#layer=1")
    driver.execute_async_script("""
        const done = arguments[0];
        const look = () => document.documentElement.dataset.ready ? done() : requestAnimationFrame(look);
        look();""")
    print(f"{'open':28} {1000 * (time.perf_counter() - begun):8.0f}")
    print(f"{'':28} {'median':>8} {'p95':>8}")
    rng = np.random.default_rng(0)
    rows = rng.integers(0, sites, repeats).tolist()
    report("select a site", [timed(driver, "select a site", row) for row in rows])
    layers = [timed(driver, "change the layer and back", layer) for _ in range(repeats) for layer in (2, 1)]
    report("change the layer and back", [sum(layers[i:i + 2]) for i in range(0, len(layers), 2)])
    driver.execute_async_script(TIMED, CHOOSE % ("colour", "colour", CHANGE), "channel")
    report("change the channel", [timed(driver, "change the channel", k % 3 + 1) for k in range(repeats)])
    report("move the mouse, a frame", frames(driver, repeats, buttons=0))
    report("drag, a frame", frames(driver, repeats, buttons=1))


def timed(driver: Any, action: str, value: int) -> float:
    return driver.execute_async_script(TIMED, ACTIONS[action], value)


def frames(driver: Any, repeats: int, buttons: int) -> list[float]:
    """The milliseconds between frames while the mouse moves over the layer's picture, with a button held or none."""
    x, y = driver.execute_script("""
        document.getElementById("layer-plot").scrollIntoView({ block: "center" });
        const box = document.getElementById("layer-plot").getBoundingClientRect();
        return [box.left + box.width / 2, box.top + box.height / 2]""")

    def mouse(kind: str, step: int) -> None:
        button = {"button": "left", "buttons": 1} if buttons else {}
        driver.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": kind, "x": x + 3 * step, "y": y + step, **button,
                                                            "clickCount": 1})

    if buttons:
        mouse("mousePressed", 0)
    mouse("mouseMoved", 1)
    driver.execute_script(FRAMES)
    for step in range(2, 4 * repeats):
        mouse("mouseMoved", step)
    seen = driver.execute_script("cancelAnimationFrame(window.counting); return window.frames")
    if buttons:
        mouse("mouseReleased", 4 * repeats)
    return np.diff(seen).tolist()


def report(name: str, milliseconds: list[float]) -> None:
    p50, p95 = np.percentile(milliseconds, [50, 95])
    print(f"{name:28} {p50:8.0f} {p95:8.0f}", flush=True)


if __name__ == "__main__":
    main()
