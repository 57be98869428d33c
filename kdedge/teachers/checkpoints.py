"""Finds the folder of a pretrained model and reads its files. Imports no TensorFlow."""

import contextlib
import functools
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kdedge.errors import KdedgeError
from kdedge.files import refuse_pointer, sha256
from kdedge.text.pretrained import SETTINGS, SOURCES

WEIGHTS = "model.safetensors"
SHARDS = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
CONFIG = "config.json"
ONNX = ".onnx"
# Ids of early models have no owner, for instance bert-base-uncased.
HUB_ID = re.compile(r"([\w-][\w.-]*/)?[\w-][\w.-]*(@[\w./-]+)?")
# Families that `teachers.families` has.
SUPPORTED = (
    "albert", "bert", "camembert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta",
)  # fmt: skip
ANY_OTHER = (
    'Any other model can be a teacher as an ONNX file (`teacher = "model.onnx"`), or by its '
    "answers (`kdedge import-labels`)."
)
CLASSIFIER = "ForSequenceClassification"
# Last layers of the supported families' classifiers.
LAST_BIASES = (".classifier.bias", ".classifier.out_proj.bias")
# Setting in the config.json of a teacher with a `LinearHead`.
POOLING = "classifier_pooling"
# Tensors of checkpoints that hold positions or counts, not weights.
COUNTS = ("position_ids", "token_type_ids", "num_batches_tracked")
# Models that number positions from the id of the padding token + 1.
FROM_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer")


def find_pretrained(source: str | Path, *, weights: bool = True) -> Path:
    """Find the folder of a model, and download it first if `source` is an id on the hub.

    Args:
        source: a folder, an .onnx file, `package:NAME/FOLDER`, or an id on the hub: `OWNER/NAME` or
            `OWNER/NAME@REVISION`, where the revision is a branch, a tag or a commit.
        weights: whether to download the weights too.

    Raises:
        KdedgeError: the folder, package or model does not exist.
    """
    text = str(source)
    if text.endswith(ONNX):
        if not Path(source).is_file():
            raise KdedgeError(f"{source}: no such file.")
        return tokenizer_folder_of(Path(source))
    if text.startswith("package:"):
        package, _, inside = text.removeprefix("package:").partition("/")
        try:
            spec = importlib.util.find_spec(package)
        except (ModuleNotFoundError, ValueError):
            spec = None
        if spec is None or not spec.submodule_search_locations:
            raise KdedgeError(
                f"{text}: the Python package {package!r} is not installed. `make install` in the "
                "checkout installs the default one."
            )
        return Path(spec.submodule_search_locations[0]) / inside
    if Path(source).is_dir():
        return Path(source)
    if not HUB_ID.fullmatch(text):
        raise KdedgeError(
            f"{source}: no such folder, and not an id of the form OWNER/NAME or "
            "OWNER/NAME@REVISION."
        )
    return _download(text, weights)


# Cached, so that a process uses one revision even if the branch moves.
@functools.cache
def _download(text: str, weights: bool) -> Path:
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError:
        raise KdedgeError(
            f"{text}: no such folder here, and models can't be downloaded without "
            "pip install 'kdedge[train]'."
        ) from None
    name, _, revision = text.partition("@")
    patterns = ["*.json", *SOURCES, "merges.txt", *(["model*.safetensors"] if weights else [])]
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=patterns))
    except errors.GatedRepoError:
        why = "its owner must be asked for access, on its page of the hub; then run `hf auth login`"
    except errors.RepositoryNotFoundError:
        why = "the hub has no such model, or it is private: run `hf auth login`"
    except errors.RevisionNotFoundError:
        why = f"the hub has no revision {revision} of it"
    except errors.LocalEntryNotFoundError:
        why = "the hub can't be reached and it was not downloaded before; name a folder"
    except Exception as error:  # a dozen kinds, from the network to the disk
        why = f"it could not be downloaded: {' '.join(str(error).split())[:300]}"
    raise KdedgeError(f"{text}: no such folder here, and {why}.")


def revision_of(folder: Path) -> str | None:
    """The commit of a model from the hub, by the folder it was downloaded to; None for others.

    >>> revision_of(Path("models--a--b/snapshots/0f1e"))
    '0f1e'
    """
    return folder.name if folder.parent.name == "snapshots" else None


def onnx_file(source: str | Path) -> Path | None:
    """The ONNX file of a teacher; None if the teacher has other weights.

    Args:
        source: an ONNX file, a folder in which the only weights are one, or any other teacher.
    """
    path = Path(source)
    if path.suffix == ONNX:
        return path
    if not path.is_dir() or _has_weights(path):
        return None
    found = _onnx_files(path)
    return found[0] if len(found) == 1 else None


