"""``python -m rlsp_tf`` is the command ``rlsp``."""

import sys

from rlsp_tf.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
