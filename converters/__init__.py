"""Converts the weights of the paper's authors to RLSP models and back: the command ``rlsp-convert``.

It is installed as ``rlsp_tf.converters``, imports from the rest of ``rlsp_tf``, and is never imported by it.
"""
