"""`python -m vxtool` is the `vxtool` command."""

from vxtool.cli import main

main()
