"""Equal students are saved as equal bytes, at any time and by any process."""

import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import WORDS
from tokenizers import Tokenizer
from tokenizers.models import WordPiece

from kdedge import Student, TextEncoder
from kdedge.layers.pooling import TokenMean
from kdedge.layers.transformer import Attention
from kdedge.students.trained import Evaluation, predict_logits
from kdedge.tasks import Classification


def make_student() -> Student:
    """A student with layers that Keras names, alone and inside our own layer, and with dropout."""
    keras.utils.set_random_seed(3)
    inputs = {name: keras.Input((None,), None, "int32", name=name) for name in ("ids", "mask")}
    x = keras.layers.Embedding(len(WORDS), 8, name="tokens")(inputs["ids"])
    rows = keras.layers.Reshape((1, -1), name="rows")(inputs["mask"])
    for i in range(2):
        attention = Attention(2, 4, dropout=0.1, name=f"attention_{i}")
        attended = attention(x, x, attention_mask=rows)
        x = keras.layers.Add()([x, keras.layers.Dropout(0.1)(attended)])
    x = TokenMean(name="sentence")(x, inputs["mask"])
    model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(x), name="small")
    encoder = TextEncoder(
        Tokenizer(WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]")), 16
    )
    texts = ("a good film", "a bad film")
    split = Evaluation(texts, np.array([1, 0], np.int32), predict_logits(model, encoder, texts))
    task = Classification(label_names=("bad", "good"))
    return Student(model, encoder, task, split, split, {"preset": "small"})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_equal_students_have_equal_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import sys; from pathlib import Path; from test_archive import make_student;"
        "make_student().save(Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", program, tmp_path / "first"]
    subprocess.run(command, cwd=Path(__file__).parent, check=True)
    # Saved by a process that has built other models before, on another day.
    other = make_student()
    other.model.get_layer("logits").bias.assign([1.0, 2.0])
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86_400)
    make_student().save(tmp_path / "second")
    first = contents(tmp_path / "first")
    assert contents(tmp_path / "second") == first
    # After loading and saving again, bytes and outputs are the same.
    again = Student.load(tmp_path / "first")
    again.save(tmp_path / "again")
    assert contents(tmp_path / "again") == first
    outputs = predict_logits(again.model, again.encoder, again.test.texts)
    np.testing.assert_array_equal(outputs, again.test.logits)
    # Different students have different bytes.
    other.save(tmp_path / "other")
    assert contents(tmp_path / "other")["student.keras"] != first["student.keras"]


def test_layers_with_names_of_their_own_keep_them() -> None:
    names = [layer.name for layer in make_student().model.layers]
    assert sorted(names) == [
        "add", "add_1", "attention_0", "attention_1", "dropout_1", "dropout_3", "ids", "logits",
        "mask", "rows", "sentence", "tokens",
    ]  # fmt: skip
