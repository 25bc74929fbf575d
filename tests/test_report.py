"""The page of a run: what is on it, in a browser and without one."""

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from minidareu.report import __main__ as report, page as report_page
from minidareu.report.details import spread_rows, word_rows, words_of
from minidareu.files import InputError, read_lines, write_json, write_lines
from minidareu.metrics import words
from minidareu.run.folder import SAMPLES
from minidareu.tokenizer import train_tokenizer

ROOT = Path(__file__).parent.parent
STRANGE = "<script>alert(1)</script> שלום & <b>bold</b>"


def test_the_page_is_small_and_made_again_the_same(run, tmp_path):
    out = run[1]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert len(page.encode()) < 2_000_000 and "__DATA__" not in page
    assert (
        "http://" not in page.replace("http://www.w3.org/2000/svg", "") and "https://" not in page
    )
    for name in ("results.json", "log.jsonl", "samples.jsonl"):
        shutil.copy(out / name, tmp_path / name)
    report.main(["--run", str(tmp_path)])
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page
    (tmp_path / "log.jsonl").unlink()
    with pytest.raises(InputError, match="not of a finished run"):
        report.main(["--run", str(tmp_path)])


def test_sentences_are_made_from_the_scores(run):
    results = json.loads((run[1] / "results.json").read_text())
    asked, came, language, held = report_page.sentences(results)[:4]
    assert f"gibberish: original {results['models']['original']['gibberish']:.0%}" in language
    assert asked.startswith(", ".join(results["forget"])) and "2 of 12 owners" in asked
    assert f"dareu_plus {results['models']['dareu_plus']['fact_recall']:.0%}" in came
    methods = ("dareu", "dareu_plus")
    best = max(methods, key=lambda name: results["models"][name]["tow"])
    assert f"is {best}, with a Tug-of-War of {results['models'][best]['tow']:.3f}" in held


def test_a_word_is_all_of_its_tokens_and_raises_add_up():
    tokenizer = train_tokenizer(["Lena was born in Tarvik"] * 3, 270)
    ids = tokenizer.encode_ordinary(" Lena was born in Élan, שלום.")
    found = words_of(tokenizer, ids)
    assert [text for text, _ in found] == ["Lena", "was", "born", "in", "Élan,", "שלום."]
    assert found[-1][1] == len(ids) and len(ids) > 6
    attribution = [i / 100 for i in range(len(ids) + 1)]
    rows = word_rows(tokenizer, ids, attribution)
    assert sum(raised for _, raised in rows) == pytest.approx(attribution[-1])
    assert spread_rows(list(range(10)), 4) == [0, 3, 6, 9] and spread_rows([1], 4) == [0]


def test_the_words_shaded_most_are_the_facts(run):
    """Of the shade on the original model's answers, at least .8 is on words that the prompt lacks."""
    samples = read_lines(run[1] / "samples.jsonl")
    facts = total = 0
    for row in samples:
        known = set(words(row["prompt"]))
        for text, raised in row["original"]["words"]:
            total += max(0, raised)
            facts += max(0, raised) * (not set(words(text)) <= known)
    assert total > 5 and facts / total >= 0.8


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\ufffe", "\t", "🌳"])
def test_a_picture_of_any_text_is_well_formed(character):
    words = [[f"one{character}two", 0.1], ["three", 0.9]]
    picture = report_page.draw_answers(
        [{"prompt": f"who{character}?", "ga": {"words": words}}], ["ga"]
    )
    shown = "".join(ElementTree.fromstring(picture.encode()).itertext())
    assert "who" in shown and "three" in shown and "gradient ascent" in shown


def test_a_picture_of_answers(run, tmp_path):
    rows, picture = read_lines(run[1] / SAMPLES), tmp_path / "a.svg"
    argv = ["--run", str(run[1]), "--picture", str(picture), "--prompts", "3", "5"]
    report.main([*argv, "--models", "original,dareu_plus"])
    drawing = ElementTree.parse(picture).getroot()
    texts = ["".join(node.itertext()) for node in drawing.iter() if node.tag.endswith("text")]
    for i, begin in ((3, 0), (5, 5)):
        assert texts[begin] == rows[i]["prompt"]
        assert texts[begin + 1 : begin + 5 : 2] == ["original model", "DareU+"]
        said = rows[i]["original"]["response"]
        assert texts[begin + 2].replace(" ", "") == said.replace(" ", "")
    assert report_page.shade(0) == "#222222" and report_page.shade(0.5) == "#d65400"
    for flags, says in ((["--prompts", "99"], "--prompts"), (["--models", "npo"], "--models npo")):
        with pytest.raises(InputError, match=says):
            report.main([*argv, *flags])


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright")
    chromium = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])


