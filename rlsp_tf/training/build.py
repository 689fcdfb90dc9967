"""Builds the model that is trained: the network with its initial weights, loss and optimizer."""

import math

import keras

from rlsp_tf.errors import RLSPError
from rlsp_tf.network.model import policy_of, rlsp_layer
from rlsp_tf.network.weights import load_model
from rlsp_tf.network.widen import can_widen, widen
from rlsp_tf.training.centred import network_weights, trained_weights
from rlsp_tf.training.cpu import parts_of, trains_on_cpu
from rlsp_tf.training.loss import CLIP_NORM, WarmUpAndDecay, frame_loss
from rlsp_tf.training.options import TrainingOptions
from rlsp_tf.training.schedule import steps_of_row
from rlsp_tf.training.truncated import CarriedRLSP
from rlsp_tf.training.workers.group import Group

STEPS_AT_ONCE = (10, 5, 2, 1)
"""Numbers of steps that may be computed in one call. After each call, training waits for the device to look
at the loss and at signals. On two cores, doing so after every step costs 3% of the time."""
PIXELS_AT_ONCE = 10 * 8 * 7 * 32**2
"""Most low-resolution pixels in the steps of one call on a CPU, so that a call takes seconds at most."""


def compile_model(options: TrainingOptions, group: Group | None = None) -> keras.Model:
    """Builds the model for step 0 of a training.

    Args:
        options: options of the training.
        group: devices that share the model; by default a single one.

    Raises:
        RLSPError: if ``options.init`` cannot be read or holds a network of another kind.
    """
    group = group or Group()
    with group.scope():
        keras.utils.set_random_seed(options.seed)
        model, layer = _network(options, group)
        if options.init is not None:
            _start_from(options.init, layer)
        optimizer = group.optimizer(
            learning_rate=WarmUpAndDecay(options.learning_rate, options.steps),
            beta_2=0.99,
            global_clipnorm=CLIP_NORM,
            use_ema=True,
            # Averages over about a thousand steps, or fewer if the whole training is short.
            ema_momentum=max(0.5, min(0.999, 1 - 20 / options.steps)),
        )
        optimizer.build(model.trainable_variables)
        model.compile(
            optimizer,
            group.loss(frame_loss),
            # With TensorFlow, XLA makes training on a CPU several times slower.
            jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
            steps_per_execution=_steps_at_once(options, group),
        )
    return model


def _network(options: TrainingOptions, group: Group) -> tuple[keras.Model, CarriedRLSP]:
    """Returns the model without loss and optimizer, and its layer."""
    batch = options.batch // group.replicas
    before, after = options.network.frames_before, options.network.frames_after
    clip = keras.Input(
        (before + options.frames + after, options.crop, options.crop, 3),
        batch_size=batch,
        dtype="float32",
        name="clip",
    )
    divided = keras.backend.backend() == "tensorflow" and trains_on_cpu() and group.replicas == 1
    layer = CarriedRLSP(
        options.network,
        pieces=options.pieces,
        parts=parts_of(batch) if divided else 1,
        dtype=policy_of(options.precision),
        name="rlsp",
    )
    return keras.Model(clip, layer(clip)), layer


def _start_from(init: str, layer: CarriedRLSP) -> None:
    """Sets the weights of a layer to those of a model, widened if the layer has more filters."""
    initial = rlsp_layer(load_model(init))
    if not can_widen(initial.config, layer.config):
        raise RLSPError(
            f"{init}: is another network ({initial.config}); give its --network, or one with more filters."
        )
    cell, config = layer.cell, layer.config
    untrained = network_weights(cell.get_weights(), config)
    weights = widen(initial.cell.get_weights(), initial.config, untrained, config)
    cell.set_weights(trained_weights(weights, config))


def _steps_at_once(options: TrainingOptions, group: Group) -> int:
    """Returns how many steps a call computes; a row of the log always ends with a call."""
    if group.replicas > 1:  # Keras cannot loop over steps in several replicas.
        return 1
    pixels = options.batch * options.frames * options.crop**2 if trains_on_cpu() else 0
    steps = next(steps for steps in STEPS_AT_ONCE if steps * pixels <= PIXELS_AT_ONCE or steps == 1)
    return math.gcd(steps, steps_of_row(options.every))
