"""`python -m distillrun.cli`: the same as `kubectl distill`."""

from distillrun.cli import main

if __name__ == "__main__":
    main()
