"""Learned virtual tokens that become part of the student."""

import keras

from kdedge.layers.prompt import TaskPrompt
from kdedge.students.architecture import Parts


def with_task_prompt(student: keras.Model, tokens: int) -> keras.Model:
    """A student with learned virtual tokens before each text, baked into its graph.

    Prompt tuning (Lester et al. 2021, arXiv 2104.08691): training learns the vectors. The
    student, exported or not, still takes the text alone.

    Args:
        student: a student with token embeddings; it is not changed.
        tokens: number of virtual tokens.

    Returns:
        A new student, with the given one's weights and inputs.

    Raises:
        KdedgeError: no token embeddings, or fewer than 1 token.
    """
    prompt = TaskPrompt(tokens, name="prompt")
    base = Parts(keras.models.clone_model(student))
    inputs = {tensor.name: tensor for tensor in base.model.inputs}
    x, mask = prompt(base.embedded.output, base.mask)
    logits = base.run_from(base.embedded, x, {**inputs, "mask": mask})
    # The layers of `base` are in two graphs by now; those of its copy are in one.
    prompted = keras.models.clone_model(keras.Model(inputs, logits, name=student.name))
    for layer in student.layers:
        prompted.get_layer(layer.name).set_weights(layer.get_weights())
    return prompted
