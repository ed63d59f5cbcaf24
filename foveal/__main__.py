"""`python -m foveal` and `torchrun -m foveal`."""

import sys

from foveal.cli import main

sys.exit(main())
