"""What the tests of the benchmark and of its devices share."""

from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import BertProcessing

from kdedge.bench.scenario import Scenario
from kdedge.bundle import Accuracy, Artifact, Manifest, Parity, Source
from kdedge.files import sha256
from kdedge.text.encoder import TextEncoder

BRIEF = Scenario(
    name="brief", min_count=5, min_seconds=0, repeats=2, warmup_count=1, warmup_seconds=0
)


def make_bundle(folder: Path, source: str, models: dict[str, Path]) -> Path:
    """A bundle whose encoder knows `good`, `bad` and `film`."""
    pieces = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film")
    tokenizer = Tokenizer(WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    TextEncoder(tokenizer, max_length=16).save(folder)
    (folder / "sample_texts.txt").write_text("good film\nbad film\n")
    artifacts = []
    for name, model in models.items():
        (folder / model.name).write_bytes(model.read_bytes())
        artifacts.append(
            Artifact(
                name=name,
                file=model.name,
                format="litert" if name.startswith("litert") else "onnx",
                quantization="float32",
                length=8 if name.startswith("litert") else None,
                bytes=model.stat().st_size,
                gzip_bytes=1,
                p50_ms=1.0,
                parity=Parity(texts=2, max_difference=0.0, mean_difference=0.0, agreement=1.0),
                accuracy=Accuracy(texts=10, value=0.8),
            )
        )
    manifest = Manifest(
        format_version=1,
        kdedge="0.1.0",
        labels=("negative", "positive"),
        max_length=16,
        source=Source(name=source, parameters=50, accuracy=Accuracy(texts=10, value=0.8)),
        artifacts=tuple(artifacts),
        defaults={artifacts[0].format: artifacts[0].name},
        files={path.name: sha256(path) for path in folder.iterdir()},
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return folder
