"""EfficientNetV2-B0 with the seed report's head, for transfer learning."""

from typing import TYPE_CHECKING

from edgecifar.train.models.backbone import Backbone
from edgecifar.train.pretrained import KerasWeights
from edgecifar.train.stem import Preprocessing

if TYPE_CHECKING:
    import tf_keras as keras


def build(image_size: tuple[int, int], classes: int, *, backbone_size: int = 0) -> "keras.Model":
    """Build the network: 6,580,314 parameters for 10 classes, as the report states.

    Source: Tan and Le, "EfficientNetV2", 2021, as keras.applications builds it.
    """
    return BACKBONE.build(image_size, classes, backbone_size=backbone_size)


def _features(images):
    import tf_keras as keras

    return keras.applications.EfficientNetV2B0(
        include_top=False, weights=None, input_tensor=images, include_preprocessing=False
    ).output


BACKBONE = Backbone(
    name="efficientnetv2b0",
    features=_features,
    stem="stem_conv",
    # ImageNet's means and deviations, which the network applies itself where it is asked to.
    preprocessing=Preprocessing(
        mean=(255 * 0.485, 255 * 0.456, 255 * 0.406),
        scale=(255 * 0.229, 255 * 0.224, 255 * 0.225),
    ),
    load_imagenet=KerasWeights(
        url="https://storage.googleapis.com/tensorflow/keras-applications/efficientnet_v2/"
        "efficientnetv2-b0_notop.h5",
        md5="893217f2bb855e2983157299931e43ff",
    ).load,
    hidden=512,
)
