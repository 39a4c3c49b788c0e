"""A trained network without its classifier, for going on with other classes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.adopt.copying import free_name
from edgecifar.train.adopt.rewrite import require_size
from edgecifar.train.keras_files import first_line, is_quantization_aware
from edgecifar.train.run import Run

if TYPE_CHECKING:
    import tf_keras as keras

_AFTER_CLASSIFIER = ("Softmax", "Activation")


@dataclass(frozen=True)
class Trunk:
    """What `models.backbone.Backbone` is for networks made for ImageNet, of a run's own network.

    `trained` is the run's model, `classifier` the name of its last dense layer and `pooled` that
    of the layer which feeds it. Only the classifier is new where classes differ.
    """

    name: str
    trained: "keras.Model"
    classifier: str
    pooled: str
    source: str  # what errors call it

    def build(self, image_size: tuple[int, int], classes: int) -> "keras.Model":
        """Build the network for (height, width) and so many classes, with the trunk's weights.

        It computes under Keras' policy of the moment, as new layers do.
        """
        import tf_keras as keras

        from edgecifar.train.precision import recast

        images = keras.Input((*image_size, 3))
        try:
            cast = recast(self.trained, keras.mixed_precision.global_policy().name)
            copy = keras.models.clone_model(cast, input_tensors=images)
            copy.set_weights(self.trained.get_weights())
        except ValueError as error:
            require_size(image_size, self.trained.input_shape[1:3], self.source)
            raise EdgecifarError(
                f"{self.source} can't be built again: {first_line(error)}"
            ) from error
        features = copy.get_layer(self.pooled).output
        return keras.Model(copy.input, self.head(features, classes), name=self.trained.name)

    def head(self, features, classes: int):
        """Apply a new classifier to features [batch, channels]; returns probabilities."""
        from tf_keras import layers

        names = [layer.name for layer in self.trained.layers]
        name = free_name("probabilities", names[: names.index(self.classifier) + 1])
        initial = layers.Dense(classes, kernel_initializer="he_normal", name=self.classifier)
        return layers.Softmax(dtype="float32", name=name)(initial(features))

    def layers(self, model: "keras.Model") -> list:
        """Return the trunk's own layers in a model that `build` made, from input to output."""
        names = [layer.name for layer in model.layers]
        return model.layers[1 : names.index(self.classifier)]


def trunk_of(run: Run) -> Trunk:
    """Return the trunk of a run's model; EdgecifarError if it doesn't end in a dense layer."""
    import tf_keras as keras

    model = run.load_model()
    if is_quantization_aware(model):
        raise EdgecifarError(
            f"{run.name} was fine-tuned for int8: give {run.info['parent']}, the run it came from"
        )
    last = len(model.layers) - 1
    while last and type(model.layers[last]).__name__ in _AFTER_CLASSIFIER:
        last -= 1
    classifier = model.layers[last]
    if not isinstance(classifier, keras.layers.Dense):
        raise EdgecifarError(
            f"{run.name} ends in {classifier.name}, not in a dense layer: its classifier can't be "
            "replaced"
        )
    before = classifier.inbound_nodes[0].inbound_layers
    return Trunk(run.info["architecture"], model, classifier.name, before.name, run.name)
