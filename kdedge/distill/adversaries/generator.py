"""An adversary that learns to propose tokens (MATE-KD)."""

from collections.abc import Sequence
from typing import Any, Self

import keras
import tensorflow as tf

from kdedge.distill.adversaries.adversary import Adversary, Context, Inputs
from kdedge.errors import KdedgeError
from kdedge.objectives import objective_of
from kdedge.recipe import Distill
from kdedge.students.architecture import Parts
from kdedge.tasks import Task
from kdedge.teachers.bert import BertTeacher
from kdedge.text.neighbours import may_be_swapped


class Generator(Adversary):
    """Masks a share of the tokens and has a small network, which learns, propose others.

    MATE-KD (Rashid et al. 2021, arXiv 2105.05912): the proposals are samples of a Gumbel-softmax,
    straight through: both models see the embeddings of single tokens, and the gradient is that of
    their mixture. The network is trained to raise KL(teacher || student), the student to lower it;
    it learns in turns, since each of its steps takes a backward pass of the teacher.
    The paper's network is a pretrained masked-language model; this one is two convolutions between
    the teacher's word embeddings, which do not change.

    Args:
        student: a student with token embeddings.
        teacher: a `BertTeacher`, because it takes embeddings.
        vocabulary: word pieces in the order of their ids, [MASK] among them.
        masked_share: share of the tokens that are replaced.
        temperature: temperature of the Gumbel-softmax.
        learning_rate: learning rate of the network.
        turns: steps of the student in which the network learns, and steps in which it then rests.
        seed: seed of its weights, the masks and the samples.
        task: task of the logits; None for classification.

    Raises:
        KdedgeError: an argument is out of its range.
    """

    needs_teacher = True
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
        task: Task | None = None,
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
            raise KdedgeError(
                "vocabulary: it has no [MASK], which the generator puts in place of tokens. Use "
                "another adversary."
            )
        self.parts, self.divergence = Parts(student), objective_of(task).divergence
        self.student, self.teacher = student, teacher
        self.table = self.parts.token_embedding.embeddings
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

    @classmethod
    def from_settings(cls, settings: Distill, context: Context) -> Self:
        """With the run's own teacher; see `Adversary`."""
        return cls(
            context.student,
            context.teacher,
            context.encoder.vocabulary,
            masked_share=settings.adversarial_share,
            seed=context.seed,
            task=context.task,
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
            student = self.parts.run_from(
                self.parts.token_embedding, mixed(table), inputs, training=False
            )
            loss = -tf.reduce_mean(self.divergence(teacher, student))
        self.optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)

    def attack(self, inputs: Inputs, teacher_logits: Any) -> Any:
        """See `Adversary`; the teacher's logits are not used."""
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
