import numpy as np
import onnx
import pytest
import tf_keras as keras
from tf_keras import layers

from edgecifar.compress.buffers import zero_share
from edgecifar.compress.calibration import calibration_images
from edgecifar.compress.layers import Owners, owners_in
from edgecifar.compress.onnx import to_onnx
from edgecifar.compress.onnx_int8 import quantized_layers, to_onnx_int8
from edgecifar.compress.onnx_kernels import kernels, require_integer_kernels
from edgecifar.compress.quantize import prepare
from edgecifar.compress.selective import fused_with
from edgecifar.compress.tflite import to_tflite
from edgecifar.compress.unwrap import unwrap
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.interpreters import onnx_session
from edgecifar.train.evaluate import predict
from edgecifar.train.normalisation import normalise


@pytest.fixture(scope="module")
def images(digits):
    return calibration_images(digits, 100)


@pytest.fixture(scope="module")
def payload(digits_run, images):
    return to_onnx_int8(digits_run.load_model(), images)


@pytest.fixture(scope="module")
def fine_tuned(digits_qat_run, images):
    return to_onnx_int8(digits_qat_run.load_model(), images)


def run(payload, pixels):
    import onnxruntime

    session = onnx_session(onnxruntime, payload)
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    assert (taken.type, taken.shape[1:]) == ("tensor(uint8)", [32, 32, 3])
    assert given.type == "tensor(float)"
    return session.run(None, {taken.name: pixels})[0]


def constants(graph):
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}


@pytest.mark.parametrize("kind", ["payload", "fine_tuned"])
def test_every_multiplication_runs_on_an_integer_kernel(request, kind):
    found = kernels(request.getfixturevalue(kind))
    assert found.integer == {
        "QGemm": 1, "QLinearAdd": 3, "QLinearConv": 9, "QLinearGlobalAveragePool": 1,
    }  # fmt: skip
    assert found.conversions == 0
    assert found.computing == ()
    assert found.softmax == "resnet8/softmax/Softmax"  # of ten numbers, on purpose
    assert "9 QLinearConv" in found.text


def test_quantization_of_the_pixels_is_the_normalisation_itself(payload):
    graph = onnx.load_model_from_string(payload).graph
    (turn,) = (node for node in graph.node if graph.input[0].name in node.input)
    assert turn.op_type == "Transpose"  # of bytes, which onnxruntime moves out of the way
    (wide,) = (node for node in graph.node if turn.output[0] in node.input)
    scale, zero_point = (constants(graph)[name] for name in wide.input[1:])
    assert (wide.op_type, scale, zero_point) == ("DequantizeLinear", 1 / 64, 120)
    assert zero_point.dtype == np.uint8


def test_it_computes_what_keras_computes(digits, digits_run, payload):
    expected = predict(digits_run.load_model(), digits.validation)
    found = run(payload, digits.validation.images)  # a batch of any size
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.95
    assert np.abs(found - expected).mean() < 0.02


def test_the_fine_tuned_one_computes_what_training_simulated(digits, digits_qat_run, fine_tuned):
    expected = predict(digits_qat_run.load_model(), digits.validation)
    found = run(fine_tuned, digits.validation.images)
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.95
    # Scales of its own choice differ on these images by 0.01. Processors without VNNI saturate
    # sums of two products, which alone makes 0.006.
    assert np.abs(found - expected).mean() < 0.008


def test_fine_tuned_ranges_and_weights_go_into_the_file(digits_qat_run, fine_tuned, images):
    """Not ranges of its calibration images: black ones would leave it none."""
    model = digits_qat_run.load_model()
    graph = onnx.load_model_from_string(fine_tuned).graph
    scale = constants(graph)["resnet8/re_lu/Relu:0_scale"]
    assert scale == pytest.approx(unwrap(model).ranges["re_lu"][1] / 255, rel=1e-4)
    dark = onnx.load_model_from_string(to_onnx_int8(model, np.zeros_like(images[:2]))).graph
    assert constants(dark)["resnet8/re_lu/Relu:0_scale"] == scale
    # Kernels are those of the TFLite file, in another order of axes and of layers.
    kernel = constants(graph)["resnet8/conv2d_1/BiasAdd_weights_fused_bn_quantized"]
    assert kernel.dtype == np.int8
    # Batch normalisation with a negative factor turns signs, and nothing else.
    assert np.abs(kernel).tobytes() in _magnitudes(to_tflite(model, "int8", images))


