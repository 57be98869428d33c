"""Adversaries: what makes inputs on which teacher and student part."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kdedge.distill.losses import TwoSidedCrossEntropy, divergence
from kdedge.errors import KdedgeError
from kdedge.students.inside import run_from, token_layer
from kdedge.teachers.bert import BertTeacher
from kdedge.teachers.soft_labels import SoftLabels, label_texts
from kdedge.text.encoder import TextEncoder
from kdedge.text.neighbours import may_be_swapped, nearest_pieces

Inputs = dict[str, Any]
BATCH = 64


class Adversary:
    """Base class: token ids in, other token ids out.

    Attributes:
        student: the student that is trained.
        teacher: labels the changed inputs; `attack` needs none.
        variables: Keras variables that it changes; a run that is resumed needs them.
    """

    student: keras.Model
    teacher: keras.Model | None
    variables: Sequence[Any] = ()

    def learn(self, inputs: Inputs) -> None:
        """Take one step of its own, before the student's; for adversaries that learn.

        Args:
            inputs: int32 [batch, length] `ids`, `mask` and `segment_ids`.
        """

    def attack(self, inputs: Inputs, teacher_logits: Any) -> Any:
        """Change texts.

        Args:
            inputs: int32 [batch, length] `ids`, `mask` and `segment_ids`.
            teacher_logits: float32 [batch, classes], what the teacher says of them as they are.

        Returns:
            The changed ids, int32 [batch, length].
        """
        raise NotImplementedError

    def logits(self, inputs: Inputs, teacher_logits: Any) -> tuple[Any, Any]:
        """What teacher and student say of the inputs that it makes of these.

        Args:
            inputs: int32 [batch, length] `ids`, `mask` and `segment_ids`.
            teacher_logits: float32 [batch, classes], what the teacher says of them as they are.

        Returns:
            The teacher's and the student's logits, float32 [batch, classes].

        Raises:
            KdedgeError: there is no teacher.
        """
        if self.teacher is None:
            raise KdedgeError("teacher: None; one is needed to label what the adversary makes.")
        made = {**inputs, "ids": self.attack(inputs, teacher_logits)}
        said = self.teacher(made, training=False)
        teacher = said["logits"] if isinstance(said, dict) else said
        return tf.stop_gradient(teacher), self.student(made, training=True)


@keras.saving.register_keras_serializable("kdedge")
class AdversarialLoss(TwoSidedCrossEntropy):
    """-sum y log p - sum (1 - y) log(1 - p) where an adversary has driven the two models apart.

    The teacher labels the changed inputs anew: y are its probabilities there, p the student's.
    Counts in training only. It costs a step of the adversary and second passes of both models.

    Args:
        adversary: made for the very student that is trained.
        every: of a batch the adversary changes each so manieth text, and its loss is their mean.

    Raises:
        KdedgeError: `every` is below 1.
    """

    name = "adversarial_loss"

    def __init__(self, adversary: Adversary, every: int = 1) -> None:
        if every < 1:
            raise KdedgeError(f"every: {every}; at least 1.")
        self.adversary, self.every = adversary, every

    def get_config(self) -> dict[str, Any]:
        """Not possible: an adversary belongs to one student object.

        Raises:
            KdedgeError: always.
        """
        raise KdedgeError(
            "adversarial_loss: an adversary belongs to the student that it was made for and can't "
            "be stored. Save `distiller.student`."
        )


class Substitution(Adversary):
    """Swaps tokens for near ones, those that part teacher and student the most to first order.

    HotFlip (Ebrahimi et al. 2017, arXiv 1712.06751): with the gradient g of KL(teacher || student)
    at a token's embedding e, a swap to the embedding e' raises it by about g . (e' - e). The best
    swap of a text is made, the gradient taken anew, and so on. The candidates are the nearest
    neighbours in a table of vectors, so that the text stays like what it was. Special tokens,
    padding and what is not made of letters stay.

    Args:
        student: has an embedding layer named `tokens`.
        vectors: float [vocabulary, width], by which neighbours are found, for instance
            `SoftLabels.token_vectors()`.
        vocabulary: word pieces in the order of their ids.
        teacher: gives the logits of the changed inputs; `attack` needs none.
        swaps: at most so many tokens of a text change.
        neighbours: candidates for each token.

    Raises:
        KdedgeError: a student without token embeddings, or another vocabulary than its own.
    """

    def __init__(
        self,
        student: keras.Model,
        vectors: npt.NDArray[np.floating[Any]],
        vocabulary: Sequence[str],
        teacher: keras.Model | None = None,
        swaps: int = 2,
        neighbours: int = 8,
    ) -> None:
        if swaps < 1:
            raise KdedgeError(f"swaps: {swaps}; at least 1.")
        tokens = token_layer(student)
        if tokens.input_dim != len(vocabulary):
            raise KdedgeError(
                f"vocabulary: {len(vocabulary)} word pieces; the student has {tokens.input_dim}."
            )
        self.student, self.teacher, self.swaps = student, teacher, swaps
        self.candidates = tf.constant(nearest_pieces(vectors, vocabulary, neighbours))

    def attack(self, inputs: Inputs, teacher_logits: Any) -> Any:
        """See `Adversary`."""
        ids = tf.convert_to_tensor(inputs["ids"])
        table = token_layer(self.student).embeddings
        changed = tf.zeros_like(ids, tf.bool)
        for _ in range(self.swaps):
            embeddings = tf.gather(table, ids)
            with tf.GradientTape() as tape:
                tape.watch(embeddings)
                said = run_from(self.student, "tokens", embeddings, inputs, training=False)
                apart = divergence(teacher_logits, said)
            gradient = tape.gradient(apart, embeddings)
            candidates = tf.gather(self.candidates, ids)
            gains = tf.einsum("blw,blcw->blc", gradient, tf.gather(table, candidates))
            gains -= tf.reduce_sum(gradient * embeddings, -1, keepdims=True)
            # A token that is its own candidate has none; one that changed stays as it is now.
            free = (candidates != ids[:, :, None]) & ~changed[:, :, None]
            free &= inputs["mask"][:, :, None] > 0
            gains = tf.where(free, gains, 0.0)
            choices = tf.shape(gains)[2]
            gains = tf.reshape(gains, [tf.shape(ids)[0], -1])
            best = tf.argmax(gains, 1, output_type=tf.int32)
            here = tf.one_hot(best // choices, tf.shape(ids)[1], on_value=True, off_value=False)
            here &= tf.reduce_max(gains, 1, keepdims=True) > 0
            swapped = tf.gather(tf.reshape(candidates, tf.shape(gains)), best, batch_dims=1)
            ids = tf.where(here, swapped[:, None], ids)
            changed |= here
        return ids


class Generator(Adversary):
    """Masks a share of the tokens and has a small network, which learns, propose others.

    MATE-KD (Rashid et al. 2021, arXiv 2105.05912): the proposals are samples of a Gumbel-softmax,
    straight through: both models see the embeddings of single tokens, and the gradient is that of
    their mixture. The network is trained to raise KL(teacher || student), the student to lower it;
    it learns in turns, since each of its steps takes a backward pass of the teacher.
    The paper's network is a pretrained masked-language model; this one is two convolutions between
    the teacher's word embeddings, which do not change.

    Args:
        student: has an embedding layer named `tokens`.
        teacher: a `BertTeacher`, which takes embeddings.
        vocabulary: word pieces in the order of their ids, [MASK] among them.
        masked_share: of the tokens that are replaced.
        temperature: of the Gumbel-softmax.
        learning_rate: of the network.
        turns: it learns for so many of the student's steps, then rests for so many.
        seed: of its weights, the masks and the samples.

    Raises:
        KdedgeError: an argument that is not as it says here.
    """

    teacher: BertTeacher

    def __init__(
        self,
        student: keras.Model,
        teacher: BertTeacher,
        vocabulary: Sequence[str],
        masked_share: float = 0.3,
        temperature: float = 1.0,
        learning_rate: float = 5e-4,
        turns: tuple[int, int] = (10, 100),
        seed: int = 0,
    ) -> None:
        if not 0 < masked_share <= 1:
            raise KdedgeError(f"masked_share: {masked_share}; above 0 and at most 1.")
        if not temperature > 0:
            raise KdedgeError(f"temperature: {temperature}; it must be above 0.")
        if turns[0] < 1 or turns[1] < 0:
            raise KdedgeError(f"turns: {turns}; at least 1 step to learn and 0 to rest.")
        if not isinstance(teacher, BertTeacher):
            raise KdedgeError(
                f"teacher: {type(teacher).__name__}; a BertTeacher, which takes embeddings, is "
                "needed."
            )
        if "[MASK]" not in vocabulary:
            raise KdedgeError("vocabulary: [MASK] is missing; the generator puts it in.")
        tokens = token_layer(student)
        self.student, self.teacher, self.table = student, teacher, tokens.embeddings
        self.masked_share, self.temperature, self.turns = masked_share, temperature, turns
        self.mask_id = list(vocabulary).index("[MASK]")
        self.free = tf.constant([may_be_swapped(piece) for piece in vocabulary])
        width = int(teacher.word_embeddings.shape[1])
        weights = keras.initializers.GlorotUniform(seed)
        conv = keras.layers.Conv1D
        self.network = keras.Sequential(
            [
                conv(width, 5, padding="same", activation="relu", kernel_initializer=weights),
                conv(width, 5, padding="same", kernel_initializer=weights),
            ],
            name="generator",
        )
        self.network.build((None, None, width))
        self.optimizer = keras.optimizers.Adam(learning_rate, clipnorm=1.0)
        self.optimizer.build(self.network.trainable_variables)
        self.random = keras.random.SeedGenerator(seed)
        self.step = keras.Variable(0, dtype="int64", trainable=False)
        self.variables = (
            *self.network.variables,
            *self.optimizer.variables,
            self.random.state,
            self.step,
        )

    def learn(self, inputs: Inputs) -> None:
        """One step of the network up the divergence, if it is its turn."""
        its_turn = self.step.value % sum(self.turns) < self.turns[0]
        self.step.assign_add(1)
        tf.cond(its_turn, lambda: self._climb(inputs), lambda: None)

    def _climb(self, inputs: Inputs) -> None:
        variables = self.network.trainable_variables
        words, table = (tf.convert_to_tensor(t) for t in (self.teacher.word_embeddings, self.table))
        with tf.GradientTape() as tape:
            positions, noisy = self._proposals(inputs)
            soft = tf.nn.softmax(noisy / self.temperature)
            hard = tf.one_hot(tf.argmax(noisy, 1), tf.shape(noisy)[1])
            mixture = hard + soft - tf.stop_gradient(soft)

            def mixed(vectors: Any) -> Any:
                as_they_are = tf.gather(vectors, inputs["ids"])
                return tf.tensor_scatter_nd_update(as_they_are, positions, mixture @ vectors)

            rest = {name: inputs[name] for name in ("mask", "segment_ids")}
            teacher = self.teacher(rest | {"embeddings": mixed(words)}, training=False)["logits"]
            student = run_from(self.student, "tokens", mixed(table), inputs, training=False)
            loss = -tf.reduce_mean(divergence(teacher, student))
        self.optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)

    def attack(self, inputs: Inputs, teacher_logits: Any) -> Any:
        """See `Adversary`; what the teacher says of the texts as they are plays no part."""
        positions, noisy = self._proposals(inputs)
        proposed = tf.argmax(noisy, 1, output_type=tf.int32)
        return tf.tensor_scatter_nd_update(inputs["ids"], positions, proposed)

    def _proposals(self, inputs: Inputs) -> tuple[Any, Any]:
        """Positions int64 [masked, 2]; scores with Gumbel noise, float32 [masked, vocabulary]."""
        ids = inputs["ids"]
        words = tf.convert_to_tensor(self.teacher.word_embeddings)
        chance = keras.random.uniform(tf.shape(ids), seed=self.random)
        masked = (chance < self.masked_share) & tf.gather(self.free, ids) & (inputs["mask"] > 0)
        seen = tf.gather(words, tf.where(masked, self.mask_id, ids))
        positions = tf.where(masked)
        scores = tf.matmul(tf.gather_nd(self.network(seen), positions), words, transpose_b=True)
        noise = -tf.math.log(
            -tf.math.log(keras.random.uniform(tf.shape(scores), 1e-7, 1.0, seed=self.random))
        )
        return positions, tf.where(self.free, scores, -1e9) + noise


def adversarial_texts(
    student: keras.Model,
    encoder: TextEncoder,
    teacher: BertTeacher,
    texts: Sequence[str],
    store: SoftLabels,
    swaps: int = 2,
    neighbours: int = 8,
) -> tuple[list[str], SoftLabels]:
    """Make texts on which teacher and student part, by `Substitution`, and store what they mean.

    Labelled once, they are like any other text of the transfer set: the adversary costs nothing in
    the epochs that follow.

    Args:
        student: as it is by now.
        encoder: the student's.
        teacher: labels the texts; the one of the store.
        texts: to change, all of them in the store.
        store: has the teacher's token vectors.
        swaps: at most so many tokens of a text change.
        neighbours: candidates for each token.

    Returns:
        The new texts, each once, as the tokenizer puts word pieces together, and the store with
        them.

    Raises:
        KdedgeError: a text without a soft label, no token vectors, or another teacher's store.
    """
    vectors = store.token_vectors()
    if vectors is None:
        raise KdedgeError(f"{store.folder}: no token vectors of a teacher, by which to find words.")
    adversary = Substitution(student, vectors, encoder.vocabulary, None, swaps, neighbours)
    attack = tf.function(adversary.attack, reduce_retracing=True)
    said, _ = store.lookup(texts)
    made: list[str] = []
    for start in range(0, len(texts), BATCH):
        encoded = encoder.encode(texts[start : start + BATCH])
        inputs = {name: tf.constant(array) for name, array in encoded.inputs.items()}
        ids = attack(inputs, tf.constant(said[start : start + BATCH])).numpy()
        changed = np.flatnonzero((ids != encoded.ids).any(1))
        made += [encoder.tokenizer.decode(ids[i][encoded.mask[i] > 0].tolist()) for i in changed]
    made = store.missing(text for text in made if text)
    return made, label_texts(teacher, made, store.folder)
