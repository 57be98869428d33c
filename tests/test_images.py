"""The Distiller is for any classifier: here one of images."""

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

from kdedge import Distiller, FeatureLoss, SoftLabelLoss


def test_a_classifier_of_digits_with_keras_augmentation_in_front() -> None:
    keras.utils.set_random_seed(0)
    images, labels = load_digits(return_X_y=True)
    x = (images / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    # 250 labelled pictures, and 1,000 more that only the teacher labels.
    train, transfer, test = slice(0, 1250), slice(250, 1250), slice(1250, None)

    inputs = keras.Input((8, 8, 1))
    wide = keras.layers.Conv2D(32, 3, activation="relu")(inputs)
    wide = keras.layers.Dense(64, activation="relu", name="sentence")(keras.layers.Flatten()(wide))
    outputs = {"logits": keras.layers.Dense(10)(wide), "pooled": wide}
    teacher = keras.Model(inputs, outputs)
    classifier = keras.Model(inputs, outputs["logits"])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
    classifier.fit(x[train], labels[train], batch_size=64, epochs=8, verbose=0)
    teacher_accuracy = classifier.evaluate(x[test], labels[test], verbose=0)[1]
    assert teacher_accuracy > 0.9

    student = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
            keras.layers.Flatten(name="sentence"),
            keras.layers.Dense(10),
        ]
    )
    distiller = Distiller(
        teacher, student, [SoftLabelLoss(2.0), FeatureLoss(64)], [1.0, 0.1], student_loss_weight=0.1
    )
    distiller.compile(keras.optimizers.Adam(1e-2), metrics=["accuracy"])
    augment = keras.Sequential(
        [
            keras.layers.ZeroPadding2D(1),
            keras.layers.RandomCrop(8, 8, seed=1),
            keras.layers.RandomRotation(0.03, seed=2),
            keras.layers.RandomBrightness(0.1, value_range=(0.0, 1.0), seed=3),
        ]
    )
    known = np.where(np.arange(len(labels)) < 250, labels, -1)
    known[transfer] = -1
    pictures = (
        tf.data.Dataset.from_tensor_slices((x[train], known[train]))
        .shuffle(1250, seed=4)
        .batch(64)
        .map(lambda image, label: (augment(image, training=True), label))
    )
    before = student.count_params()
    history = distiller.fit(pictures, epochs=15, verbose=0).history
    assert history["soft_label_loss"][-1] < 0.3 * history["soft_label_loss"][0]
    accuracy = distiller.evaluate(x[test], labels[test], verbose=0, return_dict=True)["accuracy"]
    # 810 weights against the teacher's 74,000; chance is 0.1.
    assert before == 8 * 10 + 72 * 10 + 10
    assert accuracy > 0.85