def _magnitudes(payload):
    """Return the magnitudes of each int8 kernel of a TFLite file, its channels put first."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(payload, 0)
    found = set()
    for tensor in model.subgraphs[0].tensors:
        data = model.buffers[tensor.buffer].data
        if data is not None and len(tensor.shape) == 4:
            kernel = np.asarray(data, np.uint8).view(np.int8).reshape(tensor.shape)
            found.add(np.abs(kernel.transpose(0, 3, 1, 2)).tobytes())
    return found


def test_zeros_of_a_sparse_model_stay_and_nothing_is_printed(digits_run, images, capfd):
    model = digits_run.load_model()
    kernel, *rest = model.get_layer("conv2d_8").get_weights()
    kernel[:, :, ::2] = 0
    model.get_layer("conv2d_8").set_weights([kernel, *rest])
    payload = to_onnx_int8(model, images[:10])
    assert zero_share(payload) > 0.2  # half of the layer with half the weights
    assert capfd.readouterr() == ("", "")


def test_layers_in_float_are_listed(digits_run):
    model = digits_run.load_model()
    listed = (
        r"stay in float: .*Conv \(conv2d\), .* and \d+ more, with 0 conversions .* --keep-float"
    )
    with pytest.raises(EdgecifarError, match=listed):
        require_integer_kernels(to_onnx(model), owners_in(model), name="net-int8.onnx")


@pytest.fixture(scope="module")
def owners(digits_run):
    return owners_in(digits_run.load_model())


def test_a_single_layer_in_float_is_named(payload, owners):
    model = onnx.load_model_from_string(payload)
    graph = model.graph
    (node,) = (node for node in graph.node if node.name == "resnet8/conv2d_4/BiasAdd")
    shape = constants(graph)[node.input[1].replace("DequantizeLinear_Output", "quantized")].shape
    graph.initializer.append(onnx.numpy_helper.from_array(np.ones(shape, np.float32), "kernel"))
    node.input[1] = "kernel"
    broken = model.SerializeToString()
    listed = r"these stay in float: \w*Conv \(conv2d_4\), with 2 conversions to or from float: repl"
    with pytest.raises(EdgecifarError, match=listed):
        require_integer_kernels(broken, owners, name="net-int8.onnx")
    require_integer_kernels(broken, owners, name="net-int8.onnx", kept=["conv2d_4"])


def test_an_operation_without_weights_in_float_is_named(payload, owners):
    """Softplus has no integer kernel; it stands between an addition and what reads it."""
    model = onnx.load_model_from_string(payload)
    graph = model.graph
    (quantizer,) = (n for n in graph.node if n.input[0] == "resnet8/re_lu_2/Relu:0")
    softplus = onnx.helper.make_node(
        "Softplus", [quantizer.input[0]], ["soft"], "resnet8/re_lu_2/Softplus"
    )
    graph.node.insert(list(graph.node).index(quantizer), softplus)
    quantizer.input[0] = "soft"
    listed = r"in float: .*Softplus \(re_lu_2\).* conversions to or from float: replace"
    with pytest.raises(EdgecifarError, match=listed):
        require_integer_kernels(model.SerializeToString(), owners, name="net-int8.onnx")


def test_conversions_around_nothing_are_named():
    """Bytes made floats and bytes again, as between two operations of different ranges."""
    payload = _graph(
        ("DequantizeLinear", ["pixels", "one"], "wide"),
        ("QuantizeLinear", ["wide", "two"], "narrow"),
        ("DequantizeLinear", ["narrow", "two"], "logits"),
        ("Softmax", ["logits"], "last"),
    )
    owners = Owners("net", ("first", "last"), "last")
    listed = r"in float: DequantizeLinear \(first\), QuantizeLinear \(first\), with 2 conversions"
    with pytest.raises(EdgecifarError, match=listed):
        require_integer_kernels(payload, owners, name="net-int8.onnx")


def test_the_softmax_at_the_end_may_be_in_float_and_no_other():
    steps = [
        ("DequantizeLinear", ["pixels", "one"], "logits"),
        ("Softmax", ["logits"], "last"),
    ]
    owners = Owners("net", ("first", "last"), "last")
    found = require_integer_kernels(_graph(*steps), owners, name="net-int8.onnx")
    assert found.conversions == 1
    between = _graph(*steps[:1], ("Softmax", ["logits"], "soft"), ("Softmax", ["soft"], "last"))
    with pytest.raises(EdgecifarError, match=r"in float: Softmax \(first\), with 1 conversions"):
        require_integer_kernels(between, owners, name="net-int8.onnx")


def _graph(*steps):
    """Return a file of ten bytes in, with two scales; all but the output belong to `first`."""
    helper, kinds = onnx.helper, onnx.TensorProto
    scales = [
        onnx.numpy_helper.from_array(np.float32(value), name)
        for name, value in (("one", 1 / 64), ("two", 1 / 32))
    ]
    graph = helper.make_graph(
        [
            helper.make_node(kind, inputs, [output], f"net/{_layer(output)}/{output}")
            for kind, inputs, output in steps
        ],
        "net",
        [helper.make_tensor_value_info("pixels", kinds.UINT8, [1, 10])],
        [helper.make_tensor_value_info("last", kinds.FLOAT, [1, 10])],
        scales,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def _layer(output):
    return "last" if output == "last" else "first"


@pytest.fixture(scope="module")
def concatenating():
    """A net with a norm behind a concatenation, which no convolution can take in."""
    layers = keras.layers
    taken = keras.Input((32, 32, 3))
    first = layers.Conv2D(8, 3, padding="same", activation="relu", name="block/first")(taken)
    both = layers.Concatenate(name="both")([first, layers.Conv2D(8, 1, name="second")(first)])
    norm = layers.BatchNormalization(name="norm", gamma_initializer="random_normal")(both)
    pooled = layers.MaxPooling2D(name="pool")(layers.ReLU(name="relu")(norm))
    flat = layers.GlobalAveragePooling2D(name="average")(pooled)
    model = keras.Model(taken, layers.Dense(10, activation="softmax", name="last")(flat))
    noise = np.random.default_rng(0).normal(1, 0.3, (4, 16)).astype(np.float32)
    model.get_layer("norm").set_weights(noise)
    return model


def test_a_norm_on_its_own_has_an_integer_kernel(concatenating, images, digits):
    payload = to_onnx_int8(concatenating, images)
    found = require_integer_kernels(payload, owners_in(concatenating), name="net-int8.onnx")
    assert (found.integer["QLinearConv"], found.computing) == (3, ())
    assert "both" in quantized_layers(payload, owners_in(concatenating))
    expected = predict(concatenating, digits.validation)
    assert np.abs(run(payload, digits.validation.images) - expected).mean() < 0.02


@pytest.mark.parametrize(
    ("layer", "node"), [("block/first", "block/first"), ("relu", "norm"), ("last", "last")]
)
def test_layers_kept_in_float_are_and_no_other(concatenating, images, digits, layer, node):
    """Whatever is fused with them too, and between neighbours in int8 as well as at the ends."""
    payload = to_onnx_int8(concatenating, images, keep_float=[layer])
    owners = owners_in(concatenating)
    kept = fused_with(concatenating, [layer])
    found = require_integer_kernels(payload, owners, name="net-int8.onnx", kept=kept)
    assert {owners.named(name)[0] for name in found.computing} == {node}
    with pytest.raises(EdgecifarError, match="these stay in float"):
        require_integer_kernels(payload, owners, name="net-int8.onnx")
    expected = predict(concatenating, digits.validation)
    assert np.abs(run(payload, digits.validation.images) - expected).mean() < 0.02


def test_gelu_may_be_kept_in_float():
    """All that it becomes goes by its layer's name, or it would be refused."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), np.uint8)
    pixels = keras.Input((8, 8, 3))
    x = layers.Activation("gelu", name="bent")(layers.Conv2D(4, 3)(pixels))
    x = layers.Flatten()(layers.Conv2D(4, 3, activation="relu")(x))
    model = keras.Model(pixels, layers.Dense(3, activation="softmax")(x))
    payload = to_onnx_int8(model, noise, keep_float=["bent"])
    owners, kept = owners_in(model), fused_with(model, ["bent"])
    found = require_integer_kernels(payload, owners, name="net-int8.onnx", kept=kept)
    assert {owners.named(name)[0] for name in found.computing} == {"bent"}


