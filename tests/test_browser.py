"""Pages in a browser: they draw something, log no error, react to pointer and keyboard, and fit a phone and a printer.

These tests need Chromium, its driver and selenium; without them they are skipped.
"""

import base64
import re

import numpy as np
import pytest
from browser import is_blank, needs_chromium, screenshot
from test_tour import MODELS, decode

import minivit
from minivit.explain.tour import blocks, make_tour, write_tour
from minivit.training_pipeline.folder import RunFolder
from minivit.training_pipeline.results.tour_image import tour_of_run

webdriver = pytest.importorskip("selenium.webdriver")
waiting = pytest.importorskip("selenium.webdriver.support.ui")
pytestmark = [needs_chromium, pytest.mark.usefixtures("no_curve")]
MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def run(tmp_path_factory, no_curve):
    """A ViT that has learned the digits for a few epochs, with three blocks of two heads."""
    folder = tmp_path_factory.mktemp("browser") / "run"
    model = minivit.create_model("vit", **MODELS["token"][1])
    minivit.train(model, "digits", epochs=4, lr=5e-3, out=folder, progress=False, log_norms=True)
    return folder


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    """The tour of a test image."""
    path = tmp_path_factory.mktemp("page") / "tour.html"
    tour_of_run(RunFolder(run), "7", path)
    return path


def open_page(browser, path, choice=""):
    """Open a page and wait until it is drawn; return after how many milliseconds it was."""
    browser.get("about:blank")
    browser.get(f"file://{path}{choice}")
    return int(waiting.WebDriverWait(browser, 10).until(
        lambda b: b.execute_script("return document.documentElement.dataset.ready")))


def words(browser, name):
    return browser.find_element("id", name).text


def move_over(browser, name, row, column, side):
    """Move the pointer over a place of a map."""
    frame = browser.find_element("css selector", f"#{name} .map")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", frame)
    box = frame.rect
    offset = [int((place + 0.5) * box["width"] / side - box["width"] / 2) for place in (column, row)]
    webdriver.ActionChains(browser).move_to_element_with_offset(frame, *offset).perform()


# ---- the tour --------------------------------------------------------------------------------------------------------


def test_the_tour_is_drawn_within_a_second(browser, page):
    assert min(open_page(browser, page) for _ in range(3)) < 1000
    assert not is_blank(screenshot(browser))
    assert "Predicted" in words(browser, "verdict")
    for name in ("patch-map", "attention-map", "stream-chart", "all-heads", "dpixels-map", "weights-table"):
        element = browser.find_element("id", name)
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        assert not is_blank(screenshot(browser)), name


def test_the_page_says_where_the_class_token_looks_in_block_3_head_2_and_why(browser, run, page):
    open_page(browser, page, "#block=3&head=2")
    digits = minivit.load_data("digits")
    tour, numbers = make_tour(minivit.load(run), digits.test_images[7], int(digits.test_labels[7]))
    block = tour["blocks"][2]
    scores = decode(numbers, block["attention"]["scores"])[1, 0]      # of the class token, (N,)
    probs = np.exp(scores) / np.exp(scores).sum()
    order = np.argsort(-probs)
    q, k = (decode(numbers, block["vectors"][name])[1] for name in "qk")

    def name_of(token):
        return f"patch in row {(token - 1) // 4 + 1}, column {(token - 1) % 4 + 1}" if token else "class token"

    sentence = words(browser, "attention-sentence")
    assert sentence.startswith("In block 3, head 2, the class token looks most at ")
    assert name_of(order[0]) in sentence
    assert f"{100 * probs[order[0]]:.1f}% of its attention" in sentence
    rows = [[cell.text for cell in row.find_elements("css selector", "th, td")]
            for row in browser.find_elements("css selector", "#attention-table tbody tr")]
    assert [row[0] for row in rows] == [f"{i + 1}. {name_of(token)}" for i, token in enumerate(order[:5])]
    for row, token in zip(rows, order[:5], strict=True):
        score = float(row[2].replace(MINUS, "-"))
        assert score == pytest.approx(q[0] @ k[token] / np.sqrt(len(q[0])), rel=0.01, abs=0.002)
        assert float(row[3].strip("%")) == pytest.approx(100 * probs[token], abs=0.06)
        cosine = q[0] @ k[token] / np.linalg.norm(q[0]) / np.linalg.norm(k[token])
        assert float(row[4].replace(MINUS, "-")) == pytest.approx(cosine, abs=0.006)
    shown = browser.execute_script("""return [...document.querySelectorAll('#attention-table canvas')].map(
        (c) => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].filter((_, i) => i % 4 === 0))""")
    image = digits.test_images[7][..., 0]
    patches = [image[2 * y:2 * y + 2, 2 * x:2 * x + 2].ravel().tolist()
               for y, x in (divmod(token - 1, 4) for token in order[:5] if token)]
    assert shown == patches                                           # what the patches show


