"""`python -m fedrnn.datasite`: one pass of the datasite, as its unit starts it."""

import sys

from fedrnn.datasite.datasite import main

sys.exit(main())
