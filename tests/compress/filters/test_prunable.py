import pytest

from edgecifar.compress.filters.prunable import require_prunable
from edgecifar.runtime.errors import EdgecifarError


def _classifier(*middle, shape=(8, 8, 3), **convolution):
    import tf_keras as keras
    from tf_keras import layers

    x = inputs = keras.Input(shape)
    for layer in (layers.Conv2D(8, 3, name="first", **convolution), *middle):
        x = layer(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(2)(x))


def _refused(model, text):
    with pytest.raises(EdgecifarError, match=text) as caught:
        require_prunable(model)
    assert "\n" not in str(caught.value)


def test_layers_that_hide_what_they_compute():
    import tf_keras as keras
    from tf_keras import layers

    class Doubled(layers.Layer):
        def call(self, inputs):
            return 2 * inputs

    _refused(_classifier(layers.Lambda(lambda x: x, name="odd")), "layer odd .Lambda. hides")
    _refused(_classifier(Doubled(name="own")), "layer own .Doubled. is a custom layer")
    _refused(_classifier(layers.LayerNormalization(name="norm")), "layer norm .*replace it")
    inner = keras.Sequential([layers.Conv2D(8, 1, input_shape=(6, 6, 8))], name="inner")
    _refused(_classifier(inner), "layer inner is a model inside the model: inline")
    _refused(_classifier(layers.BatchNormalization(1, name="rows")), "rows doesn't normalise")


def test_an_operator_is_answered_with_the_layer_to_use():
    import tf_keras as keras

    inputs = keras.Input((8, 8, 3))
    summed = keras.layers.Conv2D(8, 1)(inputs) + keras.layers.Conv2D(8, 1)(inputs)
    _refused(keras.Model(inputs, keras.layers.Flatten()(summed)), "such as Add")


def test_a_class_named_like_keras_own_is_still_custom():
    from tf_keras import layers

    class ReLU(layers.ReLU):
        pass

    _refused(_classifier(ReLU(name="mine")), "layer mine .ReLU. is a custom layer")


def test_inputs_and_shapes():
    import tf_keras as keras

    _refused(_classifier(shape=(None, None, 3)), "isn't fixed height")
    _refused(_classifier(shape=(8, 8, 3), data_format="channels_first"), "channels_first")
    first, second = keras.Input((4, 4, 3)), keras.Input((4, 4, 3))
    joined = keras.layers.Add()([first, second])
    _refused(keras.Model([first, second], joined), "a model with 2 inputs")
    _refused(keras.Model(first, [first, keras.layers.ReLU()(first)]), "a model with 2 outputs")


def test_a_subclassed_model():
    import tf_keras as keras

    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    _refused(Own(), "subclassed")


def test_a_model_with_quantizers(digits_qat_run):
    _refused(digits_qat_run.load_model(), "prune first, then quantize")
