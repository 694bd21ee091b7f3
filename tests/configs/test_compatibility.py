"""Compatibility of heads: every error names the key and what to do."""

from pathlib import Path

import pytest

from configs import schema
from configs.schema import ConfigError

ENTRIES = [f"{{name: c{number}, colour: '#00000{number}'}}" for number in range(4)]


def overrides_of(words: str, classes: int) -> list[str]:
    return [f"data.classes=[{', '.join(ENTRIES[:classes])}]", *words.split()]


@pytest.mark.parametrize(
    ("words", "classes", "message"),
    [
        ("head.kind=regression", 2, "data.classes: 2 entries, head.kind regression takes 1, the name of what is measured"),
        (
            "head.kind=sigmoid",
            3,
            "data.classes: 3 entries, head.kind sigmoid takes 2; set head.kind to softmax for other numbers",
        ),
        ("", 1, "data.classes: 1 entry, head.kind softmax takes 2 or more, the background or the lowest grade first"),
        (
            "data.instances=true",
            3,
            "data.instances: numbered objects need a background and one class, and there are 3 classes of head.kind softmax; "
            "give two classes without an order, or set data.instances to false",
        ),
        ("data.instances=true head.kind=ordinal", 2, "data.instances: numbered objects need a background and one class"),
        ("data.ignore_label=1", 2, "data.ignore_label: 1 is the label of c1; choose one that no class has, such as 255"),
        (
            "head.kind=ordinal loss.name=dice",
            4,
            "loss.name: dice doesn't work with head soft_label of model unet; choose cross_entropy, or leave it out",
        ),
        (
            "head.kind=regression loss.name=dice",
            1,
            "loss.name: dice doesn't work with head regression of model unet; leave it out for the squared error",
        ),
        ("loss.class_weights=[1,2,3]", 2, "loss.class_weights: 3 values for 2 classes; give one per class, or balanced"),
        (
            "head.kind=regression loss.class_weights=balanced",
            1,
            "loss.class_weights: head.kind regression has no classes; leave it out",
        ),
        (
            "loss.name=tversky loss.class_weights=[1,2]",
            2,
            "loss.class_weights: tversky has no pixel weights; leave it out, or choose cross_entropy, dice_cross_entropy",
        ),
        (
            "head.kind=multi_label loss.border_weight=1",
            3,
            "loss.border_weight: weighs the background between objects, and head.kind multi_label has no background class",
        ),
        (
            "loss.name=dice loss.border_weight=1",
            2,
            "loss.border_weight: dice has no pixel weights; set it to 0, or choose cross_entropy, dice_cross_entropy, focal",
        ),
    ],
)
def test_a_u_net_of(words: str, classes: int, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        schema.load(Path("configs/histology_unet.yaml"), overrides_of(words, classes))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("words", "classes", "message"),
    [
        (
            "head.kind=multi_label",
            3,
            "head: multi_label doesn't work with the sliding window, which samples all classes equally often: its outputs "
            "can't be corrected to the classes' true shares; choose softmax, sigmoid, one_hot, regression, unit_regression, or",
        ),
        ("head.kind=ordinal", 3, "head: soft_label doesn't work with the sliding window"),
        (
            "loss.name=dice",
            2,
            "loss.name: dice doesn't work with head softmax of model sliding_window; choose cross_entropy, focal, or",
        ),
        (
            "loss.class_weights=balanced",
            2,
            "loss.class_weights: the sliding window already samples all classes equally often; leave balanced out",
        ),
    ],
)
def test_a_sliding_window_of(words: str, classes: int, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        schema.load(Path("configs/histology_sliding_window.yaml"), overrides_of(words, classes))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("method", "words", "classes", "loss"),
    [
        ("unet", "", 2, "dice_cross_entropy"),
        ("unet", "head.kind=multi_label", 3, "dice_cross_entropy"),
        ("unet", "head.kind=ordinal", 3, "cross_entropy"),
        ("unet", "head.kind=ordinal head.encoding=cumulative", 3, "cross_entropy"),
        ("unet", "head.kind=regression data.ignore_label=0", 1, "squared_error"),
        ("unet", "head.kind=unit_regression", 1, "cross_entropy"),
        ("unet", "loss.name=focal", 2, "focal"),
        ("sliding_window", "", 2, "cross_entropy"),
        ("sliding_window", "head.kind=regression", 1, "squared_error"),
    ],
)
def test_default_loss(method: str, words: str, classes: int, loss: str) -> None:
    assert schema.load(Path(f"configs/histology_{method}.yaml"), overrides_of(words, classes)).loss_name == loss
