"""RLSP, the network of the paper: Fuoli, Gu and Timofte 2019, arXiv 1909.08080.

Read these four modules in this order; together they are the whole network:

1. :mod:`~rlsp_tf.network.config`: the numbers that describe a network, and the four networks of the paper.
2. :mod:`~rlsp_tf.network.cell`: one time step, with its equation.
3. :mod:`~rlsp_tf.network.model`: the step repeated over a clip, as a Keras layer and as a Keras model.
4. :mod:`~rlsp_tf.network.weights`: trained weights, loaded by name or from a ``.keras`` file.

The other three deal with weights from elsewhere: ``keras_file`` reads ``.keras`` files without running
anything in them, ``authors_layout`` knows the tensors of the authors' checkpoints, and ``widen`` turns a
trained network into the beginning of a wider one.

May import: pixels, system, errors.
"""
