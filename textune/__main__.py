"""`python -m textune`, for launchers that start modules."""

from textune.cli import main

if __name__ == "__main__":
    main()
