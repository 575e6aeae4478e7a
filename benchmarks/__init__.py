"""Speed and trust, measured side by side with other tools; run from a checkout, not shipped."""

import sys
from pathlib import Path

# The corpus of separate implementations is kept with the tests, which need it too.
sys.path.append(str(Path(__file__).parents[1] / "tests"))
