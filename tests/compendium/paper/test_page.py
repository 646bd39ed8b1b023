# SPDX-License-Identifier: MIT
"""The page: every item of the paper in its order, whole in one file, readable on any screen, honest about gaps."""

import base64
import io
import re
from html.parser import HTMLParser

import chromium
import jupytext
import nbformat
import numpy as np
import pandas as pd
import pytest
from graph import calls
from PIL import Image

from compendium import commands, paths, profiles, published
from compendium.paper import contents, page, plotting, results
from compendium.paper.contents import Table
from tsvlib.errors import InputError

MINI = paths.ROOT / "figures" / "mini"
NOTEBOOKS = {source.stem: source for source in sorted((paths.ROOT / "notebooks").glob("*.py"))}
HOSTILE = "<script>alert('&amp;')</script> \" onerror=\"x"
needs_chromium = pytest.mark.skipif(not chromium.COMMAND, reason="there is no Chromium; install the package chromium")


@pytest.fixture(scope="module")
def mini():
    """Return what the checkout holds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TSV_OUTPUT", str(paths.ROOT))
        return contents.entries("mini")


@pytest.fixture
def made():
    """Put a figure, a table and their notebooks, all with awkward contents, where a run of smoke would."""
    plotting.use_style()
    figure, axis = plotting.plt.subplots(figsize=(6.75, 2))
    axis.plot(np.linspace(0, 1, 50) ** 2)
    plotting.save_figure(figure, "scaling", "smoke", alt=f"A rising line. {HOSTILE}", source="22_fig_scaling")
    plotting.plt.close(figure)
    rows = {f"column {number}": ["88.2 ± 0.5 (100.0)", HOSTILE, "x" * 60] for number in range(12)}
    table = pd.DataFrame(rows, index=pd.Index(["one", "two", "three"], name="Method"))
    results.save_table("merge", table, "smoke", f"A caption. {HOSTILE}", best=[("one", "column 3")])
    paths.notebooks("smoke").mkdir(parents=True)
    for name in ("13_merge", "22_fig_scaling", "30_tab_merge"):
        nbformat.write(jupytext.read(NOTEBOOKS[name]), paths.notebooks("smoke") / f"{name}.ipynb")


class Elements(HTMLParser):
    """The elements of a page with their attributes, which must nest."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def test_the_items_are_those_of_the_paper_in_its_order():
    names = [item.name for item in contents.items()]
    numbered = [name for name in names if re.match(r"(Figure|Table) \d", name)]
    assert numbered == [*(f"Figure {n}" for n in range(1, 19)), *(f"Table {n}" for n in range(1, 7))]
    assert [name for name in names if name not in numbered] == [
        "Tasks",
        "App. D.2.7",
        "Prop. 4.1, Thm 6.1",
        "All methods",
        "Costs",
        "Audit",
        "Claims",
    ]
    assert len({item.anchor for item in contents.items()}) == len(names)
    assert {table for item in contents.items() for table in item.published} <= set(published.NAMES)


@pytest.mark.parametrize("source", NOTEBOOKS.values(), ids=NOTEBOOKS)
def test_every_figure_and_table_that_a_notebook_makes_has_its_place(source):
    saved = calls(source, "plotting", "save_figure", position=1) | calls(source, "results", "save_table")
    assert saved == {stem for item in contents.items() if item.notebook == source.stem for stem in item.stems}
    if source.name[0] in "234" or source.stem in ("62_tab_beyond", "63_fig_costs"):
        assert source.stem in {item.notebook for item in contents.items()}


def test_nothing_is_missing_on_mini_that_a_notebook_makes(mini):
    missing = {entry.item.name for entry in mini if entry.missing}
    assert missing == {entry.item.name for entry in mini if entry.item.notebook not in NOTEBOOKS}
    for entry in mini:
        exhibits = [exhibit.stem for exhibit in entry.exhibits]
        assert entry.missing or exhibits or entry.elsewhere or not entry.item.stems
        assert all(step.run_time for step in entry.steps)


