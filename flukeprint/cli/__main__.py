"""`python -m flukeprint.cli` is `flukeprint`."""

from flukeprint.cli.main import main

main()
