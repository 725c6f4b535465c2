"""`python -m bridge`, and what the command `dawbridge` calls: Ctrl-C is one line, also during the imports."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from bridge.cli import main as run

        run()
    except KeyboardInterrupt:
        print("error: cancelled", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