def test_an_item_is_shown_once_and_named_where_it_comes_again(mini):
    shown = [exhibit.stem for entry in mini for exhibit in entry.exhibits]
    assert len(set(shown)) == len(shown)
    by_name = {entry.item.name: entry for entry in mini}
    assert by_name["Figure 2"].exhibits[0].stem == "spectra"
    assert by_name["Figure 12"].elsewhere == by_name["Figure 2"].item


def test_computing_notebooks_come_before_the_one_that_draws(mini):
    radar = next(entry for entry in mini if entry.item.name == "Figure 4")
    assert [step.notebook for step in radar.steps] == ["13_merge", "14_compress", "23_fig_radar"]
    assert radar.steps[-1].run_time == "seconds"
    saves = {stem: calls(source, "results", "save") for stem, source in NOTEBOOKS.items()}
    for entry in (entry for entry in mini if entry.steps):
        loads = calls(NOTEBOOKS[entry.item.notebook], "results", "load")
        makers = [stem for stem, names in saves.items() if names & loads]
        assert [step.notebook for step in entry.steps] == [*makers, entry.item.notebook]


def test_tables_hold_the_cells_of_their_csv_and_pictures_the_figures(mini):
    for exhibit in (exhibit for entry in mini for exhibit in entry.exhibits):
        if isinstance(exhibit, Table):
            frame = pd.read_csv(MINI / f"{exhibit.stem}.csv", dtype=str, keep_default_na=False)
            cells = [[cell.text.removesuffix("†").replace("\u00a0", " ") for cell in row] for row in exhibit.rows]
            assert exhibit.head == list(frame.columns)
            assert cells == frame.to_numpy().tolist()
            marks = (MINI / f"{exhibit.stem}.md").read_text(encoding="utf-8").count("**†")
            assert sum(cell.best for row in exhibit.rows for cell in row) == marks
        else:
            with Image.open(MINI / f"{exhibit.stem}.png") as drawn, Image.open(io.BytesIO(exhibit.png)) as shown:
                assert shown.size == drawn.size == exhibit.size
                pixels = [np.asarray(image.convert("RGB"), dtype=int) for image in (drawn, shown)]
                assert abs(pixels[0] - pixels[1]).mean() < 3


def test_the_page_in_the_checkout_shows_what_the_checkout_holds(mini, monkeypatch):
    """Text and pixels, because compressed bytes may differ from one processor to another."""
    monkeypatch.setenv("TSV_OUTPUT", str(paths.ROOT))
    pages = [(MINI / "paper.html").read_text(encoding="utf-8"), page.html("mini", mini, page.preface("mini", mini))]
    assert len({re.sub(r"base64,[^\"]*", "", text) for text in pages}) == 1
    pictures = [[base64.b64decode(data) for data in re.findall(r"base64,([^\"]*)", text)] for text in pages]
    for committed, made in zip(*pictures, strict=True):
        with Image.open(io.BytesIO(committed)) as left, Image.open(io.BytesIO(made)) as right:
            assert left.convert("RGB").tobytes() == right.convert("RGB").tobytes()
    assert (MINI / "paper.pdf").read_bytes().startswith(b"%PDF-")
    assert sum((MINI / f"paper.{suffix}").stat().st_size for suffix in ("html", "pdf")) < 6e6


def test_what_was_not_run_is_told_and_no_error():
    page.build("smoke")
    text = (paths.figures("smoke") / "paper.html").read_text(encoding="utf-8")
    n_items = len(contents.items())
    assert f"Not run yet: {n_items} of {n_items} items." in text
    assert text.count('<p class="missing">not run</p>') == n_items
    assert "models are random" in text
    assert not Elements(text).all("img")


def test_backbones_and_suites_that_were_not_run_are_named(mini):
    assert not any("Not run:" in paragraph for paragraph in page.preface("mini", mini))
    whole = profiles.load("mini")
    part = page.preface("mini", mini, "mini-b16", "8 14")[0]
    assert part.endswith(f" Not run: {whole.backbones[0].label}, {whole.backbones[2].label}, 20 tasks.")
    chosen = ["--profile", "smoke", "--backbones", "smoke-l14", "--suites", "3"]
    assert commands.main(["page", *chosen]) == 0
    text = (paths.figures("smoke") / "paper.html").read_text(encoding="utf-8")
    assert f"Not run: {profiles.load('smoke').backbones[0].label}, 2 tasks." in text


