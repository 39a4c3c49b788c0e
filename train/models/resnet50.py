"""ResNet-50 with the seed report's kind of head, for transfer learning."""

from typing import TYPE_CHECKING

from edgecifar.train.models.backbone import Backbone
from edgecifar.train.pretrained import KerasWeights
from edgecifar.train.stem import Preprocessing

if TYPE_CHECKING:
    import tf_keras as keras


def build(image_size: tuple[int, int], classes: int, *, backbone_size: int = 0) -> "keras.Model":
    """Build the network: 24,641,930 parameters for 10 classes.

    The report states 4,229,222, which no ResNet-50 has: without its classifier the published
    network alone has 23,587,712. Source: He et al., "Deep Residual Learning", 2015, as
    keras.applications builds it.
    """
    return BACKBONE.build(image_size, classes, backbone_size=backbone_size)


def _features(images):
    import tf_keras as keras

    return keras.applications.ResNet50(include_top=False, weights=None, input_tensor=images).output


BACKBONE = Backbone(
    name="resnet50",
    features=_features,
    stem="conv1_conv",
    # Caffe's convention: blue first, ImageNet's mean colour subtracted, nothing scaled.
    preprocessing=Preprocessing(mean=(123.68, 116.779, 103.939), scale=(1.0, 1.0, 1.0), bgr=True),
    load_imagenet=KerasWeights(
        url="https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
        "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        md5="4d473c1dd8becc155b73f8504c6f6626",
    ).load,
    hidden=512,
)
