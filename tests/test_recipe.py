"""What a recipe can contain, and the messages if it contains something else."""

from pathlib import Path

import pytest
from conftest import ROOT

from kdedge import KdedgeError
from kdedge.recipe import ARTIFACTS, load_recipe

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
        ("seed = true\n" + GOOD, "seed: a number is needed. Got True"),
        (GOOD + "[teach]\npatience = '3'", "teach.patience: a number is needed. Got '3'"),
        (
            GOOD + "[distill]\nepochs = true\nfrom_teacher = 'yes'\nalpha = true",
            r"distill.epochs: a number .* True\.\n  distill.from_teacher: true or false .* 'yes'\."
            r"\n  distill.alpha: a number is needed. Got True",
        ),
        (GOOD + "quoting = 1", "data.quoting: true or false is needed. Got 1"),
        (GOOD + "score_range = [1, '5']", "data.score_range.1: a number is needed. Got '5'"),
        (GOOD + "[label.mixture]\ndrop = true", "label.mixture.drop: a number is needed. Got True"),
        (GOOD + "[distill.losses]\ntwo-sided = '1'", "distill.losses.two-sided: a number .* '1'"),
        (GOOD + "[decide]\ncoverage = '0.5'", "decide.coverage: a number is needed. Got '0.5'"),
        (GOOD + "[teach]\nlearning_rate = '1e-3'", "teach.learning_rate: a number .* '1e-3'"),
        (GOOD + "[teach]\nlearning_rate = inf", "teach.learning_rate: .*finite number. Got inf"),
        (GOOD + "[distill]\nfeature_weight = inf", "distill.feature_weight: .*finite .* Got inf"),
        (
            GOOD + "[export]\nmax_accuracy_drop = inf",
            "export.max_accuracy_drop: .*finite .* Got inf",
        ),
        (GOOD + "score_range = [0, inf]", "data.score_range.1: .*finite number. Got inf"),
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


@pytest.mark.parametrize("every", ["'all'", "['all']"])
def test_whole_numbers_and_names_for_lists_are_good(tmp_path: Path, every: str) -> None:
    text = GOOD + f"score_range = [1, 5]\n[distill]\ntemperature = 3\n[export]\nartifacts = {every}"
    recipe = load_recipe(write(tmp_path, text))
    assert (recipe.data.score_range, recipe.distill.temperature) == ((1, 5), 3)
    assert recipe.export.artifacts == (*ARTIFACTS,)


def test_no_such_recipe(tmp_path: Path) -> None:
    with pytest.raises(KdedgeError, match="no such recipe"):
        load_recipe(tmp_path / "recipe.toml")
