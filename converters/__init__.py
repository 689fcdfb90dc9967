"""Foreign weights to RLSP models and back; depends on ``rlsp_tf``, which never imports it."""