def test_hovering_a_patch_shows_where_it_looks(browser, page):
    open_page(browser, page, "#block=3&head=2")
    at_rest, before = words(browser, "attention-sentence"), screenshot(browser)
    move_over(browser, "attention-map", 1, 2, 4)
    assert words(browser, "attention-sentence").startswith("In block 3, head 2, the patch in row 2, column 3 looks")
    assert (screenshot(browser) != before).any()
    move_over(browser, "patch-map", 0, 3, 4)
    assert words(browser, "attention-sentence") == at_rest            # the pointer has left
    assert words(browser, "patch-caption").startswith("Row 1, column 4 is patch 4 of 16: pixel rows 1 to 2, pixel "
                                                      "columns 7 to 8.")


def test_a_click_chooses_a_token_everywhere_and_writes_the_address(browser, page):
    open_page(browser, page)
    move_over(browser, "patch-map", 2, 1, 4)
    webdriver.ActionChains(browser).click().perform()
    assert words(browser, "token-value") == "patch in row 3, column 2"
    assert browser.current_url.endswith("#block=1&head=1&token=3,2")
    address = browser.current_url.split("#")[1]
    open_page(browser, page, f"#{address}")
    assert words(browser, "token-value") == "patch in row 3, column 2"
    top = browser.execute_script("return document.getElementById('attention').getBoundingClientRect().top")
    assert abs(top) < 100                                             # the address leads to what it names
    browser.find_element("css selector", "#prefix-buttons button").click()
    assert words(browser, "token-value") == "class token"


def test_the_keyboard_reaches_everything(browser, page):
    open_page(browser, page)
    keys = webdriver.Keys
    frame = browser.find_element("css selector", "#attention-map .map")
    frame.send_keys(keys.ARROW_RIGHT)
    frame.send_keys(keys.ARROW_DOWN, keys.ARROW_RIGHT, keys.ARROW_RIGHT, keys.ARROW_RIGHT, keys.ARROW_RIGHT)
    assert words(browser, "token-value") == "patch in row 2, column 4"
    browser.find_element("id", "block").send_keys(keys.ARROW_RIGHT, keys.ARROW_RIGHT)
    browser.find_element("id", "head").send_keys(keys.ARROW_RIGHT)
    assert (words(browser, "block-value"), words(browser, "head-value")) == ("3 of 3", "2 of 2")
    spoken = browser.execute_script("return document.getElementById('live').textContent")
    assert spoken == words(browser, "attention-sentence")
    assert spoken.startswith("In block 3, head 2, the patch in row 2, column 4 looks")
    browser.find_element("css selector", "#all-heads button").send_keys(keys.ENTER)
    assert words(browser, "block-value") == "1 of 3"
    tab = browser.find_element("id", "tab-image")
    tab.send_keys(keys.ARROW_RIGHT)
    assert browser.switch_to.active_element.get_attribute("id") == "tab-training"
    assert "epochs" in words(browser, "training-text")


def test_screen_readers_find_names_for_all_controls_and_pictures(browser, page):
    open_page(browser, page)
    tree = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"button", "slider", "tab", "radio", "image", "img", "link", "application", "tabpanel", "group",
             "radiogroup"}
    nodes = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree
             if not node["ignored"] and node["role"]["value"] in roles]
    assert len(nodes) > 60
    assert [role for role, name in nodes if not name.strip()] == []


def test_the_training_is_on_the_second_tab(browser, run, page):
    open_page(browser, page)
    browser.find_element("id", "tab-training").click()
    charts = browser.find_elements("css selector", "#training-panel svg.chart")
    assert [chart.is_displayed() for chart in charts] == [True] * 6
    assert not browser.find_element("id", "pixels").is_displayed()
    last = RunFolder(run).read_log()[-1]
    assert f"{last['step']} steps in {last['epoch']} epochs" in words(browser, "training-text")
    lines = [len(chart.find_elements("css selector", "polyline")) for chart in charts]
    assert lines == [1, 2, 1, 1, len(last["grad_norms"]), len(last["weight_norms"])]
    points = charts[0].find_element("css selector", "polyline").get_attribute("points")
    heights = [float(point.split(",")[1]) for point in points.split()]
    losses = [record["loss"] for record in RunFolder(run).read_log()]
    assert np.corrcoef(heights, losses)[0, 1] == pytest.approx(-1, abs=1e-4)    # SVG counts from the top
    assert not is_blank(screenshot(browser))


