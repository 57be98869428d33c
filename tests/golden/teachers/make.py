"""Writes tiny random checkpoints of each family with what PyTorch's transformers says of them.

    python -m venv torch && torch/bin/pip install torch "transformers==4.57.*"
    torch/bin/python tests/golden/teachers/make.py

Each folder is one that transformers saved: a classifier, with a masked-language head beside it that
the classifier does not use. `expected.npz` has the inputs and, for them, the logits of both heads,
all hidden states and all attention maps.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

HERE = Path(__file__).parent
# That of the vocabulary in tests/conftest.py.
VOCABULARY = 56
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 24,
}
DISTILBERT = {
    "vocab_size": VOCABULARY,
    "dim": 16,
    "n_layers": 2,
    "n_heads": 2,
    "hidden_dim": 24,
    "max_position_embeddings": 24,
}
ROBERTA = SIZES | {"max_position_embeddings": 26, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", SIZES),
    "bert_gelu_new": ("Bert", SIZES | {"hidden_act": "gelu_new"}),
    "distilbert": ("DistilBert", DISTILBERT),
    "roberta": ("Roberta", ROBERTA),
    "xlm-roberta": ("XLMRoberta", ROBERTA),
    "camembert": ("Camembert", ROBERTA),
    "electra": ("Electra", SIZES | {"embedding_size": 8}),
    "electra_base": ("Electra", SIZES | {"embedding_size": 16}),
    "albert": ("Albert", SIZES | {"embedding_size": 8}),
    "mpnet": ("MPNet", SIZES | {"max_position_embeddings": 26}),
}
# Of the token embeddings, and of a bias.
COPIES = (
    "cls.predictions.decoder", "lm_head.decoder", "predictions.decoder", "vocab_projector.weight",
    "generator_lm_head.weight",
)  # fmt: skip
LABELS = ("bad", "good", "so so")


def main() -> None:
    """Write all folders."""
    for name, (classes, sizes) in FAMILIES.items():
        torch.manual_seed(sorted(FAMILIES).index(name))
        config = getattr(transformers, f"{classes}Config")(
            **sizes, id2label=dict(enumerate(LABELS)), label2id={x: i for i, x in enumerate(LABELS)}
        )
        config._attn_implementation = "eager"
        classifier = getattr(transformers, f"{classes}ForSequenceClassification")(config).eval()
        masked = getattr(transformers, f"{classes}ForMaskedLM")(config).eval()
        for model in (classifier, masked):
            randomize(model)
        base = classifier.base_model_prefix
        getattr(masked, base).load_state_dict(getattr(classifier, base).state_dict(), strict=False)
        masked.tie_weights()
        inputs = some_inputs(config)
        with torch.no_grad():
            output = classifier(**inputs, output_hidden_states=True, output_attentions=True)
            tokens = masked(**inputs).logits
        classifier.save_pretrained(HERE / name, state_dict=all_tensors(classifier, masked))
        (HERE / name / "generation_config.json").unlink(missing_ok=True)
        np.savez_compressed(
            HERE / name / "expected.npz",
            ids=inputs["input_ids"].numpy().astype(np.int32),
            mask=inputs["attention_mask"].numpy().astype(np.int32),
            segment_ids=inputs.get("token_type_ids", torch.zeros(1)).numpy().astype(np.int32),
            logits=output.logits.numpy(),
            masked_logits=tokens.numpy(),
            hidden_states=torch.stack(output.hidden_states).numpy(),
            attentions=torch.stack(output.attentions).numpy(),
        )
        print(name, output.logits[0].tolist())


def randomize(model: Any) -> None:
    """Weights that say something: biases and layer norms too."""
    for name, parameter in model.named_parameters():
        is_norm = "norm" in name.lower() and name.endswith("weight")
        torch.nn.init.normal_(parameter, 1.0 if is_norm else 0.0, 0.3)


def some_inputs(config: Any) -> dict[str, Any]:
    """Texts of 12, 7 and 3 tokens; in the first is a padding token that is none."""
    ids = torch.full((3, 12), config.pad_token_id)
    mask = torch.zeros_like(ids)
    for row, length in enumerate((12, 7, 3)):
        ids[row, :length] = torch.randint(5, VOCABULARY, (length,))
        mask[row, :length] = 1
    ids[0, 4] = config.pad_token_id
    inputs = {"input_ids": ids, "attention_mask": mask}
    if getattr(config, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = torch.zeros_like(ids)
        inputs["token_type_ids"][0, 6:] = 1
    return inputs


def all_tensors(classifier: Any, masked: Any) -> dict[str, Any]:
    """The classifier's tensors and those of the other's head, without copies of the embeddings."""
    tensors = {**masked.state_dict(), **classifier.state_dict()}
    return {
        name: tensor.clone().contiguous()
        for name, tensor in tensors.items()
        if "decoder" not in name
        and name not in ("vocab_projector.weight", "generator_lm_head.weight")
    }


if __name__ == "__main__":
    main()
