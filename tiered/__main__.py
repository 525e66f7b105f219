"""``python -m tiered``."""

from __future__ import annotations

import sys

from tiered.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
