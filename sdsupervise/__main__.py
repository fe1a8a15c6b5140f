"""`python -m sdsupervise` is `sdsupervise`."""

import sys

from .cli.main import main

sys.exit(main())
