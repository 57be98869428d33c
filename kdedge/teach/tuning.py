"""The training steps of fine-tuning, and the Adam optimizer for them."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kdedge.defaults import FullTeach
from kdedge.objectives import objective_of
from kdedge.teachers.bert import BertTeacher
from kdedge.teachers.label import run_teacher
from kdedge.text.batches import shuffled_batches
from kdedge.text.corpus import Corpus


class Adam(tf.Module):
    """Adam (arXiv 1412.6980) with TensorFlow's fused kernel.

    With the optimizer of Keras, a step of a BERT takes a quarter longer.

    Args:
        variables: variables to train.
        rows: for a table that is trained in part, by the index of the variable: the rows that can
            have a gradient, such as the embeddings of the tokens in the texts. Adam would leave the
            other rows as they are, but going through a table of 250,000 tokens would take longer
            than everything else.
    """

    BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-7

    def __init__(
        self, variables: Sequence[Any], rows: Mapping[int, npt.NDArray[np.int32]] | None = None
    ) -> None:
        super().__init__()
        self.variables_to_train = tuple(variables)
        # TensorFlow's checkpoints need strings as keys.
        self.rows = {
            str(place): _Rows(self.variables_to_train[place], chosen)
            for place, chosen in (rows or {}).items()
        }
        changed = [
            self.rows[str(place)].values if str(place) in self.rows else variable
            for place, variable in enumerate(variables)
        ]
        self.m, self.v = (
            [tf.Variable(tf.zeros_like(v), trainable=False) for v in changed] for _ in range(2)
        )

    def apply(self, gradients: Sequence[Any], rate: Any, step: Any) -> None:
        """Update the variables.

        Args:
            gradients: gradient of each variable; None leaves the variable as it is.
            rate: learning rate, a scalar tensor.
            step: number of steps before this one, a float scalar tensor.
        """
        powers = (self.BETA1 ** (step + 1), self.BETA2 ** (step + 1))
        for place, (gradient, variable, m, v) in enumerate(
            zip(gradients, self.variables_to_train, self.m, self.v, strict=True)
        ):
            if gradient is None:
                continue
            rows = self.rows.get(str(place))
            if rows is not None:
                variable, gradient = rows.read(), rows.gradient(gradient)
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=m.handle,
                v=v.handle,
                beta1_power=powers[0],
                beta2_power=powers[1],
                lr=rate,
                beta1=self.BETA1,
                beta2=self.BETA2,
                epsilon=self.EPSILON,
                # The gradient of the token embeddings is sparse.
                grad=tf.convert_to_tensor(gradient),
            )
            if rows is not None:
                rows.write()


class _Rows(tf.Module):
    """Some rows of a table, [rows, width], in a variable of their own while they are updated."""

    def __init__(self, table: Any, rows: npt.NDArray[np.int32]) -> None:
        super().__init__()
        self.table, self.rows = table, rows
        self.values = tf.Variable(tf.gather(table, rows), trainable=False)
        # The index in `rows` of each row of the table; -1 for the other rows.
        self.places = np.full(table.shape[0], -1, np.int32)
        self.places[rows] = np.arange(len(rows))

    def read(self) -> Any:
        self.values.assign(tf.gather(self.table, self.rows))
        return self.values

    def gradient(self, slices: Any) -> Any:
        """The gradient of the rows, [rows, width], from the table's, a tf.IndexedSlices."""
        places = tf.gather(self.places, slices.indices)
        return tf.math.unsorted_segment_sum(slices.values, places, len(self.rows))

    def write(self) -> None:
        self.table.scatter_update(tf.IndexedSlices(self.values, self.rows))