def _has_weights(folder: Path) -> bool:
    return (folder / WEIGHTS).is_file() or (folder / SHARDS).is_file()


def _onnx_files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{ONNX}")) or sorted(folder.glob(f"onnx/*{ONNX}"))


def tokenizer_folder_of(path: Path) -> Path:
    """The folder of an ONNX file's tokenizer: the file's own, or the parent of a folder `onnx`."""
    folder = path.parent
    inside = folder.name == "onnx" and not (folder / CONFIG).is_file()
    return folder.parent if inside else folder


def longest_text(config: dict[str, Any]) -> int | None:
    """The largest number of tokens of a text, from a config.json; None if it is not there."""
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int):
        return None
    if config.get("model_type") not in FROM_PADDING:
        return positions
    padding = config.get("pad_token_id")
    return positions - (padding if isinstance(padding, int) else 1) - 1


def width_of(config: dict[str, Any]) -> int | None:
    """The width of an encoder's hidden states, from a config.json; None if it is not there."""
    width = config.get("hidden_size", config.get("dim"))
    return width if isinstance(width, int) and width > 0 else None


def read_config(folder: Path) -> dict[str, Any]:
    """Read a model's config.json.

    Raises:
        KdedgeError: it is missing or can't be read, or its `architectures` is no list of names.
    """
    path = folder / CONFIG
    try:
        config = dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise _not_a_model(folder) from None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise KdedgeError(f"{path}: not a readable JSON object: {error}") from None
    made_for = config.get("architectures")
    if made_for is not None and not (
        isinstance(made_for, list) and all(isinstance(name, str) for name in made_for)
    ):
        raise KdedgeError(
            f"{path}: architectures is {made_for!r:.80}; a list of names is needed, such as "
            '["BertForSequenceClassification"].'
        )
    return config


Tensors = dict[str, npt.NDArray[np.float32]]


def content_of(source: str) -> str:
    """The SHA-256 of each file that a teacher's outputs depend on, as one string."""
    folder, onnx = find_pretrained(source), onnx_file(source)
    files = [onnx] if onnx else weight_files(folder)
    beside = [folder / name for name in (CONFIG, SETTINGS, *SOURCES)]
    return " ".join(sha256(file) for file in (*files, *beside) if file.is_file())


def _not_a_model(folder: Path) -> KdedgeError:
    """The error for a folder without config.json or weights; it names what is there instead."""
    if (folder / ADAPTER).is_file():
        return KdedgeError(
            f"{folder}: {ADAPTER} says that this is an adapter (PEFT), not a whole model. Merge it "
            "into its model first: `AutoPeftModelForSequenceClassification.from_pretrained(FOLDER)"
            ".merge_and_unload().save_pretrained(NEW)`."
        )
    there = {CONFIG: (folder / CONFIG).is_file(), WEIGHTS: _has_weights(folder)}
    missing = [name for name in there if not there[name]]
    inside = [
        f.parent for f in sorted(folder.glob(f"*/{WEIGHTS}")) if (f.parent / CONFIG).is_file()
    ]
    variants = sorted(folder.glob("model.*.safetensors"))
    if inside:
        hint = f"There is one in {_some(inside)}."
    elif onnx := _onnx_files(folder):
        hint = f"ONNX files are there: name one of them as the teacher: {_some(onnx)}."
    elif variants:
        hint = f"Save it without `variant`, or rename {variants[0].name}."
    elif any(folder.glob("pytorch_model*.bin")):
        hint = (
            "A pytorch_model.bin (a pickle, which can run code) is not read: convert it with "
            "`model.save_pretrained(folder, safe_serialization=True)`."
        )
    else:
        hint = "`model.save_pretrained(folder)` of transformers writes both."
    return KdedgeError(
        f"{folder}: not a pretrained model: {' and '.join(missing)} "
        f"{'is' if len(missing) == 1 else 'are'} missing. {hint}"
    )


def _some(paths: list[Path]) -> str:
    return ", ".join(map(str, paths[:5]))


def check_teacher(source: str, classifies: bool) -> None:
    """Check kind, weights and head of a model as far as possible without TensorFlow.

    Args:
        source: a model, as in a recipe. Weights of a model on the hub are not checked yet.
        classifies: whether it is used as it is, so that it must have a classifier.

    Raises:
        KdedgeError: kdedge can't read it.
    """
    folder = find_pretrained(source, weights=False)
    if file := onnx_file(source):
        if not classifies:
            raise KdedgeError(
                f"{file}: an ONNX file can't be fine-tuned. Use it as it is, as the teacher "
                f'(`teacher = "{source}"` in [teach]), or name the model that it was made from.'
            )
        return
    config = read_config(folder)
    if config.get("model_type") is not None:
        need_supported(config["model_type"], folder)
    if revision_of(folder) is None:
        for path in weight_files(folder):
            with _opened(path):
                pass
    made_for = config.get("architectures") or [CLASSIFIER]
    if classifies and not config.get(POOLING) and not any(n.endswith(CLASSIFIER) for n in made_for):
        raise KdedgeError(no_classifier_message(folder, config))


