"""The page of web_demo, with the bundle that android_demo ships, in a real Chromium."""

import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from bench_parts import of_release_0_1, with_decision
from browser_parts import CLASSIFY, WEB_DEMO, installed_node_modules, playwright, served, watched
from conftest import ROOT
from test_docs import program_of, text_of

from kdedge import load_bundle
from kdedge.bundle.manifest import MANIFEST, SAMPLE_TEXTS, copy_bundle, verify, write_manifest
from kdedge.runtime import TextModel
from kdedge.tasks.classification import Prediction
from kdedge.text.encoder import TextEncoder
from kdedge.text.familiarity import FAMILIARITY, Familiarity
from kdedge.text.pairs import Pair

BUNDLE = ROOT / "android_demo" / "app" / "src" / "main" / "assets" / "bundle"
SCREENSHOTS = ROOT / "runs" / "web_demo"
# Each processor rounds activations to 8 bits in its own way.
WITHIN = 2e-3
TASKS = json.loads((ROOT / "tests" / "golden" / "tasks.json").read_text())
HOSTILE = json.loads((ROOT / "tests" / "golden" / "hostile.json").read_text())
TOKENIZER = json.loads((ROOT / "tests" / "golden" / "tokenizer.json").read_text())
GOLDEN = ROOT / "tests" / "golden" / "familiarity.json"
UNFAMILIAR = ("my card was declined", "set an alarm for half past six tomorrow")
# Types halves of surrogate pairs into the page, which can't be sent as Python strings.
TYPE_ALL = """async (hostile) => {
    const [box, status] = ["text", "status"].map((id) => document.getElementById(id));
    const outputs = [];
    for (const { text, repeat, count } of hostile) {
        const changed = new Promise((resolve) =>
            new MutationObserver(resolve).observe(status, { childList: true }));
        box.value = text ?? repeat.repeat(count);
        box.dispatchEvent(new Event("input"));
        await changed;
        const scores = [...document.querySelectorAll("meter")].map(({ value }) => value);
        outputs.push([status.textContent, status.className, scores]);
    }
    return outputs;
}"""


