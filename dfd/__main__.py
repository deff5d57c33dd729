"""`python -m dfd` is `dfd`."""

from dfd.cli import run

if __name__ == "__main__":
    run()