def test_one_file_that_escapes_what_it_shows(made):
    page.build("smoke")
    text = (paths.figures("smoke") / "paper.html").read_text(encoding="utf-8")
    elements = Elements(text)
    assert not elements.all("script") + elements.all("link") + elements.all("iframe")
    assert not re.search(r"url\(|@import|https?:", text)
    (picture,) = elements.all("img")
    assert set(picture) == {"src", "width", "height", "alt"}
    assert picture["src"].startswith("data:image/png;base64,")
    assert picture["alt"] == f"A rising line. {HOSTILE}"
    assert text.count("&lt;script&gt;") >= 12
    assert '<td class="best">88.2\u00a0±\u00a00.5 (100.0)†</td>' in text
    folder = paths.figures("smoke")
    for link in elements.all("a"):
        if link["href"].startswith("#"):
            assert {"id": link["href"][1:]} in elements.all("article")
        else:
            assert (folder / link["href"]).is_file(), link


def test_the_same_contents_give_the_same_bytes(made):
    first = [file.read_bytes() for file in page.build("smoke")]
    assert [file.read_bytes() for file in page.build("smoke")] == first


def test_the_pdf_holds_every_item_and_every_picture_with_its_text(made):
    _, file = page.build("smoke")
    content = file.read_bytes()
    assert content.count(b"/Subtype /Image") == 1
    assert "A rising line.".encode("utf-16-be") in content or b"A rising line." in content
    assert content.count(b"/Dest ") + content.count(b"/Dest[") >= len(contents.items())
    assert b"/CreationDate (D:20000101000000Z" in content


@pytest.mark.parametrize(
    "damaged", ["figures/smoke/scaling.png", "figures/smoke/scaling.txt", "notebooks/smoke/13_merge.ipynb"]
)
def test_damaged_files_are_one_sentence(made, output, damaged, capsys):
    (output / damaged).write_bytes(b"\xff")
    with pytest.raises(InputError, match="make paper"):
        page.build("smoke")
    assert commands.main(["page", "--profile", "smoke"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_an_unknown_profile_is_one_sentence(capsys):
    assert commands.main(["page", "--profile", "huge"]) == 1
    assert "there is no profile 'huge'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium.started(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


BOXES = """[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll > *')).map(
  e => [e.tagName, e.getBoundingClientRect().right]).filter(([_, right]) => right > innerWidth)"""
PICTURES = "[...document.images].map(i => [i.alt, i.complete, i.naturalWidth, i.clientWidth, i.clientHeight])"
COLOURS = "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"


@needs_chromium
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(320, 600), (360, 740), (1280, 900)])
@pytest.mark.parametrize("which", ["mini", "awkward"])
def test_a_browser_shows_it_without_network_and_without_scrolling_sideways(made, browser, which, width, height, dark):
    file = MINI / "paper.html" if which == "mini" else page.build("smoke")[0]
    assert browser.open(file, width, height, dark=dark) == [file.as_uri()]
    assert browser.measure("innerWidth") == width
    assert browser.measure("document.documentElement.scrollWidth") <= width
    assert browser.measure(BOXES) == []
    pictures = browser.measure(PICTURES)
    assert len(pictures) == file.read_text(encoding="utf-8").count("<img ")
    for alt, complete, natural, across, down in pictures:
        assert alt
        assert complete
        assert natural > 0
        assert 150 < across <= width
        assert down > 50
    luminance = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in browser.measure(COLOURS)]
    assert (luminance[0] > luminance[1]) == dark
    assert abs(luminance[0] - luminance[1]) > 450


@needs_chromium
def test_every_link_of_the_page_leads_somewhere(browser):
    browser.open(MINI / "paper.html", 1280, 900)
    links = browser.measure("[...document.links].map(a => a.getAttribute('href'))")
    anchors = set(browser.measure("[...document.querySelectorAll('[id]')].map(e => e.id)"))
    assert links
    for link in links:
        assert link[1:] in anchors if link.startswith("#") else (MINI / link).is_file(), link
    assert {f"../../notebooks/{entry}.ipynb" for entry in NOTEBOOKS if entry[0] in "234"} <= set(links)
