"""Weights that come with rlsp_tf, installed as ``rlsp_tf.checkpoints``; README.md describes them."""
