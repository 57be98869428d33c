"""The mean of the epochs' weights: hand-worked numbers."""

import tensorflow as tf

from kdedge.training.averaging import MeanOfEpochs


def test_the_mean_is_of_the_ends_of_the_epochs() -> None:
    weight, bias = tf.Variable([2.0, 0.0]), tf.Variable(1.0)
    mean = MeanOfEpochs([weight, bias])
    with mean.in_place():
        assert weight.numpy().tolist() == [2.0, 0.0]
    for epoch, (w, b) in enumerate([([4.0, 3.0], 1.0), ([6.0, 0.0], 2.0), ([8.0, 0.0], 6.0)], 1):
        weight.assign(w)
        bias.assign(b)
        mean.add(epoch)
    with mean.in_place():
        # ((4 + 6) / 2 + 8) / 2 and so on; the start does not count.
        assert weight.numpy().tolist() == [6.5, 0.75]
        assert bias.numpy() == 3.75
    assert weight.numpy().tolist() == [8.0, 0.0]
    mean.put()
    assert weight.numpy().tolist() == [6.5, 0.75]
