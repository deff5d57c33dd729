"""Make docs/pictures/review.png: the review page of the demo's clips, in a headless Chromium.

    python -m benchmarks.review_picture demo/scores

The clips are made from a public-domain portrait, so the picture may be shown anywhere.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import click
from PIL import Image

from dfd_core.review.page import INDEX, write_page
from tests.browser import Browser, find_chromium

OUT = Path(__file__).parent.parent / "docs" / "pictures" / "review.png"
SIZE = (1180, 1130)
COLOURS = 256

# A lower video, without its controls, and no path of the machine that made the picture.
_ARRANGED = r"""(() => {
    const video = document.querySelector("video"), about = document.querySelector("#about");
    video.removeAttribute("controls");
    video.style.maxHeight = "400px";
    video.dispatchEvent(new Event("seeked"));
    about.textContent = about.textContent.replace(/\S*\/demo\//, "demo/");
})()"""


@click.command()
@click.argument("scores")
def main(scores: str) -> None:
    chromium = find_chromium()
    if chromium is None:
        raise click.ClickException("no Chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="dfd-picture-") as folder:
        page = Path(folder) / "page"
        write_page(scores, str(page))
        browser = Browser(chromium, Path(folder) / "chromium")
        try:
            shown = picture_of(browser, (page / INDEX).as_uri())
        finally:
            browser.close()
    OUT.parent.mkdir(exist_ok=True)
    shown.quantize(COLOURS, dither=Image.Dither.NONE).save(OUT, optimize=True)
    click.echo(f"{OUT}: {OUT.stat().st_size / 1e3:.0f} kB")


def picture_of(browser: Browser, address: str) -> Image.Image:
    """Return the view of the most suspicious video, with a face marked in it."""
    browser.forget()
    browser.window = SIZE
    browser.open(address + "#video/0")
    browser.until("document.querySelectorAll('.box').length && !document.querySelector('video').seeking")
    browser.run(_ARRANGED)
    browser.run("new Promise((done) => setTimeout(done, 500))")
    return Image.open(io.BytesIO(browser.screenshot())).convert("RGB")


if __name__ == "__main__":
    main()
