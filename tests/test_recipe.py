"""What a recipe can contain, and the messages if it contains something else."""

from pathlib import Path

import pytest
from conftest import ROOT

from kdedge import KdedgeError
from kdedge.recipe import load_recipe

GOOD = 'name = "x"\n[data]\npath = "texts.csv"\n'


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda p: p.name)
def test_shipped_recipes_are_good(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.data.path.is_file()
    assert recipe.name == path.stem


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, GOOD)).data.path == tmp_path / "texts.csv"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "not a readable TOML"),
        ("name = mine", "A recipe is a TOML file; its texts are in quotes"),
        ('name = "x"', "data: required, but missing"),
        (GOOD.replace("x", "my intents", 1), "name: only letters, digits, .* Got 'my intents'"),
        (GOOD.replace("x", "..", 1), r"name: only letters, digits, .* Got '\.\.'"),
        (GOOD + "colour = 3", "data.colour: unknown key. Known here: path, text, text_pair, label"),
        (GOOD + "[tecah]", "tecah: unknown key. Known here: name, seed, data, teach"),
        (GOOD + "[teach]\nepochs = 'two'", "teach.epochs: .*valid integer.* Got 'two'"),
        (GOOD + "[teach]\nepochs = 0", "teach.epochs: .*greater than or equal to 1. Got 0"),
        (GOOD + "[distill]\nalpha = 1.5", "distill.alpha: .*less than or equal to 1. Got 1.5"),
        (GOOD + "[distill]\ntemperature = 0", "distill.temperature: .*greater than 0"),
        (
            GOOD + "[compress]\nepochs = 2",
            "compress.methods: name at least one of vocabulary, ",
        ),
        (GOOD + "[compress]\nmethods = ['zip']", "compress.methods.0: .*'pruning'.* Got 'zip'"),
        (GOOD + "[compress]\nsparsty = 0.5", "compress.sparsty: unknown key. Known here: methods"),
        (GOOD + "[export]\nartifacts = []", "export: .*at least one"),
        (
            GOOD + '[export]\nlengths = [16, 32]\nartifacts = ["litert-int8", "onnx-int8"]',
            "lengths: 16, 32; these artifacts have one each. Add litert-int8-lengths",
        ),
        (
            GOOD + "[distill]\nmax_length = 64\n[export]\nlengths = [64, 128]",
            "export.lengths has 128, more than distill.max_length 64",
        ),
        (
            GOOD + "[label.mixture]\ndorp = 1",
            "label.mixture.dorp: unknown key. Known here: drop, crop, splice, words",
        ),
        (GOOD + "[label.mixture]\ndrop = 0\ncrop = 0\nsplice = 0", "at least one rule above 0"),
        (GOOD.replace('"x"', '"../x"'), "name: only letters.* Got '../x'"),
    ],
)
def test_bad_recipes(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(KdedgeError, match=message):
        load_recipe(write(tmp_path, text))


def test_no_such_recipe(tmp_path: Path) -> None:
    with pytest.raises(KdedgeError, match="no such recipe"):
        load_recipe(tmp_path / "recipe.toml")
