"""Graphs of TensorFlow 1 written by hand."""

from pathlib import Path

import tensorflow as tf

from rlsp_tf.network.config import RLSPConfig

CONFIG = RLSPConfig(filters=5, layers=3, state_filters=4, scale=2)
v1 = tf.compat.v1


def write_meta(path: Path, config: RLSPConfig = CONFIG, *, residual: float = 1.0, extra=None) -> None:
    """A ``.meta`` file with a TF1 graph of one step, built and named as the authors did."""

    def layer(index: int, inputs: tf.Tensor, channels: int, activation) -> tf.Tensor:
        with v1.variable_scope(f"layer{index}", use_resource=False):
            kernel = v1.get_variable("kernel", (3, 3, inputs.shape[-1], channels))
            bias = v1.get_variable("bias", (channels,))
            return activation(tf.nn.bias_add(tf.nn.conv2d(inputs, kernel, 1, "SAME"), bias))

    with tf.Graph().as_default():
        frames = v1.placeholder(tf.float32, (None, 3, None, None, 3), "c_input")
        state = v1.placeholder(tf.float32, (None, None, None, config.hidden_channels), "c_state_input")
        feedback = v1.placeholder(tf.float32, (None, None, None, 1), "c_fb_input")
        window = tf.concat(tf.unstack(frames, axis=1), axis=-1)
        features = tf.concat([window, state, tf.nn.space_to_depth(feedback, config.scale)], axis=-1)
        for index in range(config.layers - 1):
            features = layer(index, features, config.filters, tf.nn.relu)
        hidden = layer(config.layers - 1, features, config.hidden_channels, tf.nn.relu)
        packed = layer(config.layers, features, config.scale**2, lambda tensor: tensor)
        luma = (
            tf.reduce_sum(frames[:, 1] * [65.738, 129.057, 25.064] / 256, -1, keepdims=True) + 16 * residual
        )
        ones = tf.fill(tf.shape(packed), 1.0)
        output = tf.nn.depth_to_space(v1.add(ones * luma, packed), config.scale)
        if extra is not None:
            output = extra(output)
        for name, tensor in {
            "c_input": frames,
            "c_state_input": state,
            "c_fb_input": feedback,
            "c_output": output,
            "c_state_output": hidden,
        }.items():
            v1.add_to_collection(name, tensor)
        meta = v1.train.export_meta_graph()
        for node in meta.graph_def.node:
            node.op = node.op.replace("AddV2", "Add")  # as TensorFlow 1.8 had it
        path.write_bytes(meta.SerializeToString())
