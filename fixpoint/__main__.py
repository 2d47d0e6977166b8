"""`python -m fixpoint`: the command line."""

import sys

from fixpoint.adapters.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
