"""The page of rlsp ui for others, as a Space or a service: docs/ui.md says how."""

import os

from rlsp_tf.ui.launch import launch

launch(host="0.0.0.0", accounts={os.environ["RLSP_USER"]: os.environ["RLSP_PASSWORD"]})
