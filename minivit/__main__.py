"""Run the command line: `python -m minivit`."""

import sys

from .cli import main

sys.exit(main())