@pytest.fixture(scope="module")
def separable():
    """A net with shared steps, a norm that is folded and swish, prepared for fine-tuning."""
    keras.utils.set_random_seed(0)
    noise = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), np.uint8)
    pixels = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, name="first")(pixels)
    x = layers.Activation("swish", name="swish")(
        layers.BatchNormalization(gamma_initializer="random_uniform")(x)
    )
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False, name="depthwise")(x)
    x = layers.ReLU()(layers.BatchNormalization(moving_variance_initializer="ones")(x))
    x = layers.Dense(5, name="dense")(layers.GlobalAveragePooling2D()(x))
    prepared = prepare(keras.Model(pixels, layers.Softmax()(x)), noise)
    return prepared, onnx.load_model_from_string(to_onnx_int8(prepared, noise)).graph


def numbers(graph, name):
    """Return the int8 weights of a layer and their scales."""
    stored = constants(graph)
    kinds = ("Conv", "Gemm", "MatMul")
    (node,) = (n for n in graph.node if n.op_type in kinds and name in n.name)
    (wide,) = (n for n in graph.node if node.input[1] in n.output)
    return stored[wide.input[0]], stored[wide.input[1]]


@pytest.mark.parametrize("name", ["first", "depthwise", "dense"])
def test_weights_are_those_that_fine_tuning_settled_on(separable, name):
    """Where channels share a step, their own would be others; a folded norm scales both."""
    model, graph = separable
    plain = unwrap(model)
    (kernel, *_), steps = plain.model.get_layer(name).get_weights(), plain.steps[name]
    kernel = kernel.reshape(*kernel.shape[:2], -1) if name == "depthwise" else kernel
    axes = tuple(range(kernel.ndim - 1))
    settled = np.round(steps * kernel / np.abs(kernel).max(axis=axes)).astype(int)
    found, _ = numbers(graph, name)
    assert sorted(np.abs(found.astype(int)).ravel()) == sorted(np.abs(settled).ravel())


