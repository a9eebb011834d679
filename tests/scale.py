"""How many random cases are tried: TEST_SCALE=200 python -m pytest tests/test_search.py.

1 is for every day, and what CI runs; nothing but the number of cases depends on it.
"""

import os

SCALE = int(os.environ.get("TEST_SCALE", "1"))
