"""`python -m studies.cli` is `bench`."""

import sys

from studies.cli import main

sys.exit(main())
