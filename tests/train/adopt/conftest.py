import pytest


@pytest.fixture(scope="session")
def images(digits):
    """Digits for the nets of these tests, 32x32, ten classes."""
    return digits


@pytest.fixture(scope="session")
def raw_net(digits):
    """A net that rescales raw pixels itself, with a model inside it, taught the digits a little."""
    import tf_keras as keras
    from tf_keras import layers

    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((32, 32, 3))
    x = layers.RandomTranslation(0.1, 0.1, name="move")(x)
    x = layers.Rescaling(1 / 255, name="scale")(x)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="stem")(x)
    inner = keras.Sequential([layers.Conv2D(8, 3, padding="same", name="stem")], name="branch")
    x = layers.Concatenate()([x, layers.ReLU()(inner(x))])
    x = layers.Flatten()(layers.MaxPooling2D(4)(x))
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(x), name="raw")
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(digits.train.images, digits.train.labels, 64, epochs=3, verbose=0)
    return model