class FineTuning:
    """Runs the steps of fine-tuning; each step is the same in a resumed run.

    Args:
        teacher: the teacher to train.
        corpus: trained on its train split, evaluated on its valid split.
        settings: settings of the recipe, completed by the defaults for the corpus.
        weights: weights of the training texts, float32 [texts].
        seed: seed of the order of the texts and of dropout.
    """

    def __init__(
        self,
        teacher: BertTeacher,
        corpus: Corpus,
        settings: FullTeach,
        weights: npt.NDArray[np.float32],
        seed: int,
    ) -> None:
        self.teacher, self.corpus, self.settings, self.seed = teacher, corpus, settings, seed
        self.weights = weights
        token_ids = teacher.encoder.token_ids(corpus.train.texts)
        self.lengths = [len(row) for row in token_ids]
        self.steps_an_epoch = -(-len(self.lengths) // settings.batch_size)
        variables = [variable.value for variable in teacher.trainable_variables]
        words = next(i for i, v in enumerate(variables) if v is teacher.word_embeddings)
        seen = {*chain.from_iterable(token_ids), teacher.encoder.pad_id}
        self.optimizer = Adam(variables, {words: np.array(sorted(seen), np.int32)})
        self.objective = objective_of(corpus.task)
        self.label_loss = self.objective.label_loss()
        self.dropouts = [
            layer.seed_generator.state
            for layer in teacher._flatten_layers()
            if isinstance(layer, keras.layers.Dropout) and layer.rate > 0
        ]
        # One graph for all batch sizes and lengths.
        rows = tf.TensorSpec([None, None], tf.int32)
        labels = tf.TensorSpec([None, *corpus.train.labels.shape[1:]], corpus.train.labels.dtype)
        number = tf.TensorSpec([], tf.float32)
        self.apply = tf.function(
            self._apply,
            input_signature=[
                {"ids": rows, "mask": rows, "segment_ids": rows},
                labels, tf.TensorSpec([None], tf.float32), number, number,
            ],
        )  # fmt: skip

    def batches(self, epoch: int, first: int) -> Iterator[tuple[Any, Any, Any]]:
        """The batches of an epoch from number `first` on; texts of a batch are of similar length.

        Yields:
            Inputs, labels and weights.
        """
        train, size = self.corpus.train, self.settings.batch_size
        for chosen in shuffled_batches(self.lengths, size, [self.seed, epoch])[first:]:
            encoded = self.teacher.encoder.encode([train.texts[i] for i in chosen])
            yield encoded.inputs, train.labels[chosen], self.weights[chosen]

    def step(self, number: int, inputs: Any, labels: Any, weights: Any) -> float:
        """Train on a batch and return the mean loss; `number` is the number of earlier steps."""
        steps = self.steps_an_epoch * self.settings.epochs
        warmup = max(1, round(self.settings.warmup_fraction * steps))
        scale = min((number + 1) / warmup, (steps - number) / max(1, steps - warmup))
        for place, state in enumerate(self.dropouts):
            state.assign(np.random.SeedSequence([self.seed, number, place]).generate_state(2))
        rate = self.settings.learning_rate * scale
        return float(self.apply(inputs, labels, weights, rate, float(number)))

    def _apply(self, inputs: Any, labels: Any, weights: Any, rate: Any, step: Any) -> Any:
        variables = self.optimizer.variables_to_train
        with tf.GradientTape() as tape:
            logits = self.teacher(inputs, training=True)["logits"]
            losses = self.label_loss.call(self.objective.labels(labels)[0], logits)
            loss = tf.reduce_mean(weights * losses)
        gradients, _ = tf.clip_by_global_norm(
            tape.gradient(loss, variables), self.settings.clip_norm
        )
        self.optimizer.apply(gradients, rate, step)
        return loss

    def measures(self) -> dict[str, float]:
        """The task's metrics on the valid split."""
        valid, task = self.corpus.valid, self.corpus.task
        logits = run_teacher(self.teacher, valid.texts, self.settings.batch_size)["logits"]
        outputs = task.outputs(logits)
        return task.tuned(outputs, valid.labels).measures(outputs, valid.labels)
