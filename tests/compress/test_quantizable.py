import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from tf_keras import layers

from edgecifar.compress.bare import probabilities
from edgecifar.compress.formats import FORMATS
from edgecifar.compress.layers import plain_name
from edgecifar.compress.quantizable import require_quantizable
from edgecifar.compress.quantize import prepare
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.normalisation import normalise


@pytest.fixture(autouse=True)
def _names():
    """Leave the nets of other tests the names that Keras gives the layers of a first net."""
    yield
    keras.backend.reset_uids()


def stack(*middle):
    return keras.Sequential([keras.Input((8, 8, 3)), *middle])


def branched(join):
    """Return a model of what `join` makes of two convolutions."""
    pixels = keras.Input((8, 8, 3))
    convolutions = [layers.Conv2D(4, 3, padding="same")(pixels) for _ in range(2)]
    return keras.Model(pixels, layers.Flatten()(join(convolutions)))


def norm():
    return layers.BatchNormalization(name="norm")


def refused(model, text):
    with pytest.raises(EdgecifarError, match=text) as caught:
        require_quantizable(model)
    assert "\n" not in str(caught.value)


class Doubled(layers.Layer):
    def call(self, inputs):
        return 2 * inputs


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: layers.Rescaling(1 / 64, name="scale"),
            r"layer scale \(Rescaling\) .*: normalise as",
        ),
        (
            lambda: layers.RandomFlip(name="flip"),
            r"layer flip \(RandomFlip\) .*: change the images outside",
        ),
        (
            lambda: layers.Conv2DTranspose(4, 3, name="up"),
            r"layer up \(Conv2DTranspose\) .*: enlarge by UpSampling2D before a Conv2D",
        ),
        (
            lambda: layers.PReLU(name="slopes"),
            r"layer slopes \(PReLU\) .*: use ReLU or LeakyReLU, or quantize",
        ),
        (
            lambda: layers.LayerNormalization(name="own"),
            r"own \(LayerN.*: use BatchNormalization right behind",
        ),
        (
            lambda: layers.GaussianNoise(0.1, name="noise"),
            r"layer noise \(GaussianNoise\) .*: use Dropout",
        ),
        (lambda: layers.Lambda(tf.abs, name="odd"), r"layer odd \(Lambda\) hides what it computes"),
        (lambda: Doubled(name="mine"), r"layer mine \(Doubled\) is a custom layer"),
        (
            lambda: layers.Masking(name="rare"),
            r"layer rare \(Masking\) .*: build it of convolutions, dense",
        ),
        (lambda: stack(layers.Flatten()), "is a model inside the model: inline its layers"),
        (
            lambda: layers.Activation("selu", name="act"),
            r"layer act \(selu\) has no int8 form: use relu",
        ),
        (
            lambda: layers.Conv2D(4, 3, activation="elu", name="conv"),
            "layer conv has the activation elu",
        ),
        (
            lambda: layers.Conv2D(4, 3, activation=layers.ReLU()),
            "has the activation ReLU, .*: put that layer behind it",
        ),
        (lambda: layers.ReLU(4.0, name="low"), r"layer low bounds or bends .*: use ReLU\(\) or"),
        (lambda: layers.ReLU(negative_slope=0.1, name="bent"), "layer bent bounds or bends ReLU"),
        (
            lambda: layers.SeparableConv2D(4, 3, activation="mish", name="two"),
            "layer two has the activation mish",
        ),
    ],
)
def test_a_layer_without_int8_form_is_named_with_its_rewrite(make, message):
    refused(stack(make()), message)


def test_a_merge_without_int8_form_is_named_with_its_rewrite():
    refused(
        branched(layers.Maximum(name="larger")), r"layer larger \(Maximum\) .*: merge with Add, Mul"
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: stack(norm(), layers.Conv2D(4, 3)),  # as in pre-activation networks
        lambda: stack(layers.Conv2D(4, 3, activation="relu"), norm()),
        lambda: stack(layers.Conv2D(4, 3), layers.ReLU(), norm()),
        lambda: branched(lambda pair: norm()(layers.Concatenate()(pair))),  # as in DenseNet
        lambda: branched(lambda pair: layers.Add()([pair[0], norm()(pair[0])])),
    ],
)
def test_a_norm_that_no_convolution_can_take_in(make):
    model = make()
    refused(model, r"layer norm \(BatchNormalization\) can't be folded into a convolution: put it")
    with pytest.raises(RuntimeError):  # what the toolkit itself would say, much later
        raise_from_toolkit(model)


