"""An exponential moving average of all weights, validated and kept in place of the last ones."""

import tf_keras as keras


class WeightAverage(keras.callbacks.Callback):
    """Averages every floating weight, the statistics of batch normalisation included.

    The decay is `min(decay, (1 + t) / (10 + t))` at step t, so that the random start is soon
    forgotten. While the model is validated it holds the average; `exchange` swaps by hand.
    """

    def __init__(self, decay: float):
        super().__init__()
        self.decay = decay
        self.step = None
        self.averages: list = []
        self.weights: list = []
        self.update = None

    def set_model(self, model):
        """Start from the model's present weights."""
        import tensorflow as tf

        super().set_model(model)
        if self.averages:
            return
        self.step = tf.Variable(0.0)
        self.weights = [w for w in model.weights if w.dtype.is_floating]
        self.averages = [tf.Variable(w, trainable=False) for w in self.weights]

        @tf.function
        def update():
            rest = 1 - tf.minimum(self.decay, (1 + self.step) / (10 + self.step))
            self.step.assign_add(1.0)
            for average, weight in zip(self.averages, self.weights, strict=True):
                average.assign_sub(rest * (average - weight))

        self.update = update

    def on_train_batch_end(self, batch, logs=None):
        """Move the average towards the new weights."""
        self.update()

    def on_test_begin(self, logs=None):
        """Validate the average."""
        self.exchange()

    def on_test_end(self, logs=None):
        """Go on training from the last weights."""
        self.exchange()

    def exchange(self):
        """Swap the average with the model's weights."""
        for average, weight in zip(self.averages, self.weights, strict=True):
            kept = weight.numpy()
            weight.assign(average)
            average.assign(kept)
