"""A teacher without fine-tuning: a masked-language model that fills in a blank."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from kdedge.errors import KdedgeError
from kdedge.tasks import Classification
from kdedge.teachers.bert import BertTeacher, Inputs
from kdedge.teachers.checkpoints import find_pretrained
from kdedge.teachers.encoder import Encoder
from kdedge.teachers.heads import MaskedHead, mean_of
from kdedge.teachers.weights import Checkpoint, head_variables
from kdedge.text.encoder import TextEncoder

TEXT, MASK = "{text}", "[MASK]"


class PromptedTeacher(BertTeacher):
    """A masked-language model that classifies by patterns and verbalizers, with few or no labels.

    PET (Schick, Schuetze 2020, arXiv 2001.07676): the text is put into a pattern such as
    `{text} It was [MASK].`, and the logit of a class is that of its verbalizer, a word such as
    `great`, at the blank; with several verbalizers it is their mean. Several patterns are an
    ensemble: logits and `pooled` are weighted means over the patterns.

    Call it like a `BertTeacher`, with texts as they are: the patterns are added inside.

    Args:
        transformer: computes the hidden states.
        head: scores the tokens for the blank.
        checkpoint: the checkpoint of the weights.
        encoder: converts texts to the model's inputs, without the tokens of the patterns.
        fingerprint: identifies weights, patterns and verbalizers.
        patterns: each has `{text}` and `[MASK]` once.
        verbalizers: for each class, in the order of the logits, words of one token each.
        pattern_weights: weight of each pattern; None for equal weights.

    Raises:
        KdedgeError: a pattern, verbalizer or weight is invalid.
    """

    def __init__(
        self,
        transformer: Encoder,
        head: MaskedHead,
        checkpoint: Checkpoint,
        encoder: TextEncoder,
        fingerprint: str,
        patterns: Sequence[str],
        verbalizers: Mapping[str, Sequence[str]],
        pattern_weights: Sequence[float] | None = None,
    ) -> None:
        names = tuple(verbalizers)
        if len(names) < 2:
            raise KdedgeError(
                f"verbalizers: for {', '.join(names)}; at least two classes are needed."
            )
        super().__init__(
            transformer,
            head,
            checkpoint.family,
            checkpoint.settings,
            encoder,
            Classification(label_names=names),
            fingerprint,
        )
        weights = list(pattern_weights or [1.0] * len(patterns))
        if not patterns or len(weights) != len(patterns) or not min(weights) > 0:
            raise KdedgeError(
                f"pattern_weights: {weights} for {len(patterns)} patterns; at least one pattern "
                "is needed, and a weight above 0 for each."
            )
        self.shares = [weight / sum(weights) for weight in weights]
        self.patterns = [_pattern(encoder, pattern) for pattern in patterns]
        self.verbalizers = [
            [_piece(encoder, word, name) for word in words] for name, words in verbalizers.items()
        ]
        limit = transformer.shape.longest
        longest = encoder.max_length + max(len(a) + len(b) for a, b, _ in self.patterns)
        if longest > limit:
            raise KdedgeError(
                f"max_length: {encoder.max_length} tokens are {longest} with the longest pattern; "
                f"this model takes at most {limit}. Set max_length lower."
            )

    def call(self, inputs: Inputs, training: bool = False) -> dict[str, Any]:
        """Score the verbalizers in the blank of each pattern; `BertTeacher` has the shapes."""
        words = tf.ragged.boolean_mask(inputs["ids"], inputs["mask"] > 0)[:, 1:-1]
        answers = [self._ask(words, *pattern, training) for pattern in self.patterns]
        return {
            name: sum(share * one[name] for share, one in zip(self.shares, answers, strict=True))
            for name in ("logits", "pooled")
        }

    def _ask(
        self, words: Any, before: list[int], after: list[int], blank: int, training: bool
    ) -> dict[str, Any]:
        first, last = (self.encoder.tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]"))
        rows = words.nrows()

        def repeated(ids: list[int]) -> Any:
            return tf.tile(tf.constant([ids], tf.int32), tf.stack([rows, 1]))

        asked = tf.concat([repeated([first, *before]), words, repeated([*after, last])], 1)
        lengths = tf.cast(asked.row_lengths(), tf.int32)
        ids = asked.to_tensor()
        mask = tf.sequence_mask(lengths, dtype=tf.int32)
        states, _ = self.transformer(ids, mask, tf.zeros_like(ids), training=training)
        # Position of the blank: counted from the start in `before`, from the end in `after`.
        places = tf.fill([rows], blank) if blank >= 0 else lengths + blank
        scores = self.head(tf.gather(states[-1], places, batch_dims=1), self.word_embeddings)
        logits = [tf.reduce_mean(tf.gather(scores, ids, axis=1), 1) for ids in self.verbalizers]
        return {"logits": tf.stack(logits, 1), "pooled": mean_of(states[-1], mask)}


def load_prompted_teacher(
    source: str | Path,
    patterns: Sequence[str],
    verbalizers: Mapping[str, Sequence[str]],
    *,
    pattern_weights: Sequence[float] | None = None,
    max_length: int = 64,
) -> PromptedTeacher:
    """Load a masked-language model, for instance `google-bert/bert-base-uncased`.

    Args:
        source: a Hugging Face folder, `package:NAME/FOLDER` or an id on the hub.
        patterns: see `PromptedTeacher`.
        verbalizers: see `PromptedTeacher`.
        pattern_weights: see `PromptedTeacher`.
        max_length: tokens that texts are truncated to, without those of the pattern.

    Raises:
        KdedgeError: the model does not exist or has no masked-language head; or see
            `PromptedTeacher`.
    """
    folder = find_pretrained(source)
    checkpoint = Checkpoint(folder)
    head = MaskedHead(checkpoint.family.masked, checkpoint.shape)
    variables = head_variables(head)
    if not {*variables} <= {*checkpoint.tensors}:
        made_for = ", ".join(checkpoint.settings.get("architectures") or ["nothing in particular"])
        raise KdedgeError(
            f"{folder}: a model for {made_for} has no masked-language head to fill in blanks with: "
            f"{', '.join({*variables} - {*checkpoint.tensors})} missing."
        )
    if checkpoint.settings.get("tie_word_embeddings") is False:
        raise KdedgeError(
            f"{folder}: tie_word_embeddings is false; only heads that share the token embeddings "
            "are supported."
        )
    transformer = checkpoint.encoder()
    checkpoint.fill(variables)
    checkpoint.show_unused()
    encoder = TextEncoder.from_pretrained(folder, max_length)
    fingerprint = checkpoint.fingerprint(
        encoder.tokenizer.to_str(),
        repr((max_length, list(patterns), dict(verbalizers), pattern_weights)),
    )
    return PromptedTeacher(
        transformer,
        head,
        checkpoint,
        encoder,
        fingerprint,
        patterns,
        verbalizers,
        pattern_weights,
    )


def _pattern(encoder: TextEncoder, pattern: str) -> tuple[list[int], list[int], int]:
    """Ids before and after the text, and the blank's position: from the end if it is after."""
    if pattern.count(TEXT) != 1 or pattern.count(MASK) != 1:
        raise KdedgeError(f"patterns: {pattern!r}; each must have {TEXT} and {MASK} once.")
    before, after = (
        encoder.tokenizer.encode(part, add_special_tokens=False).ids for part in pattern.split(TEXT)
    )
    mask = encoder.tokenizer.token_to_id(MASK)
    if mask in before:
        return before, after, 1 + before.index(mask)
    if mask in after:
        # [SEP] comes after it.
        return before, after, after.index(mask) - len(after) - 1
    raise KdedgeError(f"patterns: {pattern!r}; the tokenizer does not know {MASK}.")


def _piece(encoder: TextEncoder, word: str, name: str) -> int:
    ids = encoder.tokenizer.encode(word, add_special_tokens=False).ids
    if len(ids) != 1 or encoder.tokenizer.id_to_token(ids[0]) == "[UNK]":
        raise KdedgeError(
            f"verbalizers: {word!r} of {name!r} is {len(ids)} word pieces or unknown; use a word "
            "that is one known word piece."
        )
    return int(ids[0])