def test_dark_mode_is_dark(browser, page):
    open_page(browser, page)
    light = screenshot(browser).mean()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia",
                            {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})
    open_page(browser, page)
    dark = screenshot(browser)
    assert light > 200 > 80 > dark.mean()
    assert not is_blank(dark)


def test_a_phone_needs_no_sideways_scrolling(browser, page):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True})
    open_page(browser, page)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    assert not is_blank(screenshot(browser))
    browser.find_element("id", "tab-training").click()
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360


def test_print_shows_both_parts_and_no_controls(browser, page):
    open_page(browser, page, "#block=3&head=2")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    shown = {name: browser.find_element("id", name).is_displayed()
             for name in ("image-panel", "training-panel", "attention-sentence", "tab-image", "block", "stages")}
    assert shown == {"image-panel": True, "training-panel": True, "attention-sentence": True, "tab-image": False,
                     "block": False, "stages": False}
    content = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert content.startswith(b"%PDF")
    assert 4 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 20
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


@pytest.mark.parametrize("most", [blocks.MOST_NUMBERS, 9_000])
@pytest.mark.parametrize("name", MODELS)
def test_every_family_is_drawn_and_every_block_and_head_can_be_chosen(browser, tmp_path, monkeypatch, name, most):
    monkeypatch.setattr(blocks.plan, "__defaults__", (most,))
    family, options = MODELS[name]
    model = minivit.create_model(family, **options)
    model.vector[:] = 0.3 * np.random.default_rng(3).standard_normal(model.vector.size)
    image = np.random.default_rng(5).integers(0, 256, model.input_shape, np.uint8)
    tour, numbers = make_tour(model, image)
    write_tour(tmp_path / "tour.html", tour, numbers, image, title="noise")
    open_page(browser, tmp_path / "tour.html")
    assert not is_blank(screenshot(browser))
    said = browser.execute_script("""return [...document.querySelectorAll('#all-heads button')].map((button) => {
        button.click();
        return [button.getAttribute('aria-pressed'), document.getElementById('attention-sentence').textContent];
    })""")
    where = [f"block {l + 1}, head {a + 1}" for l, block in enumerate(tour["blocks"]) for a in range(block["heads"])]
    assert [pressed for pressed, _ in said] == ["true"] * len(where)
    assert [place for place, (_, sentence) in zip(where, said, strict=True) if place not in sentence] == []
    move_over(browser, "attention-map", 0, 0, 4)
    assert "row 1, column 1 looks" in words(browser, "attention-sentence")
    hidden = {"token": ["window-text"], "swin": ["positions"], "mean": ["positions", "window-text"]}.get(name, [])
    assert [browser.find_element("id", part).is_displayed() for part in hidden] == [False] * len(hidden)


def test_the_page_computes_the_bias_of_the_model(browser, tmp_path):
    """q.k / sqrt d in the table is the score without the bias, which the page looks up in the model's table."""
    for name in ("biased", "swin"):
        family, options = MODELS[name]
        model = minivit.create_model(family, **options)
        model.vector[:] = 0.3 * np.random.default_rng(3).standard_normal(model.vector.size)
        image = np.random.default_rng(5).integers(0, 256, model.input_shape, np.uint8)
        tour, numbers = make_tour(model, image)
        write_tour(tmp_path / "tour.html", tour, numbers, image, title="noise")
        for choice in ("#block=2&head=2&token=2,3", "#block=2&head=1&token=class-token", "#block=2&head=1&token=8,8"):
            open_page(browser, tmp_path / "tour.html", choice)
            rows = browser.find_elements("css selector", "#attention-table tbody tr")
            cells = [cell.text.replace(MINUS, "-") for cell in rows[0].find_elements("css selector", "td")]
            products = browser.find_elements("css selector", "#product-vectors .vector")[2].text.replace(MINUS, "-")
            dot = float(re.search(r"sum (\S+)", products)[1])
            assert float(cells[1]) == pytest.approx(dot, rel=0.01, abs=0.005)
            assert float(cells[1]) + float(cells[2]) == pytest.approx(float(cells[3]), rel=0.01, abs=0.01)


# ---- other pages -----------------------------------------------------------------------------------------------------


def test_the_report_of_a_run_is_drawn(browser, run):
    browser.get(f"file://{run / 'report.html'}")
    assert not is_blank(screenshot(browser))
    assert "Accuracy on" in browser.find_element("tag name", "body").text
    assert len(browser.find_elements("css selector", "svg polyline")) >= 3
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True})
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