def test_what_a_layer_keeps_to_itself_has_a_range_of_its_own(separable):
    """The sigmoid of swish, whose output may be small."""
    _, graph = separable
    stored = constants(graph)
    ranges = {}
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and "swish" in node.input[0]:
            scale, zero = (stored[name] for name in node.input[1:])
            ranges[node.input[0]] = (255 - int(zero)) * float(scale)
    (inner,) = (value for name, value in ranges.items() if "Sigmoid" in name)
    (outer,) = (value for name, value in ranges.items() if "Sigmoid" not in name)
    assert outer < 0.5 < inner < 1


def headed(x):
    return layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x))


def framed(x, bound):
    """Return a pooling as ResNet's first, with a frame of zeros of its own."""
    x = layers.ZeroPadding2D(1)(bound(layers.Conv2D(8, 3)(x)))
    return headed(layers.MaxPooling2D(3, 2)(x))


def normed_logits(x):
    return layers.Softmax()(layers.BatchNormalization()(layers.Dense(3)(layers.Flatten()(x))))


def added_logits(x):
    x = layers.Flatten()(x)
    return layers.Softmax()(layers.Add()([layers.Dense(3)(x), layers.Dense(3)(x)]))


@pytest.mark.parametrize(
    "end",
    [
        lambda x: framed(x, layers.ReLU()),
        lambda x: framed(x, layers.ReLU(6.0)),
        lambda x: headed(layers.Conv2D(8, 3, groups=4)(layers.Conv2D(8, 3)(x))),
        normed_logits,
        added_logits,
    ],
    ids=["framed", "framed and bounded", "grouped", "normed logits", "added logits"],
)
def test_what_has_no_kernel_of_its_own_goes_into_another(end):
    import onnxruntime

    keras.utils.set_random_seed(0)
    pixels = keras.Input((16, 16, 3))
    model = keras.Model(pixels, end(pixels))
    noise = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3), np.uint8)
    payload = to_onnx_int8(model, noise)
    require_integer_kernels(payload, owners_in(model), name="it")
    expected = model(normalise(noise.astype(np.float32))).numpy()
    (found,) = onnx_session(onnxruntime, payload).run(None, {"pixels": noise})
    assert np.abs(found - expected).mean() < 0.01


def test_a_frame_around_values_below_zero_stays():
    """Pooling itself would put nothing there, and not the larger zeros."""
    pixels = keras.Input((16, 16, 3))
    model = keras.Model(pixels, framed(pixels, layers.Activation("linear")))
    noise = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3), np.uint8)
    payload = to_onnx_int8(model, noise, keep_float=["zero_padding2d", "max_pooling2d"])
    assert "Pad" in {node.op_type for node in onnx.load_model_from_string(payload).graph.node}
