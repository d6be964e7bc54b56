"""`python -m pytest_streamperf` is `streamperf`."""

import sys

from pytest_streamperf.cli import main

sys.exit(main())