def test_a_norm_behind_a_dense_layer():
    """The toolkit takes it, and the file would compute both in float."""
    refused(stack(layers.Flatten(), layers.Dense(4), norm()), "layer norm .*, or leave it out")


def raise_from_toolkit(model):
    import tensorflow_model_optimization as tfmot

    tfmot.quantization.keras.quantize_model(model)


def test_a_norm_shared_by_two_convolutions():
    shared = norm()
    refused(branched(lambda pair: layers.Add()([shared(each) for each in pair])), "layer norm ")


def test_inputs_and_shapes():
    pixels, other = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    refused(
        keras.Model([pixels, other], layers.Add()([pixels, other])), "2 inputs can't be quantized"
    )
    refused(keras.Model(pixels, [pixels, layers.ReLU()(pixels)]), "2 outputs can't be quantized")
    loose = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(4, 3)])
    refused(loose, "isn't fixed height, width and channels")

    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    refused(Own(), "a subclassed model can't be quantized")


def test_a_fine_tuned_model(digits_qat_run):
    refused(digits_qat_run.load_model(), "simulates int8 already: quantize the model that this one")


SOUND = {
    "separable": lambda: [layers.SeparableConv2D(4, 3), layers.BatchNormalization(), layers.ReLU()],
    "depthwise": lambda: [layers.DepthwiseConv2D(3), layers.BatchNormalization(), layers.ReLU(6.0)],
    "dense": lambda: [layers.Flatten(), layers.Dense(4), layers.ReLU()],
    "activations": lambda: [
        layers.Conv2D(4, 3, activation="gelu"),
        layers.Conv2D(4, 3, activation=tf.nn.relu),
        layers.Activation("swish"),
        layers.Activation("relu6"),
        layers.LeakyReLU(),
    ],
    "activations inside": lambda: [
        layers.Conv2D(4, 1, activation=tf.nn.relu6),
        layers.DepthwiseConv2D(3, activation="swish"),
        layers.SeparableConv2D(4, 3, activation="leaky_relu", depth_multiplier=2),
        layers.Flatten(),
        layers.Dense(4, activation=tf.nn.silu),
    ],
    "rewritten norm": lambda: [
        layers.ReLU(),
        layers.DepthwiseConv2D(1),
        layers.BatchNormalization(),
    ],
}


def pooled(x):
    return layers.MaxPooling2D(3, 1, padding="same")(x)


def convolved(x):
    return layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(x)))


def separated(x):
    return layers.SeparableConv2D(4, 3, padding="same")(x)


@pytest.mark.parametrize(
    "branches",
    [
        (convolved, pooled),
        (pooled, convolved),
        (convolved, convolved, convolved, pooled),
        (convolved, pooled, convolved),
        (separated, pooled, separated),
        (convolved, separated),
        (lambda x: x, lambda x: x, pooled),
        (convolved, lambda x: x, lambda x: x),
    ],
    ids=lambda branches: "-".join(branch.__name__.strip("<>") for branch in branches),
)
def test_branches_that_are_joined_keep_their_order(branches):
    """The toolkit moves those that it rewrites to the end, where they meet others' weights."""
    keras.utils.set_random_seed(0)
    pixels = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(pixels)
    computes_the_same(pixels, layers.Concatenate()([branch(x) for branch in branches]))


def computes_the_same(pixels, features):
    """Check that a classifier by `features` is the same when it is prepared, but for rounding."""
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, name="last")(features))
    model = keras.Model(pixels, layers.Dense(3, activation="softmax")(x))
    noise = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), np.uint8)
    prepared = prepare(model, noise)
    images = normalise(noise.astype(np.float32))
    gap = np.abs(prepared(images).numpy() - model(images).numpy())
    assert gap.mean() < 0.01
    return prepared


def test_pixels_may_be_joined_with_what_is_made_of_them():
    """Their quantizer comes between."""
    keras.utils.set_random_seed(0)
    pixels = keras.Input((8, 8, 3))
    computes_the_same(pixels, layers.Concatenate()([convolved(pixels), pixels]))


