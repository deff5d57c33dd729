"""`python jobs/report.py` is `dfd report`: an entry point for `ray job submit`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the code beside this file, installed or not

from dfd.cli import run_command

if __name__ == "__main__":
    run_command("report", "jobs/report.py")
