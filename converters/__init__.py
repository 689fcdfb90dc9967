"""Foreign weights to RLSP models and back. Depends on ``rlsp_tf``, which never imports it."""
