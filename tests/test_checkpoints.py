"""Checkpoints of all kinds give PyTorch's numbers, or an error that says why not."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
from conftest import ROOT, WORDS
from tokenizers import Tokenizer
from tokenizers.implementations import BertWordPieceTokenizer

from kdedge import KdedgeError, TextEncoder, load_teacher
from kdedge.students.cut import Importance, cut_from_teacher
from kdedge.tasks import Classification, MultiLabel, Regression
from kdedge.teachers.bert import BertTeacher
from kdedge.teachers.checkpoints import SUPPORTED, head_outputs, read_config
from kdedge.teachers.families import FAMILIES
from kdedge.teachers.heads import MaskedHead
from kdedge.teachers.weights import Checkpoint, head_variables
from kdedge.text.pairs import Pair

GOLDEN = ROOT / "tests" / "golden" / "teachers"
NAMES = sorted(folder.name for folder in GOLDEN.iterdir() if folder.is_dir())
LABELS = ("bad", "good", "so so")
TASK = Classification(label_names=("no", "yes"))
Tensors = dict[str, np.ndarray]


def copied(name: str, tmp_path: Path) -> Path:
    """A golden checkpoint, with a tokenizer."""
    folder = shutil.copytree(GOLDEN / name, tmp_path / name)
    tokenizer = BertWordPieceTokenizer({word: i for i, word in enumerate(WORDS)})
    TextEncoder(Tokenizer.from_str(tokenizer.to_str()), 16).save(folder)
    return folder


def expected(name: str) -> tuple[dict[str, np.ndarray], Any]:
    """The inputs, and PyTorch's outputs for them."""
    outputs = np.load(GOLDEN / name / "expected.npz")
    rows = {key: outputs[key] for key in ("ids", "mask", "segment_ids")}
    return rows | {"segment_ids": np.zeros_like(rows["ids"]) + rows["segment_ids"]}, outputs


def tensors_of(folder: Path) -> Tensors:
    return dict(safetensors.numpy.load_file(folder / "model.safetensors"))


def write(folder: Path, tensors: Tensors, name: str = "model.safetensors") -> None:
    safetensors.numpy.save_file(tensors, folder / name, {"format": "pt"})


def configure(folder: Path, **changes: Any) -> None:
    """Change settings of config.json; None removes one."""
    path = folder / "config.json"
    settings = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))


