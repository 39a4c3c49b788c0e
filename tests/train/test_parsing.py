import pytest

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train.parsing import from_mapping, override, parse_assignments, read_toml
from edgecifar.train.settings import Augmentation, Training


def test_a_recipe_states_only_what_differs():
    settings = from_mapping(Training, {"epochs": 3, "augment": {"cutout": 8}})
    assert settings == Training(epochs=3, augment=Augmentation(cutout=8))


def test_whole_numbers_serve_as_floats():
    assert from_mapping(Training, {"learning_rate": 1}).learning_rate == 1.0


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"epoch": 3}, "unknown setting epoch: did you mean epochs?"),
        ({"augment": {"cut_out": 8}}, "unknown setting augment.cut_out: did you mean cutout?"),
        ({"epochs": 0}, "epochs is 0: it must be 1 or more"),
        ({"epochs": 2.5}, "epochs is 2.5: it must be a whole number"),
        ({"epochs": True}, "epochs is True: it must be a whole number"),
        ({"optimizer": "lion"}, "optimizer is 'lion': it must be one of sgd, adam, adamw"),
        (
            {"optimizer": "adamw"},
            "learning_rate is 0.4, which suits SGD: with adamw give 0.05 or less, such as 0.001",
        ),
        ({"augment": 3}, "augment is a table of settings, not 3"),
        ({"augment": {"rotation": 400}}, "augment.rotation is 400.0: it must be 0 to 180 degrees"),
    ],
)
def test_what_does_not_fit_is_named(mapping, message):
    with pytest.raises(EdgecifarError) as caught:
        from_mapping(Training, mapping)
    assert str(caught.value) == message


def test_dotted_keys_override():
    changes = parse_assignments(("augment.flip=none", "learning_rate=0.1", "epochs=5"))
    settings = override(Training(), changes)
    assert settings.augment.flip == "none"
    assert (settings.learning_rate, settings.epochs) == (0.1, 5)


@pytest.mark.parametrize("text", [".1", "0.1", "1e-1", "+.1"])
def test_numbers_are_read_as_people_write_them(text):
    changes = parse_assignments((f"learning_rate={text}", "warmup=0.", "transfer.weights=runs/1."))
    assert changes == {"learning_rate": 0.1, "warmup": 0.0, "transfer.weights": "runs/1."}


@pytest.mark.parametrize("text", ["epochs", "=3"])
def test_an_assignment_needs_key_and_value(text):
    with pytest.raises(EdgecifarError, match="not of the form key=value"):
        parse_assignments((text,))


def test_an_unknown_table_is_named():
    with pytest.raises(EdgecifarError, match=r"unknown setting augmnt\.flip"):
        override(Training(), {"augmnt.flip": "none"})


def test_broken_toml_names_the_file():
    with pytest.raises(EdgecifarError, match=r"mine\.toml is not valid TOML"):
        read_toml("epochs = ", where="mine.toml")