def no_classifier_message(folder: Path, config: dict[str, Any]) -> str:
    """The message for a model without a classifier that kdedge can read."""
    names = ", ".join(config.get("architectures") or ())
    return (
        f"{folder}: this model has no classifier that kdedge reads"
        + (f": config.json says {names}, not ...{CLASSIFIER}" if names else "")
        + f". Fine-tune it first: `kdedge teach DATA --pretrained DIR --out DIR`. {ANY_OTHER}"
    )


def need_supported(model_type: object, where: object) -> None:
    """Check that a `model_type` of transformers is one that the encoder serves.

    Raises:
        KdedgeError: it is not.
    """
    if model_type not in SUPPORTED:
        raise KdedgeError(
            f"{where}: model_type {model_type!r} is not supported. Supported: "
            f"{', '.join(SUPPORTED)}. {ANY_OTHER}"
        )


def weight_files(folder: Path) -> list[Path]:
    """The files with a model's weights: model.safetensors, or the shards that its index names.

    Raises:
        KdedgeError: there are none, or none in a safe format.
    """
    index = folder / SHARDS
    readable = (folder / CONFIG).is_file() and _has_weights(folder)
    if (folder / ADAPTER).is_file() or not readable:
        raise _not_a_model(folder)
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    try:
        names = {*json.loads(index.read_bytes())["weight_map"].values()}
        files = sorted(folder / Path(name).name for name in names)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise KdedgeError(f"{index}: not an index of weights: {error!r}") from None
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        raise KdedgeError(f"{index}: these are missing: {', '.join(missing) or 'all shards'}.")
    return files


def read_tensors(folder: Path) -> Tensors:
    """Read all tensors of a model as float32, under the names that PyTorch uses today.

    Raises:
        KdedgeError: they can't be read.
    """
    tensors: Tensors = {}
    for path in weight_files(folder):
        with _opened(path) as file:
            from_tensorflow = (file.metadata() or {}).get("format") == "tf"
            for name in file.keys():  # noqa: SIM118
                tensor = file.get_tensor(name)
                if tensor.dtype.kind in "iub" and not name.endswith(COUNTS):
                    raise KdedgeError(
                        f"{path}: {name} is of {tensor.dtype}: quantized weights are not read. "
                        "Save the model before quantization, or `model.dequantize()` and then "
                        "`model.save_pretrained(NEW)`."
                    )
                if from_tensorflow:
                    name, tensor = _from_tensorflow(name, tensor)
                tensors[_present_name(name)] = np.asarray(tensor, np.float32)
    return tensors


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file of weights. Its tensors are read when they are asked for."""
    try:
        # Registers bfloat16 with numpy.
        import ml_dtypes  # noqa: F401
        import safetensors
    except ImportError:
        raise KdedgeError(f"{path}: reading it needs pip install 'kdedge[train]'") from None
    refuse_pointer(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            yield file
    # AttributeError is of a number format that numpy does not have.
    except (
        safetensors.SafetensorError, ValueError, TypeError, OSError, AttributeError
    ) as error:  # fmt: skip
        raise KdedgeError(
            f"{path}: cannot read these weights: {error}. Copy the file again, or save the "
            "model as float32 or float16."
        ) from None


def head_outputs(folder: Path) -> int | None:
    """The number of outputs of a checkpoint's classifier; None if it has none."""
    for path in weight_files(folder):
        with _opened(path) as file:
            for name in file.keys():  # noqa: SIM118
                # DistilBERT has a pre_classifier too.
                if f".{name}".endswith(LAST_BIASES):
                    return int(file.get_slice(name).get_shape()[0])
    return None


def _present_name(name: str) -> str:
    """Remove the prefixes of torch.compile and DataParallel, and replace TensorFlow's words."""
    parts = [part for part in name.split(".") if part not in ("_orig_mod", "module")]
    parts[-1] = {"gamma": "weight", "beta": "bias"}.get(parts[-1], parts[-1])
    return ".".join(parts)


def _from_tensorflow(name: str, tensor: Any) -> tuple[str, Any]:
    """Convert name and layout of a tensor that transformers wrote from TensorFlow to PyTorch's."""
    *parts, last = name.removesuffix(":0").replace("_._", "/").split("/")
    if last == "kernel":
        tensor = tensor.T
    last = {"kernel": "weight", "embeddings": "weight"}.get(last, last)
    return ".".join([part.rpartition("___")[2] for part in (*parts, last)]), tensor
