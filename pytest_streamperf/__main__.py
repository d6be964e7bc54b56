"""`python -m pytest_streamperf` is `streamperf`."""

import sys

from pytest_streamperf._cli import main

sys.exit(main())
