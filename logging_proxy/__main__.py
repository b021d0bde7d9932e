"""`python -m logging_proxy` is the command `logging-proxy`."""

import sys

from logging_proxy.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