def test_layers_without_ranges_may_be_called_twice():
    keras.utils.set_random_seed(0)
    pixels, pool = keras.Input((8, 8, 3)), layers.MaxPooling2D(3, 1, padding="same")
    branches = [pool(convolved(pixels)), convolved(pixels), pool(pixels)]
    computes_the_same(pixels, layers.Concatenate()(branches))


def test_separable_convolutions_keep_what_they_have():
    """Whatever other layers of a model from a file are called, which Keras didn't count."""
    keras.utils.set_random_seed(0)
    pixels, l2 = keras.Input((8, 8, 3)), keras.regularizers.L2(0.1)
    x = layers.Conv2D(4, 3, name="conv2d")(pixels)
    x = layers.DepthwiseConv2D(3, padding="same", name="apart_depthwise")(x)
    x = layers.SeparableConv2D(
        6, 3, depth_multiplier=2, depthwise_regularizer=l2, pointwise_regularizer=l2, name="apart"
    )(x)
    keras.backend.reset_uids()
    prepared = computes_the_same(pixels, x)
    names = [plain_name(layer.name) for layer in prepared.layers]
    assert names[2:6] == ["conv2d", "apart_depthwise", "apart_depthwise_", "apart"]
    assert len(prepared.losses) == 2


def test_layers_that_are_called_twice_are_refused():
    """One range can't be right for both, and moves by a step at each."""
    pixels, relu = keras.Input((8, 8, 3)), layers.ReLU(name="relu")
    x = relu(layers.Conv2D(4, 3)(relu(layers.Conv2D(4, 3)(pixels))))
    message = "layer relu is called 2 times, whose ranges .*: give each call a layer of its own"
    refused(keras.Model(pixels, layers.Flatten()(x)), message)
    x, conv = pixels, layers.Conv2D(3, 1, name="conv")
    refused(keras.Model(pixels, layers.Flatten()(conv(conv(x)))), "layer conv is called 2 times")


@pytest.mark.parametrize("middle", SOUND.values(), ids=SOUND)
def test_what_passes_becomes_an_int8_file(middle):
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8)
    model = stack(*middle(), layers.Flatten(), layers.Dense(2, activation="softmax"))
    require_quantizable(model)
    prepared = prepare(model, noise)
    assert prepared.output_shape == model.output_shape
    low, high = prepared.layers[0].get_weights()[:2]
    assert (low, high) == pytest.approx((-1.875, 2.109375))  # of pixels, in a stack of layers too
    form = FORMATS["int8"]
    assert "all on integers" in form.inspect(form.convert(prepared, noise), prepared, "it")


def gated(x):
    """Return what squeeze-and-excitation makes of features, as EfficientNet has it."""
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(2, 1, activation="swish", name="squeeze")(gate)
    return layers.Multiply()([x, layers.Conv2D(4, 1, activation="sigmoid")(gate)])


def summed(x):
    return layers.Add()([layers.Conv2D(4, 1)(x), x, layers.Conv2D(4, 1)(x), x])


def multiplied(x):
    return layers.Multiply()([layers.Conv2D(4, 1)(x), x, layers.Conv2D(4, 1)(x)])


@pytest.mark.parametrize("block", [gated, summed, multiplied])
def test_branches_that_are_merged_become_an_int8_file(block):
    keras.utils.set_random_seed(0)
    pixels = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False)(pixels)
    x = block(layers.Activation("swish")(layers.BatchNormalization()(x)))
    prepared = computes_the_same(pixels, x)
    noise = np.random.default_rng(1).integers(0, 256, (64, 8, 8, 3), np.uint8)
    form = FORMATS["int8"]
    payload = form.convert(prepared, noise)
    assert "all on integers" in form.inspect(payload, prepared, "it")
    simulated = prepared(normalise(noise.astype(np.float32))).numpy()
    assert probabilities(payload, noise) == pytest.approx(simulated, abs=0.02)


def test_a_layer_with_its_activation_taken_out_has_its_name_free():
    """Whatever other layers are called."""
    keras.utils.set_random_seed(0)
    pixels = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="conv_linear")(pixels)
    prepared = computes_the_same(pixels, layers.Conv2D(4, 3, activation="swish", name="conv")(x))
    names = [plain_name(layer.name) for layer in prepared.layers]
    assert names[2:5] == ["conv_linear", "conv_linear_", "conv"]
