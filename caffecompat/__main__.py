"""``python -m caffecompat``."""

import sys

from caffecompat.cli.main import console

sys.exit(console())
