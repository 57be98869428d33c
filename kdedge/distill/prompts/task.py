"""Learned virtual tokens that become part of the student."""

from typing import Any

import keras

from kdedge.distill.adversaries.adversary import Inputs
from kdedge.layers.prompt import TaskPrompt
from kdedge.students.architecture import run_from, token_layer


def prompted_place(student: keras.Model) -> str:
    """The layer after which virtual tokens are put: behind the positions, if there are any.

    So the text's tokens keep their positions, and a student can do without the prompt.
    """
    token_layer(student)
    return "positions" if "positions" in [la.name for la in student.layers] else "tokens"


def embedded(student: keras.Model, inputs: Inputs) -> Any:
    """The student's embeddings with positions, float32 [batch, length, width]."""
    x = token_layer(student)(inputs["ids"])
    return student.get_layer("positions")(x) if prompted_place(student) == "positions" else x


def with_task_prompt(student: keras.Model, tokens: int) -> keras.Model:
    """A student with learned virtual tokens before each text, baked into its graph.

    Prompt tuning (Lester et al. 2021, arXiv 2104.08691): training finds the vectors; whoever runs
    the student, exported or not, gives it the text alone.

    Args:
        student: has an embedding layer named `tokens`; it is left as it is.
        tokens: number of virtual tokens.

    Returns:
        A new student, with the given one's weights and inputs.

    Raises:
        KdedgeError: no token embeddings, or fewer than 1 token.
    """
    place = prompted_place(student)
    prompt = TaskPrompt(tokens, name="prompt")
    base = keras.models.clone_model(student)
    inputs = {tensor.name: tensor for tensor in base.inputs}
    x, mask = prompt(base.get_layer(place).output, inputs["mask"])
    logits = run_from(base, place, x, {**inputs, "mask": mask})
    # The layers of `base` are in two graphs by now; those of its copy are in one.
    prompted = keras.models.clone_model(keras.Model(inputs, logits, name=student.name))
    for layer in student.layers:
        prompted.get_layer(layer.name).set_weights(layer.get_weights())
    return prompted
