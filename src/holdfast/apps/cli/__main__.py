"""`python -m holdfast.apps.cli`: how `holdfast dev` starts its children."""

from holdfast.apps.cli import main

main()
