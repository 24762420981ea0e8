"""`python -m tars_ga_lib`: the command `tars-ga`, where its script is not on the path."""

from tars_ga_lib.cli import main

if __name__ == "__main__":
    main()
