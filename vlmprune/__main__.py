"""`python -m vlmprune` is `vlmprune`."""

import sys

from vlmprune.cli import main

sys.exit(main())