@pytest.mark.parametrize("name", NAMES)
def test_a_family_says_what_it_says_in_pytorch(name: str, tmp_path: Path) -> None:
    teacher = load_teacher(copied(name, tmp_path), with_hidden_states=True, with_attentions=True)
    assert teacher.task.output_names == LABELS
    inputs, theirs = expected(name)
    outputs, real = teacher(inputs), inputs["mask"].astype(bool)
    np.testing.assert_allclose(outputs["logits"], theirs["logits"], rtol=0, atol=1e-5)
    for ours, states in zip(outputs["hidden_states"], theirs["hidden_states"], strict=True):
        np.testing.assert_allclose(ours.numpy()[real], states[real], rtol=0, atol=1e-5)
    for ours, maps in zip(outputs["attentions"], theirs["attentions"], strict=True):
        rows = np.moveaxis(ours.numpy(), 1, 2)[real], np.moveaxis(maps, 1, 2)[real]
        np.testing.assert_allclose(*rows, rtol=0, atol=1e-5)
    last = theirs["hidden_states"][-1]
    means = [rows[row == 1].mean(0) for rows, row in zip(last, inputs["mask"], strict=True)]
    np.testing.assert_allclose(outputs["pooled"], means, rtol=0, atol=1e-5)
    # And from embeddings: in rows without a padding token inside.
    rows = {key: value[1:] for key, value in inputs.items()}
    rows["embeddings"] = tf.gather(teacher.word_embeddings, rows.pop("ids"))
    np.testing.assert_allclose(teacher(rows)["logits"], theirs["logits"][1:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_familys_masked_language_head(name: str) -> None:
    checkpoint = Checkpoint(GOLDEN / name)
    encoder = checkpoint.encoder()
    head = MaskedHead(checkpoint.family.masked, checkpoint.shape)
    checkpoint.fill(head_variables(head))
    inputs, theirs = expected(name)
    states, _ = encoder(*inputs.values())
    real = inputs["mask"].astype(bool)
    scores = head(tf.boolean_mask(states[-1], real), encoder.words.value)
    np.testing.assert_allclose(scores, theirs["masked_logits"][real], rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_teacher_has_the_same_tensors(name: str, tmp_path: Path) -> None:
    folder = copied(name, tmp_path)
    teacher = load_teacher(folder)
    teacher.save_pretrained(tmp_path / "saved")
    before, after = tensors_of(folder), tensors_of(tmp_path / "saved")
    assert {*after} <= {*before}
    for key, tensor in after.items():
        np.testing.assert_array_equal(tensor, before[key])
    settings = json.loads((tmp_path / "saved" / "config.json").read_text())
    classes = FAMILIES[settings["model_type"]].classes
    assert settings["architectures"] == [f"{classes}ForSequenceClassification"]
    assert settings["id2label"] == {"0": "bad", "1": "good", "2": "so so"}
    inputs, theirs = expected(name)
    again = load_teacher(tmp_path / "saved")
    np.testing.assert_array_equal(again(inputs)["logits"], teacher(inputs)["logits"])


# Files of other forms


def bare(tensors: Tensors) -> Tensors:
    return {name.removeprefix("bert."): t for name, t in tensors.items() if name.startswith("bert")}


def old_norms(tensors: Tensors) -> Tensors:
    new = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    for ours, old in new.items():
        tensors = {name.replace(ours, old): t for name, t in tensors.items()}
    return tensors


def with_buffers(tensors: Tensors) -> Tensors:
    numbers = {"bert.embeddings.position_ids": np.arange(24)[None]}
    return tensors | numbers | {"bert.embeddings.token_type_ids": np.zeros((1, 24), np.int64)}


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: {f"_orig_mod.{name}": t for name, t in tensors.items()},
        lambda tensors: {f"module.{name}": t for name, t in tensors.items()},
        lambda tensors: {f"module._orig_mod.{name}": t for name, t in tensors.items()},
        lambda tensors: {f"model.{name}": t for name, t in tensors.items()},
        lambda tensors: {n.replace("bert.", "bert._orig_mod.", 1): t for n, t in tensors.items()},
        old_norms,
        with_buffers,
    ],
)  # fmt: skip
def test_other_names(change: Callable[[Tensors], Tensors], tmp_path: Path) -> None:
    folder = copied("bert", tmp_path)
    write(folder, change(tensors_of(folder)))
    inputs, theirs = expected("bert")
    np.testing.assert_allclose(load_teacher(folder)(inputs)["logits"], theirs["logits"], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_an_encoder_without_its_prefix(name: str, tmp_path: Path) -> None:
    folder, base = copied(name, tmp_path), Checkpoint(GOLDEN / name).family.base
    tensors = tensors_of(folder)
    write(folder, {n.removeprefix(base): t for n, t in tensors.items() if n.startswith(base)})
    configure(folder, architectures=["Model"])
    inputs, theirs = expected(name)
    outputs = load_teacher(folder, task=TASK, with_hidden_states=True)(inputs)
    real = inputs["mask"].astype(bool)
    last = outputs["hidden_states"][-1].numpy()[real]
    np.testing.assert_allclose(last, theirs["hidden_states"][-1][real], rtol=0, atol=1e-5)
    assert outputs["logits"].shape == (3, 2)


def test_one_segment_embedding_is_of_both_texts(tmp_path: Path) -> None:
    folder = copied("bert", tmp_path)
    name = "bert.embeddings.token_type_embeddings.weight"
    write(folder, tensors_of(folder) | {name: tensors_of(folder)[name][:1]})
    configure(folder, type_vocab_size=1)
    teacher = load_teacher(folder)
    inputs = teacher.encoder.encode([Pair("a film", "a b")]).inputs
    assert inputs["segment_ids"].any()
    expected = teacher.run(inputs | {"segment_ids": np.zeros_like(inputs["ids"])})
    np.testing.assert_array_equal(teacher.run(inputs)["logits"], expected["logits"])
    np.testing.assert_allclose(whole_cut(teacher)(inputs), expected["logits"], atol=2e-3)


def whole_cut(teacher: BertTeacher) -> keras.Model:
    """A mini-cut for pairs that keeps all that its teacher has."""
    importance = Importance(np.ones((2, 2)), np.ones((2, 24)))
    return cut_from_teacher(
        teacher, importance, teacher.task, 16, layers=2, heads=2, neurons=24, pairs=True
    )


@pytest.mark.parametrize("act", ["gelu", "relu", "silu", "swish", "tanh"])
def test_a_student_that_is_cut_has_its_teachers_settings(act: str, tmp_path: Path) -> None:
    folder = copied("bert", tmp_path)
    configure(folder, hidden_act=act, layer_norm_eps=0.1)
    teacher = load_teacher(folder)
    inputs = teacher.encoder.encode([Pair("a film", "a b"), Pair("good", "bad")]).inputs
    expected = teacher.run(inputs)["logits"]
    np.testing.assert_allclose(whole_cut(teacher)(inputs), expected, atol=2e-3)


def test_shards(tmp_path: Path) -> None:
    folder = copied("bert", tmp_path)
    names = sorted(tensors := tensors_of(folder))
    (folder / "model.safetensors").unlink()
    files = {}
    for part in range(3):
        file = f"model-0000{part + 1}-of-00003.safetensors"
        write(folder, {name: tensors[name] for name in names[part::3]}, file)
        files |= dict.fromkeys(names[part::3], file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": files}))
    inputs, theirs = expected("bert")
    teacher = load_teacher(folder)
    np.testing.assert_allclose(teacher(inputs)["logits"], theirs["logits"], atol=1e-5)
    assert len(teacher.fingerprint) == 64
    (folder / files[names[0]]).unlink()
    with pytest.raises(KdedgeError, match="these are missing: model-00001-of-00003.safetensors"):
        load_teacher(folder)
    index.write_text("[]")
    with pytest.raises(KdedgeError, match="not an index of weights"):
        load_teacher(folder)


def test_the_outputs_of_a_head_in_shards(tmp_path: Path) -> None:
    folder = copied("distilbert", tmp_path)
    classifier, others = {}, {}
    for name, tensor in tensors_of(folder).items():
        (classifier if name.startswith("classifier") else others)[name] = tensor
    (folder / "model.safetensors").unlink()
    files = {}
    for file, tensors in (("a.safetensors", others), ("b.safetensors", classifier)):
        write(folder, tensors, file)
        files |= dict.fromkeys(tensors, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    assert head_outputs(folder) == 3


def as_bfloat16(tensors: Tensors) -> bytes:
    """A safetensors file by its specification: numpy has no such type."""
    header, data = {}, b""
    for name, tensor in tensors.items():
        half = (np.ascontiguousarray(tensor, np.float32).view(np.uint32) >> 16).astype(np.uint16)
        offsets = [len(data), len(data) + half.nbytes]
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": offsets}
        data += half.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_half_precision(tmp_path: Path) -> None:
    folder = copied("bert", tmp_path)
    tensors = tensors_of(folder)
    inputs, _ = expected("bert")

    def logits() -> np.ndarray:
        return np.asarray(load_teacher(folder)(inputs)["logits"])

    write(folder, {name: t.astype(np.float16) for name, t in tensors.items()})
    half = logits()
    write(folder, {name: t.astype(np.float16).astype(np.float32) for name, t in tensors.items()})
    np.testing.assert_array_equal(half, logits())
    (folder / "model.safetensors").write_bytes(as_bfloat16(tensors))
    half = logits()
    # bfloat16 is the upper half of float32.
    cut = {n: (t.view(np.uint32) & 0xFFFF0000).view(np.float32) for n, t in tensors.items()}
    write(folder, cut)
    np.testing.assert_array_equal(half, logits())


# Settings that are missing or odd


@pytest.mark.parametrize(
    "changes",
    [
        {"architectures": None},
        {"id2label": {"1": "bad", "2": "good", "3": "so so"}, "label2id": None},
        {"id2label": {"2": "so so", "10": "never", "0": "bad"}, "label2id": None},
        {"id2label": None},
        {"model_type": None},
        {"num_hidden_layers": None, "hidden_size": None, "vocab_size": None, "layer_norm_eps": None,
         "intermediate_size": None, "max_position_embeddings": None, "type_vocab_size": None},
    ],
)  # fmt: skip
def test_settings_that_the_tensors_tell(changes: dict[str, Any], tmp_path: Path) -> None:
    folder = copied("bert", tmp_path)
    configure(folder, **changes)
    teacher = load_teacher(folder)
    names = ("bad", "so so", "never") if "10" in (changes.get("id2label") or {}) else LABELS
    assert teacher.task.output_names == names
    inputs, theirs = expected("bert")
    np.testing.assert_allclose(teacher(inputs)["logits"], theirs["logits"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("distilbert", {"layer_norm_eps": 1e-2}),
        ("distilbert", {"num_attention_heads": 2, "n_heads": 4}),
        ("mpnet", {"pad_token_id": 0}),
    ],
)
def test_settings_as_transformers_reads_them(
    name: str, change: dict[str, Any], tmp_path: Path
) -> None:
    folder = copied(name, tmp_path)
    configure(folder, **change)
    inputs, theirs = expected(name)
    np.testing.assert_allclose(load_teacher(folder)(inputs)["logits"], theirs["logits"], atol=1e-5)


def test_outputs_without_names(tmp_path: Path) -> None:
    folder = copied("bert", tmp_path)
    configure(folder, id2label=None, label2id=None)
    assert load_teacher(folder).task.output_names == ("LABEL_0", "LABEL_1", "LABEL_2")


def add(name: str, *shape: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        write(folder, tensors_of(folder) | {name: np.ones(shape, np.float32)})

    return change


def drop(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        write(folder, {n: t for n, t in tensors_of(folder).items() if n != name})

    return change


def adapter(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')


def relative(folder: Path) -> None:
    add("bert.encoder.layer.0.attention.self.distance_embedding.weight", 47, 8)(folder)
    configure(folder, position_embedding_type="relative_key")


def one_output(folder: Path) -> None:
    tensors = tensors_of(folder)
    write(folder, tensors | {n: tensors[n][:1] for n in ("classifier.weight", "classifier.bias")})
    configure(folder, id2label={"0": "LABEL_0"}, label2id=None, problem_type=None)


def one_sigmoid(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        one_output(folder)
        configure(folder, **changes)

    return change


def quantized(folder: Path) -> None:
    name = "bert.encoder.layer.0.output.dense.weight"
    tensors = tensors_of(folder)
    write(folder, tensors | {name: (tensors[name] * 100).astype(np.int8)})


def in_eight_bits(folder: Path) -> None:
    header = {"x": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}
    begin = json.dumps(header).encode()
    content = struct.pack("<Q", len(begin)) + begin + b"\0"
    (folder / "model.safetensors").write_bytes(content)


def failed(folder: Path) -> None:
    tensors = tensors_of(folder)
    tensors["classifier.bias"] = np.full_like(tensors["classifier.bias"], np.nan)
    write(folder, tensors)


def pointer(folder: Path) -> None:
    words = "version https://git-lfs.github.com/spec/v1\noid sha256:1f\nsize 9\n"
    (folder / "model.safetensors").write_text(words)


def fewer_vectors(folder: Path) -> None:
    name = "bert.embeddings.word_embeddings.weight"
    tensors = tensors_of(folder)
    write(folder, tensors | {name: tensors[name][:20]})
    configure(folder, vocab_size=None)


CROSS_ENCODER = {"activation_fn": "torch.nn.modules.activation.Sigmoid", "version": "5.0"}


def settings(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: configure(folder, **changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (relative, "position_embedding_type 'relative_key' is not .*layer.0.*distance_embedding"),
        (add("bert.encoder.layer.0.adapter.weight", 2), "a Bert has no part for the tensors bert"),
        (add("lstm.weight", 2), "a Bert has no part for the tensors lstm.weight"),
        (add("classifier.scale", 2), "a Bert has no part for the tensors classifier.scale"),
        (add("bert.embeddings.position_ids", 24), "a Bert has no part for the tensors"),
        (add("bert.encoder.layer.1.output.dense.weight", 3, 3), "dense.weight has shape .3, 3"),
        (drop("bert.encoder.layer.1.output.dense.bias"), "1 weights are missing, among them bert"),
        (drop("classifier.bias"), "1 weights are missing, among them classifier.bias"),
        (drop("classifier.weight"), "names BertForSequenceClassification, but weights of its head"),
        (drop("bert.embeddings.word_embeddings.weight"), "0 tensors are called embeddings.word_"),
        (adapter, "an adapter .PEFT., not a whole model. Merge it"),
        (settings(problem_type="regression"), "a model with 3 scores for each text"),
        (settings(id2label={"0": "bad", "1": "good"}), "2 names .*, but the head has 3 outputs"),
        (settings(id2label={"x": "bad"}), "id2label must map numbers to names"),
        (settings(num_hidden_layers=1), "num_hidden_layers is 1 in config.json, but 2 in the ten"),
        (settings(hidden_size=768), "hidden_size is 768 in config.json, but 16 in the tensors"),
        (settings(num_attention_heads=3), "num_attention_heads is 3; it must divide the width, 16"),
        (settings(id2label=None, label2id=["bad", "good"]), "id2label must map numbers to names"),
        (settings(problem_type="multi_label"), "problem_type 'multi_label' in config.json is unk"),
        (settings(hidden_act="mish"), "hidden_act 'mish' is not supported, only gelu"),
        (settings(hidden_act={"a": 1}), "hidden_act {'a': 1} is not supported, only gelu"),
        (settings(layer_norm_eps="1e-12"), "layer_norm_eps is '1e-12' in config.json; a number"),
        (settings(hidden_dropout_prob=1.5), "hidden_dropout_prob is 1.5 in config.json; a number"),
        (settings(id2label={"0": "x", "1": "y", "2": "x"}), "'x', 'y', 'x'. Each class needs a n"),
        (settings(id2label={"0": "x", "1": " ", "2": "z"}), "'x', ' ', 'z'. Each class needs a n"),
        (settings(label2id={"good": 0, "bad": 1, "so so": 2}), "by label2id good, bad, so so. Co"),
        (settings(architectures=["OwnBert"]), "config.json says OwnBert, not ...ForSequenceClass"),
        (one_sigmoid(problem_type="multi_label_classification"), "the sigmoid of one output"),
        (one_sigmoid(sentence_transformers=CROSS_ENCODER), "the sigmoid of one output"),
        (quantized, "is of int8: quantized weights are not read. Save the model before quantiz"),
        (in_eight_bits, "cannot read these weights: .*save the model as float32 or float16"),
        (failed, "classifier.bias has values that are not finite, so all answers would be NaN"),
        (pointer, "not the file itself, but a pointer of Git LFS to it. `git lfs pull` gets"),
        (settings(pruned_heads={"1": [0]}), "pruned_heads {'1': .0.} is not supported, only {}"),
        (fewer_vectors, "the id 20, but the model has only 20 tokens"),
        (settings(model_type="modernbert"), "'modernbert' is not supported. Supported: albert, b"),
        (settings(model_type="nomic_bert"), "kdedge import-labels"),
    ],
)  # fmt: skip
def test_what_is_refused(change: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    folder = copied("bert", tmp_path)
    change(folder)
    with pytest.raises(KdedgeError, match=message) as refused:
        load_teacher(folder)
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("albert", {"num_hidden_layers": 0}, "num_hidden_layers is 0 in config.json; a whole num"),
        ("albert", {"num_hidden_layers": "2"}, "num_hidden_layers is '2' in config.json"),
        ("roberta", {"pad_token_id": "1"}, "pad_token_id is '1' in .*; a whole number from 0 to 2"),
        ("roberta", {"pad_token_id": 100}, "pad_token_id is 100 in config.json"),
    ],
)  # fmt: skip
def test_numbers_that_are_refused(
    name: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = copied(name, tmp_path)
    configure(folder, **changes)
    with pytest.raises(KdedgeError, match=message):
        load_teacher(folder)


def test_several_labels_and_one_score_are_read_as_what_they_are(tmp_path: Path) -> None:
    folder = copied("bert", tmp_path)
    several = settings(problem_type="multi_label_classification")
    several(folder)
    teacher = load_teacher(folder)
    assert isinstance(teacher.task, MultiLabel)
    inputs = teacher.encoder.encode(["a film"]).inputs
    logits = teacher.run(inputs)["logits"]
    # Sigmoids: each label is independent.
    np.testing.assert_allclose(teacher.task.outputs(logits), 1 / (1 + np.exp(-logits)), atol=1e-6)
    one_output(folder)
    scorer = load_teacher(folder)
    # In units of the score, as the checkpoint gives it.
    assert scorer.task == Regression(mean=0.0, deviation=1.0)
    np.testing.assert_allclose(scorer.run(inputs)["logits"], logits[:, :1], atol=1e-6)
    # For data with another mean and deviation: the same scores, standardised.
    task = Regression(mean=3.0, deviation=2.0)
    asked = load_teacher(folder, task=task)
    np.testing.assert_allclose(asked.run(inputs)["logits"], (logits[:, :1] - 3) / 2, atol=1e-5)
    np.testing.assert_allclose(task.outputs(asked.run(inputs)["logits"]), logits[:, :1], atol=1e-5)
    with pytest.raises(KdedgeError, match="a teacher for regression, but the data's task is class"):
        load_teacher(folder, task=Classification(label_names=("a", "b")))


def test_supported_families_are_those_with_code() -> None:
    assert tuple(sorted(FAMILIES)) == SUPPORTED


def test_a_folder_inside_is_named(tmp_path: Path) -> None:
    inside = copied("bert", tmp_path / "trained")
    with pytest.raises(KdedgeError, match=f"config.json and .* missing. There is one in {inside}"):
        read_config(tmp_path / "trained")
    adapter(inside)
    (inside / "config.json").unlink()
    with pytest.raises(KdedgeError, match="an adapter .PEFT., not a whole model"):
        read_config(inside)


@pytest.mark.parametrize("architectures", [[None], "BertModel", [3], {"a": 1}])
def test_architectures_are_a_list_of_names(tmp_path: Path, architectures: object) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": architectures}))
    with pytest.raises(KdedgeError, match=r"architectures is .*; a list of names is needed"):
        read_config(tmp_path)


def test_heads_that_are_not_used_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load_teacher(copied("bert", tmp_path))
    output = capsys.readouterr().err
    assert (
        "weights that are not used: cls.predictions.bias, cls.predictions.transform.LayerNorm.bias"
        in output
    )
    assert output.count("\n") == 1


def test_layers_of_sentence_transformers_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied("bert", tmp_path)
    for name, file in (("1_Pooling", "config.json"), ("2_Dense", "model.safetensors")):
        (folder / name).mkdir()
        (folder / name / file).touch()
    load_teacher(folder)
    output = capsys.readouterr().err
    assert "2_Dense/" in output and "1_Pooling" not in output


@pytest.mark.parametrize("name", NAMES)
def test_mixed_precision(name: str, tmp_path: Path) -> None:
    """Mixed precision, as in fine-tuning on a GPU: bfloat16 has 8 bits of precision."""
    teacher = load_teacher(copied(name, tmp_path), dtype="mixed_bfloat16")
    inputs, theirs = expected(name)
    with tf.GradientTape() as tape:
        logits = teacher(inputs, training=False)["logits"]
        loss = tf.reduce_sum(tf.square(logits))
    np.testing.assert_allclose(logits, theirs["logits"], rtol=0, atol=0.15)
    assert np.abs(logits - theirs["logits"]).max() > 1e-4
    weights = [variable.value for variable in teacher.trainable_variables]
    assert {weight.dtype for weight in weights} == {tf.float32}
    assert all(gradient is not None for gradient in tape.gradient(loss, weights))


# New heads


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_a_head_on_normalised_vectors(pooling: str, tmp_path: Path) -> None:
    teacher = load_teacher(copied("bert", tmp_path), task=TASK, head=pooling)
    kernel, bias = np.arange(32.0).reshape(16, 2), np.array([0.5, -0.5])
    teacher.head.kernel.assign(kernel)
    teacher.head.bias.assign(bias)
    inputs, theirs = expected("bert")
    outputs, last = teacher(inputs), theirs["hidden_states"][-1]
    vectors = outputs["pooled"].numpy() if pooling == "mean" else last[:, 0]
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(outputs["logits"], vectors @ kernel + bias, rtol=0, atol=1e-4)

    teacher.save_pretrained(tmp_path / "saved")
    stored = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert (stored["architectures"], stored["classifier_pooling"]) == (["BertModel"], pooling)
    assert tensors_of(tmp_path / "saved")["classifier.weight"].shape == (2, 16)
    again = load_teacher(tmp_path / "saved")
    assert again.task.output_names == ("no", "yes")
    np.testing.assert_array_equal(again(inputs)["logits"], outputs["logits"])


def test_a_new_head_of_the_familys_own(tmp_path: Path) -> None:
    folder = copied("bert", tmp_path)
    teacher: BertTeacher = load_teacher(folder, task=TASK, head="own")
    assert teacher.task == TASK
    pooler = tensors_of(folder)["bert.pooler.dense.weight"]
    np.testing.assert_array_equal(teacher.head.dense.kernel, pooler.T)
    assert teacher.head.out.kernel.shape == (16, 2)
    with pytest.raises(KdedgeError, match="classes are bad, good, so so, and the data's no, yes"):
        load_teacher(folder, task=TASK)


@pytest.mark.parametrize("name", NAMES)
def test_a_probes_head_is_read_back(name: str, tmp_path: Path) -> None:
    teacher: BertTeacher = load_teacher(copied(name, tmp_path), task=TASK, head="mean")
    teacher.head.bias.assign([0.5, -0.5])
    teacher.save_pretrained(tmp_path / "teacher")
    again = load_teacher(tmp_path / "teacher")
    assert again.task == TASK
    inputs, _ = expected(name)
    np.testing.assert_array_equal(again(inputs)["logits"], teacher(inputs)["logits"])