def to_web(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "converters.to_web", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that converters.to_web makes."""
    installed_node_modules()
    site = tmp_path_factory.mktemp("web") / "site"
    done = to_web(BUNDLE, "--out", site)
    assert (done.returncode, done.stderr) == (0, "")
    return site


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with served(site) as address:
        yield address


@pytest.fixture
def page(browser: "playwright.Browser", address: str) -> Iterator["playwright.Page"]:
    with watched(browser, address) as page:
        page.goto("/")
        wait_until_ready(page)
        yield page


@pytest.fixture(scope="module")
def classifier() -> TextModel:
    return load_bundle(BUNDLE)


@pytest.fixture(scope="module")
def samples() -> list[str]:
    return (BUNDLE / "sample_texts.txt").read_text(encoding="utf-8").splitlines()


def box(page: "playwright.Page") -> "playwright.Locator":
    return page.get_by_label("Text to classify")


def answers(page: "playwright.Page") -> "playwright.Locator":
    return page.get_by_role("listitem")


def status(page: "playwright.Page") -> "playwright.Locator":
    return page.get_by_role("status")


def wait_until_ready(page: "playwright.Page") -> None:
    playwright.expect(box(page)).to_be_focused(timeout=20_000)


def wait_until_kept(page: "playwright.Page") -> None:
    # `wait_for_function` treats the promise of an async function as true.
    page.evaluate(
        """async () => {
          while ((await (await caches.open("/")).keys()).length <= 8)
            await new Promise((resolve) => setTimeout(resolve, 50));
        }"""
    )


def test_the_bundle_is_packed_as_it_is(site: Path) -> None:
    models = site / "models"
    assert verify(models / "bundle") == verify(BUNDLE)
    assert (models / "bundle" / MANIFEST).read_bytes() == (BUNDLE / MANIFEST).read_bytes()
    assert json.loads((models / "index.json").read_text()) == {
        "model": "bundle",
        "artifact": "litert-int8-lengths",
        "samples": True,
    }


def assert_same_probabilities(
    answers: list[list[dict[str, Any]]], expected: Sequence[Prediction]
) -> None:
    """Compare the page's answers with Python's."""
    for scores, one in zip(answers, expected, strict=True):
        by_label = {score["label"]: score["score"] for score in scores}
        assert by_label == pytest.approx(one.probabilities, abs=WITHIN)


def test_the_same_as_python_on_100_texts(
    page: "playwright.Page", classifier: TextModel, samples: list[str]
) -> None:
    # Ten are cut, and must keep their [SEP].
    texts = samples[:88] + [" ".join(samples[i : i + 6]) for i in range(10)] + [*UNFAMILIAR]
    answers = page.evaluate(CLASSIFY, texts)
    expected = classifier.predict(texts)
    assert len({one.label for one in expected}) == 2
    assert_same_probabilities(answers, expected)
    for scores, one in zip(answers, expected, strict=True):
        assert scores[0]["label"] == one.label
        assert scores[0]["unsure"] == one.unsure
    assert all(one.unsure for one in expected[98:])


def test_answers_of_tasks(page: "playwright.Page") -> None:
    program = """async (vectors) => {
        const { labelsOf } = await import("/tasks.js");
        return vectors.map(({ task, outputs }) => labelsOf(task, outputs));
    }"""
    found = page.evaluate(program, TASKS)
    assert found == [vector["labels"] for vector in TASKS]


def test_a_task_that_the_page_does_not_know(page: "playwright.Page") -> None:
    program = """async () => {
        const { decide } = await import("/classifier.js");
        try {
            decide({ name: "ranking" }, { temperature: 2, thresholds: [] }, [0.5], 0, 1);
        } catch ({ message }) {
            return message;
        }
    }"""
    message = page.evaluate(program)
    assert message.startswith("The task ranking is not supported; supported: classification, ")


def test_words_have_the_ids_of_the_tokenizers_package(page: "playwright.Page") -> None:
    rng = random.Random(1)
    texts = [vector["text"] for vector in TOKENIZER["vectors"]]
    letters = sorted({letter for text in texts for letter in text[:200]})
    texts += ["film films\tFilm,film! 1.5% snake_case a  b\n", "said [SEP] [sep] [MASK]x", ""]
    texts += ["".join(rng.choices([*letters, *"  aeist.,"], k=30)) for _ in range(2000)]
    program = """async (texts) => {
        await (await import("/classifier.js")).loadClassifier();
        const { Tokenizer } = await import("@huggingface/tokenizers");
        const read = async (name) => (await fetch(`/models/bundle/${name}.json`)).json();
        const tokenizer = new Tokenizer(await read("tokenizer"), await read("tokenizer_config"));
        const words = (await import("/words.js")).wordTable(tokenizer);
        const plain = (text) => tokenizer.encode(text, { add_special_tokens: false }).ids;
        const differs = (text) => `${words(text)}` !== `${plain(text)}`;
        // The second time the table has their words.
        return [...texts, ...texts].filter(differs).concat(words("a moving, funny film"));
    }"""
    ids = TextEncoder.load(BUNDLE).token_ids(["a moving, funny film"])[0]
    assert page.evaluate(program, texts) == list(ids)[1:-1]


def test_pairs_of_texts(browser: "playwright.Browser", samples: list[str], tmp_path: Path) -> None:
    bundle = shutil.copytree(BUNDLE, tmp_path / "bundle")
    manifest = verify(bundle)
    files = {name: sha for name, sha in manifest.files.items() if name != SAMPLE_TEXTS}
    update = {"pairs": True, "files": files}
    write_manifest(bundle, manifest.model_copy(update=update))
    assert to_web(bundle, "--out", tmp_path / "site").returncode == 0
    # The last five are truncated.
    firsts = [*samples[:20], *(" ".join(samples[i : i + 4]) for i in range(5))]
    pairs = [*zip(firsts, reversed(firsts), strict=True)]
    expected = load_bundle(bundle).predict([Pair(*pair) for pair in pairs])
    with served(tmp_path / "site") as address, watched(browser, address) as page:
        page.goto("/")
        answers = page.evaluate(CLASSIFY, pairs)
    assert_same_probabilities(answers, expected)


@pytest.mark.skipif(shutil.which("node") is None, reason="apt install nodejs")
def test_golden_familiarity(tmp_path: Path) -> None:
    shutil.copyfile(WEB_DEMO / "familiarity.js", tmp_path / "familiarity.mjs")
    (tmp_path / "program.mjs").write_text("""
        import { readFileSync } from "node:fs";
        import { familiarityOf } from "./familiarity.mjs";
        const { tables, vectors, refused } = JSON.parse(readFileSync(process.argv[2]));
        const familiarities = tables.map(({ tokens, size, bytes }) => {
            const content = new Uint8Array(size);
            for (const [place, byte] of Object.entries(bytes)) content[place] = byte;
            return familiarityOf(content.buffer, tokens);
        });
        const messages = refused.map(({ tokens, size }) => {
            try {
                familiarityOf(new ArrayBuffer(size), tokens);
            } catch ({ message }) {
                return message;
            }
        });
        const scores = vectors.map(({ table, ids }) => familiarities[table](ids));
        console.log(JSON.stringify({ scores, messages }));
    """)
    command = ["node", tmp_path / "program.mjs", GOLDEN]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found, golden = json.loads(done.stdout), json.loads(GOLDEN.read_text())
    assert found["scores"] == [vector["familiarity"] for vector in golden["vectors"]]
    for message, case in zip(found["messages"], golden["refused"], strict=True):
        assert message.startswith(f"familiarity.bin is damaged: it has {case['size']} bytes")


def test_a_bundle_with_a_decision_and_without_texts(
    browser: "playwright.Browser", samples: list[str], tmp_path: Path
) -> None:
    bundle = with_decision(BUNDLE, tmp_path / "bundle")
    assert to_web(bundle, "--out", tmp_path / "site").returncode == 0
    assert not list((tmp_path / "site").rglob("sample_texts.txt"))
    texts = [*samples[:30], "好 好 film 好", "\u200b"]
    expected = load_bundle(bundle).predict(texts)
    with served(tmp_path / "site") as address, watched(browser, address) as page:
        page.goto("/")
        wait_until_ready(page)
        playwright.expect(page.get_by_role("button", name="Try an example")).to_be_hidden()
        answers = page.evaluate(CLASSIFY, texts)
        box(page).fill(texts[-2])
        playwright.expect(status(page)).to_have_text(re.compile("^unsure, in "))
        playwright.expect(page.locator("li.holds")).to_have_count(0)
    assert 2 < sum(one.unsure for one in expected) < 30
    assert_same_probabilities(answers, expected)
    for scores, one in zip(answers, expected, strict=True):
        assert {score["unsure"] for score in scores} == {one.unsure}


def test_a_bundle_of_an_older_release(
    browser: "playwright.Browser", samples: list[str], tmp_path: Path
) -> None:
    bundle = of_release_0_1(BUNDLE, tmp_path / "bundle")
    assert to_web(bundle, "--out", tmp_path / "site").returncode == 0
    texts = [*samples[:5], *UNFAMILIAR]
    expected = load_bundle(bundle).predict(texts)
    with served(tmp_path / "site") as address, watched(browser, address) as page:
        page.goto("/")
        answers = page.evaluate(CLASSIFY, texts)
    assert_same_probabilities(answers, expected)
    for scores, one in zip(answers, expected, strict=True):
        assert not scores[0]["unsure"] and not one.unsure


def test_texts_that_are_not_familiar(
    browser: "playwright.Browser", samples: list[str], tmp_path: Path
) -> None:
    known = Familiarity.fit(TextEncoder.load(BUNDLE), samples[30:])
    bundle = with_decision(BUNDLE, tmp_path / "bundle", known)
    site = tmp_path / "site"
    assert to_web(bundle, "--out", site).returncode == 0
    # The last one is truncated, and keeps its [SEP].
    texts = [*samples[:30], *UNFAMILIAR, " ".join(samples[30:40])]
    expected = load_bundle(bundle).predict(texts)
    # Though the model is sure of them.
    assert all(one.unsure and one.probability > 0.6 for one in expected[30:-1])
    assert not all(one.unsure for one in expected)
    with served(site) as address, watched(browser, address) as page:
        page.goto("/")
        wait_until_ready(page)
        answers = page.evaluate(CLASSIFY, texts)
        assert [scores[0]["unsure"] for scores in answers] == [one.unsure for one in expected]
        wait_until_kept(page)
        kept = "async () => (await (await caches.open('/')).keys()).map(({ url }) => url)"
        assert f"{address}/models/bundle/{FAMILIARITY}" in page.evaluate(kept)
    table = site / "models" / "bundle" / FAMILIARITY
    table.write_bytes(table.read_bytes() + b"0")
    with served(site) as address, browser.new_page() as page:
        page.goto(address)
        playwright.expect(status(page)).to_contain_text("familiarity.bin is damaged: it has")
        table.unlink()
        page.reload()
        playwright.expect(status(page)).to_contain_text("bundle/familiarity.bin is missing")


def test_by_keyboard_in_the_window_of_a_phone(
    page: "playwright.Page", classifier: TextModel, samples: list[str]
) -> None:
    page.set_viewport_size({"width": 360, "height": 640})
    page.keyboard.type("a moving, funny film")
    (expected,) = classifier.predict(["a moving, funny film"])
    # Before the last letter there may be answers, too.
    page.wait_for_function(
        "([wanted, within]) => Math.abs(document.querySelector('meter')?.value - wanted) < within",
        arg=[expected.probability, WITHIN],
    )
    assert answers(page).all_inner_texts() == ["positive\n99.4%", "negative\n0.6%"]
    playwright.expect(status(page)).to_contain_text("positive, in ")
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    playwright.expect(answers(page)).to_have_count(0)

    page.keyboard.press("Tab")
    playwright.expect(page.get_by_role("button", name="Try an example")).to_be_focused()
    page.keyboard.press("Enter")
    playwright.expect(answers(page)).to_have_count(2)
    assert box(page).input_value() in samples
    page.keyboard.press("Shift+Tab")
    playwright.expect(box(page)).to_be_focused()


def test_readable_in_small_and_dark(page: "playwright.Page") -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    film, other = "a moving, funny film with a plot that never lets go", UNFAMILIAR[0]
    for name, width, scheme, shown in (
        ("phone", 360, "light", film),
        ("phone_dark", 360, "dark", other),
        ("wide", 900, "light", film),
    ):
        page.set_viewport_size({"width": width, "height": 600})
        page.emulate_media(color_scheme=scheme)
        box(page).fill("w" * 200)
        playwright.expect(answers(page)).to_have_count(2)
        # This bundle takes one text.
        playwright.expect(page.locator("#pair")).to_be_hidden()
        assert page.evaluate("document.documentElement.scrollWidth") == width
        sizes = page.evaluate(
            """[...document.querySelectorAll("main *")].filter((e) => e.innerText?.trim()).map(
                (e) => parseFloat(getComputedStyle(e).fontSize))"""
        )
        assert len(sizes) > 8 and min(sizes) >= 14
        # With smaller letters, phones zoom in while typing.
        assert box(page).evaluate("(e) => parseFloat(getComputedStyle(e).fontSize)") >= 16
        # Large enough for a finger.
        for element in (box(page), page.get_by_role("button")):
            area = element.bounding_box()
            assert area and area["height"] >= 44
        box(page).fill(shown)
        page.wait_for_timeout(500)
        page.screenshot(path=SCREENSHOTS / f"{name}.png")


def test_hostile_texts(page: "playwright.Page", classifier: TextModel) -> None:
    for case, (message, kind, scores) in zip(
        HOSTILE, page.evaluate(TYPE_ALL, HOSTILE), strict=True
    ):
        if case["answer"]:
            (one,) = classifier.predict([text_of(case)])
            label = "unsure" if one.unsure else one.label
            assert re.fullmatch(rf"{label}, in [0-9.]+ ms", message), case["name"]
            assert sum(scores) == pytest.approx(1, abs=1e-5), case["name"]
        else:
            assert re.match("The text (is empty|has)|Type a text", message), case["name"]
            assert kind == "error" or case["text"] == "", case["name"]
            assert scores == [], case["name"]
    # It still works.
    box(page).fill("a moving, funny film")
    playwright.expect(status(page)).to_contain_text("positive")


def test_answers_once_when_one_stops_typing(page: "playwright.Page") -> None:
    answered = page.evaluate(
        """async () => {
            const [box, status] = ["text", "status"].map((id) => document.getElementById(id));
            let answered = 0;
            new MutationObserver(() => answered++).observe(status, { childList: true });
            for (const letter of "a moving, funny film") {
                box.value += letter;
                box.dispatchEvent(new Event("input"));
                await new Promise((resolve) => setTimeout(resolve, 10));
            }
            const before = answered;
            while (!answered) await new Promise((resolve) => setTimeout(resolve, 10));
            await new Promise((resolve) => setTimeout(resolve, 300));
            return [before, answered];
        }"""
    )
    assert answered == [0, 1]


def test_without_a_network(browser: "playwright.Browser", site: Path) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        with served(site) as address:
            page.goto(address)
            wait_until_ready(page)
            wait_until_kept(page)
        # The server has stopped.
        page.goto(f"{address}/?again")
        wait_until_ready(page)
        box(page).fill("a moving, funny film")
        playwright.expect(status(page)).to_contain_text("positive")


def test_a_browser_without_relaxed_simd(
    browser: "playwright.Browser", address: str, classifier: TextModel
) -> None:
    with watched(browser, address) as page:
        # LiteRT.js asks by a tiny module.
        page.add_init_script(
            """const compile = WebAssembly.instantiate;
            WebAssembly.instantiate = (source, ...rest) =>
                source.byteLength < 1000 ? Promise.reject(Error()) : compile(source, ...rest);"""
        )
        with page.expect_request("**/litert_wasm_compat_internal.wasm"):
            page.goto("/")
        (answers,) = page.evaluate(CLASSIFY, ["a moving, funny film"])
    assert_same_probabilities([answers], classifier.predict(["a moving, funny film"]))


def test_what_is_kept_hides_nothing_new(
    browser: "playwright.Browser", site: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(site, tmp_path / "site")
    with served(folder) as address, browser.new_context() as context:
        page = context.new_page()
        page.goto(address)
        wait_until_ready(page)
        wait_until_kept(page)
        html = folder / "index.html"
        html.write_text(html.read_text().replace("A text classifier in", "Another page in"))
        page.reload()
        playwright.expect(page.get_by_role("heading")).to_have_text("Another page in your browser")


def test_the_page_of_the_docs(browser: "playwright.Browser", site: Path) -> None:
    (site / "mine.html").write_text(program_of("web.md", "html"))
    with served(site) as address, watched(browser, address) as page:
        page.goto("/mine.html")
        for text, shown in (
            ("a moving, funny film", "positive, 99.4%"),
            ("How do I activate my card?", "unsure, 90.2%"),
            (" ", "The text is empty."),
        ):
            page.get_by_label("Review").fill(text)
            page.keyboard.press("Enter")
            playwright.expect(page.get_by_role("status")).to_have_text(shown)


def test_page_without_a_bundle(browser: "playwright.Browser") -> None:
    with served(WEB_DEMO) as address, browser.new_page() as page:
        page.goto(address)
        playwright.expect(status(page)).to_contain_text("kdedge package web BUNDLE")


def refused(done: subprocess.CompletedProcess[str], *messages: str) -> None:
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    for part in messages:
        assert part in line


def test_bad_inputs_leave_nothing(site: Path, tmp_path: Path) -> None:
    out = tmp_path / "site"
    refused(to_web(tmp_path, "--out", out), f"{tmp_path} is not a bundle")

    broken = shutil.copytree(BUNDLE, tmp_path / "broken")
    vocabulary = broken / "vocab.txt"
    vocabulary.write_bytes(b"X" + vocabulary.read_bytes()[1:])
    refused(to_web(broken, "--out", out), str(vocabulary), "SHA-256")

    onnx = tmp_path / "onnx"
    copy_bundle(BUNDLE, onnx, ["onnx-int8"])
    refused(to_web(onnx, "--out", out), "LiteRT models", "has onnx-int8", "[export]")
    assert not out.exists() and not list(tmp_path.glob("*.partial"))

    out.mkdir()
    refused(to_web(BUNDLE, "--out", out), f"{out} exists already")
    assert not list(out.iterdir())


def test_packages_not_installed(tmp_path: Path) -> None:
    # A checkout without node_modules.
    shutil.copytree(ROOT / "converters", tmp_path / "converters")
    shutil.copytree(ROOT / "kdedge", tmp_path / "kdedge")
    done = to_web(BUNDLE, "--out", tmp_path / "site", cwd=tmp_path)
    refused(done, "web_demo/node_modules", "npm ci --prefix web_demo")
    assert not (tmp_path / "site").exists()
