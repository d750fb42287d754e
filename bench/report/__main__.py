"""`python -m bench.report`: see `bench.report.write`. Owns nothing. Main thread only."""

import sys

from bench.report.write import main

sys.exit(main())
