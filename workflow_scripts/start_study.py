"""Writes a starter study for a folder of images, or a table: `make study DATA=… [NAME=…]`. Overwrites nothing.

What was guessed stands in the study with its reason, what could not be as a question. Prints the next three commands.
"""

import argparse
import os
import sys
from pathlib import Path

from synthgain.runtime.errors import SynthGainError
from synthgain.starter.start import start_study


def main() -> None:
    """Parse the command line; an error is one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="a folder of images, or a table of them")
    parser.add_argument("--name", default="", help="name of the study; default: that of the folder")
    parser.add_argument("--unmeasured", action="store_true", help="take the usual sizes: for another machine")
    arguments = parser.parse_args()
    os.environ.pop("SYNTHGAIN_DATA", None)  # the data root is the folder that was named
    try:
        print(start_study(arguments.data, arguments.name, not arguments.unmeasured)[1])
    except SynthGainError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
