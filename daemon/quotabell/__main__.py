"""``python -m quotabell``."""

import sys

from quotabell.cli import main

sys.exit(main())
