"""Fine-tunes a pretrained BERT on a corpus. Devlin et al. 2018, arXiv 1810.04805."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kdedge.errors import KdedgeError
from kdedge.files import new_folder, require_space
from kdedge.memory import keep_freed_memory
from kdedge.objectives import objective_of
from kdedge.recipe import Teach, fingerprint
from kdedge.teachers.bert import BertTeacher, load_teacher, write_notes
from kdedge.teachers.label import run_teacher
from kdedge.text.batches import shuffled_batches
from kdedge.text.corpus import Corpus
from kdedge.training.resumable import Resumable, remove_checkpoints


def finetune(corpus: Corpus, settings: Teach, out: Path, seed: int) -> BertTeacher:
    """Fine-tune `settings.pretrained` and write the weights of the best epoch on the valid split.

    Adam with linear warm-up and decay; gradients are clipped by their global norm. A run that was
    stopped continues from its last checkpoint and ends with the same result.

    Raises:
        KdedgeError: the pretrained model can't be used, `out` exists, or the disk is full.
    """
    if out.exists():
        raise KdedgeError(f"{out} exists already. Remove it or name another folder.")
    keep_freed_memory()
    keras.utils.set_random_seed(seed)
    teacher = load_teacher(
        settings.pretrained,
        task=corpus.task,
        max_length=settings.max_length,
        dtype="mixed_bfloat16" if tf.config.list_physical_devices("GPU") else "float32",
    )
    teacher.task = corpus.task
    # Weights, two moments, the best epoch, and the old checkpoint while a new one is written.
    require_space(out.parent, 8 * 4 * teacher.count_params())
    key = fingerprint(settings, teacher.fingerprint, corpus.fingerprint(), str(seed))
    training, tuning = Resumable(out, key), FineTuning(teacher, corpus, settings, seed)
    _train(training, tuning)
    with new_folder(out) as folder:
        teacher.save_pretrained(folder)
        notes = {"history": training.history, "seed": seed, "settings": settings.model_dump()}
        write_notes(folder, notes)
    remove_checkpoints(out)
    return load_teacher(out)


def _train(training: Resumable, tuning: "FineTuning") -> None:
    """Train to the end and restore the weights of the best epoch."""
    epochs, steps = tuning.settings.epochs, tuning.steps_an_epoch
    # TensorFlow's checkpoints don't see into a list of layers.
    weights = [variable.value for variable in tuning.teacher.weights]
    measure = f"val_{tuning.corpus.task.metric}"
    training.track([weights, tuning.optimizer], weights, by=measure, highest=True)
    with training.progress("fine-tuning the teacher", steps, epochs) as advance:
        for epoch in training.epochs_left(epochs):
            for inputs, labels in tuning.batches(epoch, training.step):
                loss = tuning.step(epoch * steps + training.step, inputs, labels)
                training.end_step(loss)
                advance(1, f"epoch {epoch + 1}, loss {training.loss / training.step:.3f}")
            training.end_epoch({"loss": training.loss / steps, measure: tuning.score()})
    training.restore_best()


class Adam(tf.Module):
    """Adam (arXiv 1412.6980) with TensorFlow's fused kernel.

    That of Keras would make a step of a BERT a quarter longer.

    Args:
        variables: variables to train.
    """

    BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-7

    def __init__(self, variables: Sequence[Any]) -> None:
        super().__init__()
        self.variables_to_train = tuple(variables)
        self.m, self.v = (
            [tf.Variable(tf.zeros_like(v), trainable=False) for v in variables] for _ in range(2)
        )

    def apply(self, gradients: Sequence[Any], rate: Any, step: Any) -> None:
        """Update the variables.

        Args:
            gradients: one for each variable; None for a variable that is not changed.
            rate: learning rate, a scalar tensor.
            step: number of steps before this one, a float scalar tensor.
        """
        powers = (self.BETA1 ** (step + 1), self.BETA2 ** (step + 1))
        for gradient, variable, m, v in zip(
            gradients, self.variables_to_train, self.m, self.v, strict=True
        ):
            if gradient is not None:
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
                    # The gradient of the word embeddings is sparse.
                    grad=tf.convert_to_tensor(gradient),
                )


class FineTuning:
    """The steps of a fine-tuning; each step is the same in a resumed run.

    Args:
        teacher: the teacher to train.
        corpus: trained on its train split, evaluated on its valid split.
        settings: settings of the recipe.
        seed: seed of the order of the texts and of dropout.
    """

    def __init__(self, teacher: BertTeacher, corpus: Corpus, settings: Teach, seed: int) -> None:
        self.teacher, self.corpus, self.settings, self.seed = teacher, corpus, settings, seed
        self.lengths = [len(row) for row in teacher.encoder.token_ids(corpus.train.texts)]
        self.steps_an_epoch = -(-len(self.lengths) // settings.batch_size)
        self.optimizer = Adam([variable.value for variable in teacher.trainable_variables])
        self.label_loss = objective_of(corpus.task).label_loss()
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
                {"ids": rows, "mask": rows, "segment_ids": rows}, labels, number, number
            ],
        )  # fmt: skip

    def batches(self, epoch: int, first: int) -> Iterator[tuple[Any, Any]]:
        """The batches of an epoch from number `first` on, each of texts of similar length."""
        train, size = self.corpus.train, self.settings.batch_size
        for chosen in shuffled_batches(self.lengths, size, [self.seed, epoch])[first:]:
            encoded = self.teacher.encoder.encode([train.texts[i] for i in chosen])
            yield encoded.inputs, train.labels[chosen]

    def step(self, number: int, inputs: Any, labels: Any) -> float:
        """Train on a batch and return the mean loss; `number` counts the steps before."""
        steps = self.steps_an_epoch * self.settings.epochs
        warmup = max(1, round(self.settings.warmup_fraction * steps))
        scale = min((number + 1) / warmup, (steps - number) / max(1, steps - warmup))
        for place, state in enumerate(self.dropouts):
            state.assign(np.random.SeedSequence([self.seed, number, place]).generate_state(2))
        rate = self.settings.learning_rate * scale
        return float(self.apply(inputs, labels, rate, float(number)))

    def _apply(self, inputs: Any, labels: Any, rate: Any, step: Any) -> Any:
        variables = self.optimizer.variables_to_train
        with tf.GradientTape() as tape:
            logits = self.teacher(inputs, training=True)["logits"]
            loss = tf.reduce_mean(self.label_loss.call(labels, logits))
        gradients, _ = tf.clip_by_global_norm(
            tape.gradient(loss, variables), self.settings.clip_norm
        )
        self.optimizer.apply(gradients, rate, step)
        return loss

    def score(self) -> float:
        """The task's metric on the valid split."""
        valid = self.corpus.valid
        logits = run_teacher(self.teacher, valid.texts, self.settings.batch_size)["logits"]
        return self.corpus.task.score(logits, valid.labels)
