"""``python -m caffecompat``."""

import sys

from caffecompat.cli.main import main

sys.exit(main())
