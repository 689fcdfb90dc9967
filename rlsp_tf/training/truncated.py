"""The network in training, which carries its state from one piece of a sequence to the next."""

import contextlib
from typing import Any

import keras
from keras import ops

from rlsp_tf.network.config import RLSPConfig
from rlsp_tf.network.model import RLSP
from rlsp_tf.training.centred import CentredCell


@keras.saving.register_keras_serializable(package="rlsp_tf")
class CarriedRLSP(RLSP):
    """An :class:`rlsp_tf.RLSP` layer that keeps its state between calls.

    This is truncated back-propagation through time. Each call gets the next piece of a batch of sequences
    and starts with the state after the previous piece; after ``pieces`` calls, it starts with zeros again.
    Gradients stop at the start of a piece. The state is saved with the weights, so training can be resumed
    in the middle of a sequence.

    The weights are in the coordinates of :mod:`rlsp_tf.training.centred`.

    Args:
        config: configuration of the network.
        pieces: number of calls per sequence.
        parts: number of parts of the batch that are computed by operations of their own, so that as many
            cores can work at the same time; see :mod:`rlsp_tf.training.cpu`.

    Call arguments:
        sequences: ``(B, before + T + after, H, W, 3)``, RGB 0..255, with all sizes known. The first and the
            last frames are only neighbours of the others.

    Returns:
        float32 ``(B, T, scale*H, scale*W, C)``; see :class:`rlsp_tf.RLSP`.
    """

    cell_type = CentredCell

    def __init__(self, config: RLSPConfig, *, pieces: int = 1, parts: int = 1, **kwargs: Any) -> None:
        super().__init__(config, unroll=True, border="given", return_state=True, **kwargs)
        self.pieces, self.parts = pieces, parts

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        """Creates the weights and, for several pieces, the variables of the state."""
        super().build(sequences_shape)
        if self.pieces == 1:
            return
        batch, _, height, width, _ = sequences_shape
        self.carried = [
            self.add_weight(
                name=name,
                shape=(batch, height, width, size),
                initializer="zeros",
                trainable=False,
                autocast=False,
            )
            for name, size in zip(("hidden", "feedback"), self.cell.state_size, strict=True)
        ]
        self.piece = self.add_weight(
            name="piece", shape=(), initializer="zeros", dtype="int32", trainable=False, autocast=False
        )

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False
    ) -> Any:
        """Runs the cell over the frames of a piece; see the class."""
        if self.pieces == 1:
            return self._run(sequences, None)[0]
        # Multiplying by 0 instead would turn an infinite state into NaN.
        piece, *carried = (ops.convert_to_tensor(each) for each in (self.piece, *self.carried))
        begins = ops.equal(piece, 0)
        outputs, *states = self._run(sequences, [ops.where(begins, 0.0, state) for state in carried])
        for variable, state in zip(self.carried, states, strict=True):
            variable.assign(ops.stop_gradient(ops.cast(state, "float32")))
        self.piece.assign((piece + 1) % self.pieces)
        return outputs

    def compute_output_spec(self, sequences: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns shape and dtype of the output, without the states."""
        return super().compute_output_spec(sequences)[0]

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for fixed in ("unroll", "border", "return_state", "warm_start"):
            del config[fixed]
        return {**config, "pieces": self.pieces, "parts": self.parts}

    def _run(self, sequences: Any, states: list[Any] | None) -> list[Any]:
        """Returns the outputs and the last states of the whole batch, computed part by part."""
        parts = ops.split(sequences, self.parts)
        state_parts: list[Any] = [None] * self.parts
        if states is not None:
            state_parts = list(zip(*(ops.split(state, self.parts) for state in states), strict=True))
        results = []
        for part, state in zip(parts, state_parts, strict=True):
            with _gradients_for(self.cell):
                results.append(super().call(part, initial_state=state))
        return [ops.concatenate(each, axis=0) for each in zip(*results, strict=True)]


def _gradients_for(cell: CentredCell) -> contextlib.AbstractContextManager[None]:
    """Returns a block in which gradients are computed faster, if the backend is TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    from rlsp_tf.training.kernel_gradients import lighter_gradients

    return lighter_gradients(cell)