@pytest.fixture
def page(browser, run, tmp_path):
    """The page of the toy run, where one prompt and answers hold markup and right-to-left text."""
    for name in ("results.json", "log.jsonl", "samples.jsonl"):
        shutil.copy(run[1] / name, tmp_path / name)
    samples = read_lines(tmp_path / "samples.jsonl")
    samples[0]["prompt"] = STRANGE
    samples[0]["original"]["words"] = [[word, 0.5, 0.5] for word in STRANGE.split()]
    text = "".join(json.dumps(row) + "\n" for row in samples)
    (tmp_path / "samples.jsonl").write_text(text)
    report.write_report(tmp_path)
    page = browser.new_page(viewport={"width": 400, "height": 800}, color_scheme="dark")
    page.messages = []
    page.on("console", lambda message: page.messages.append(message.text))
    page.on("pageerror", lambda error: page.messages.append(str(error)))
    page.goto((tmp_path / "report.html").as_uri())
    yield page
    assert page.messages == []
    page.close()


def test_the_page_loads_and_names_are_text(page):
    took = page.evaluate(
        "performance.timing.domContentLoadedEventEnd - performance.timing.navigationStart"
    )
    assert took < 1000
    assert page.locator("article h3").first.inner_text() == STRANGE
    assert page.locator("article script, article b").count() == 0
    assert page.locator("#chart polyline").count() == 2
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 400, "nothing but tables and the chart is wider than the window"


def test_filters_filter_and_search_finds(page):
    count = page.locator("#count")
    assert count.inner_text() == "24 of 24 prompts."
    found = 0
    for kind in ("still told", "forgotten", "renamed", "gibberish"):
        page.get_by_role("button", name=kind).click()
        n = int(count.inner_text().split()[0])
        model = page.locator("#model").input_value()
        labels = page.locator(f"#prompts .name:has-text('{model}:') .became").all_inner_texts()
        assert labels == [kind] * min(n, 20)
        found += n
    assert found == 24
    page.get_by_role("button", name="all").click()
    page.locator("#search").fill("<SCRIPT>")
    assert count.inner_text() == "1 of 24 prompts."
    page.locator("#search").fill("no such word")
    assert page.locator("#prompts article").count() == 0
    page.locator("#search").fill("")
    page.locator("#more").click()
    assert page.locator("#prompts article").count() == 24


def test_words_are_shaded_the_order_sorts_and_the_slider_slides(page):
    shades = "[...document.querySelectorAll('#prompts .word')].map(w => w.style.backgroundColor)"
    assert len(set(page.evaluate(shades))) > 2
    page.locator("#model").select_option("original")
    page.locator("#order").select_option("facts")
    first = page.locator("#prompts article").first
    assert first.locator(".became").first.inner_text() == "still told"
    slider, now = page.locator("#updates"), page.locator("#now")
    assert "the original model" in now.inner_text()
    slider.focus()
    for _ in range(9):
        slider.press("ArrowRight")
    assert "dareu: after update 40" in now.inner_text()


def test_two_runs_beside_one_another(run, tmp_path, capsys):
    """A copy of a run with one answer and one score changed."""
    other = tmp_path / "other"
    other.mkdir()
    for name in ("results.json", "log.jsonl", "samples.jsonl"):
        (other / name).write_bytes((run[1] / name).read_bytes())
    results, rows = json.loads((other / "results.json").read_text()), read_lines(other / SAMPLES)
    results["models"]["dareu"]["tow"] = 0.1234
    rows[3]["dareu"]["response"] = "Something else."
    write_json(other / "results.json", results)
    write_lines(other / SAMPLES, rows)
    picture = ["--picture", str(tmp_path / "a.png")]
    report.main(["--compare", str(run[1]), str(other), *picture])
    printed = capsys.readouterr().out
    assert printed.count("original, ") == 1, "the same scores are told once"
    assert printed.count("dareu, ") == 2 and "0.123" in printed
    assert "dareu: 1 of 24 answers differ" in printed and "dareu_plus: " not in printed
    assert "other: Something else." in printed
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    write_lines(other / SAMPLES, rows[1:])
    with pytest.raises(InputError, match="two runs of the same data"):
        report.main(["--compare", str(run[1]), str(other), *picture])
