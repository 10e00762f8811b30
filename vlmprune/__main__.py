"""Entry point of `python -m vlmprune`, the same as `vlmprune`."""

import sys

from vlmprune.cli import main

sys.exit(main())
