"""`python -m sentinel` is `sentinel`."""

from sentinel.cli import main

main()
