import json
from dataclasses import asdict

import numpy as np
import pytest

from edgecifar.compress.distil import Distillation, distillation_goals
from edgecifar.train import models
from edgecifar.train.augment import augment, blend
from edgecifar.train.ema import WeightAverage
from edgecifar.train.loop import compile_for
from edgecifar.train.normalisation import normalise
from edgecifar.train.pipeline import epoch_numbers
from edgecifar.train.session import seeded_build
from edgecifar.train.settings import Augmentation, Training

pytest.importorskip("jax")

STILL = Augmentation(flip="none", crop=0)
MOVED = Augmentation(flip="alternating", crop=1, rotation=20.0, shift=0.1, cutout=2, cutmix=0.5)
SETTINGS = Training(batch_size=64, learning_rate=0.1, ema=0.9, augment=MOVED)
RATES = np.linspace(0.02, 0.1, 3, dtype=np.float32)


def built(dataset, rate, goals=None):
    model = seeded_build(models.find("edge-8-s16"), dataset, 0)
    compile_for(model, SETTINGS, steps=3, goals=goals, rate=rate)
    model.optimizer.build(model.trainable_variables)
    model.test_on_batch(np.zeros((1, 8, 8, 3), np.float32), np.eye(1, 10))
    average = WeightAverage(SETTINGS.ema)
    average.set_model(model)
    return model, average


def carried_out(program, state, tmp_path, **arguments):
    """Run a program as the machine does: results, and the whole new state."""
    from edgecifar.train.ahead import machine

    code = tmp_path / "program.mlir"
    code.write_bytes(program.code)
    how = json.loads(json.dumps({**asdict(program), "code": ""}))
    given = {name: machine._put(array) for name, array in arguments.items()}
    run = machine.Program(how, machine.compiled(code))
    results, new = run([machine._put(variable) for variable in state], **given)
    return (
        [float(result) for result in results],
        [np.asarray(new.get(n, v)) for n, v in enumerate(state)],
    )


@pytest.mark.parametrize("views", [None, 2])
def test_an_epoch_is_what_keras_does(small_digits, tmp_path, monkeypatch, views):
    import tensorflow as tf

    from edgecifar.train.ahead import programs

    monkeypatch.setattr(programs, "_AT_ONCE", 40)  # which leaves some over
    goals = distillation_goals(Distillation(temperature=1.0), 10) if views else None
    rate = programs.GivenRate()
    model, average = built(small_digits, rate, goals)
    images, labels = small_digits.train.images[:192], small_digits.train.labels[:192]
    said = np.log(np.random.default_rng(1).dirichlet(np.ones(10), 192)).astype(np.float16)
    state = [*model.weights, *model.optimizer.variables, *average.averages, average.step]
    settled = len(state)  # what is added is the loss and the accuracy so far
    compiler = programs.Compiler(model, rate, average, (8, 8), 10, state)
    epoch = compiler.epoch(SETTINGS, count=192, views=views)
    validation = compiler.validation(count=64)
    start = [variable.numpy() for variable in state]
    order = np.random.default_rng(0).permutation(192).astype(np.int32)
    moment = np.array([5, 3], np.int32)  # the second view, seen again

    given = {"images": images, "labels": labels.astype(np.int32)}
    (loss, accuracy), ended = carried_out(
        epoch,
        start,
        tmp_path,
        **given,
        order=order,
        rates=RATES,
        moment=moment,
        **({"answers": said} if views else {}),
    )
    (tested, _), _ = carried_out(
        validation, ended, tmp_path, **{key: array[:64] for key, array in given.items()}
    )

    @tf.function(jit_compile=True)  # whose random numbers are the program's
    def numbers():
        return epoch_numbers(192, SETTINGS.augment, *moment, width=8, views=views)

    drawn = numbers()
    others = tf.gather(images, drawn.other)
    seen = normalise(augment(images, drawn, SETTINGS.augment, others)).numpy()
    targets = np.eye(10, dtype=np.float32)[labels]
    targets = blend(targets, tf.gather(targets, drawn.other), drawn, images).numpy()
    if views:
        targets = np.concatenate([targets, said.astype(np.float32)], axis=1)
    figures, rate.now = [], tf.Variable(0.0)
    for step, index in enumerate(order.reshape(3, 64)):
        rate.now.assign(RATES[step])
        figures.append(model.train_on_batch(seen[index], targets[index]))
        average.update()
    assert np.allclose((loss, accuracy), np.mean(figures, axis=0), atol=1e-4)
    for variable, array in zip(state[:settled], ended[:settled], strict=True):
        assert np.allclose(variable.numpy(), array, atol=2e-4), variable.name
    average.exchange()
    shown = normalise(images[:64].astype(np.float32)), np.eye(10, dtype=np.float32)[labels[:64]]
    assert tested == pytest.approx(model.test_on_batch(*shown)[0], abs=1e-3)


def test_a_teacher_answers_for_every_image(small_digits, tmp_path, monkeypatch):
    from edgecifar.train.ahead import programs

    monkeypatch.setattr(programs, "_AT_ONCE", 40)  # which leaves some over
    model = seeded_build(models.find("edge-8-s16"), small_digits, 0)
    images = small_digits.train.images[:90]
    program = programs.answers(model, STILL, count=90)
    from edgecifar.train.ahead import machine

    (code := tmp_path / "answers.mlir").write_bytes(program.code)
    ask = machine.Program({**asdict(program), "code": ""}, machine.compiled(code))
    weights = [machine._put(weight) for weight in model.get_weights()]
    (said,), new = ask(
        weights, images=machine._put(images), moment=machine._put(np.array([0, 0], np.int32))
    )
    assert not new
    assert np.allclose(said, model.predict(normalise(images.astype(np.float32))), atol=1e-4)
