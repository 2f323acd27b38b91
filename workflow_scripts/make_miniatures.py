"""Write small copies of published data sets, with phantom films in them: try a study before access is granted.

    make miniatures DIR=data SETS="chexpert mimic_cxr_jpg"

Each goes into the folder that its layout has by default. Then: snakemake --cores all --config data_root=DIR
rehearsal=true
"""

import argparse
import sys
from pathlib import Path

from synthgain.datasets.known_layouts import KNOWN_LAYOUTS
from synthgain.datasets.miniatures import MINIATURES, write_miniature
from synthgain.entry import nearest
from synthgain.runtime.errors import SynthGainError


def main() -> int:
    """Parse the command line and write the sets; 1 with one line where that cannot be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where they go: the data root")
    parser.add_argument("sets", nargs="*", help=f"of {', '.join(MINIATURES)}; default: all")
    parser.add_argument("--patients", type=int, default=120, help="patients, of a set of polyps frames, of each (120)")
    arguments = parser.parse_args()
    try:
        for name in arguments.sets:
            if name not in MINIATURES:
                raise SynthGainError(f"no miniature {name!r}; {nearest(name, MINIATURES)}")
        for number, name in enumerate(arguments.sets or MINIATURES):
            place = write_miniature(name, arguments.folder, KNOWN_LAYOUTS[name].folder, arguments.patients, number)
            print(f"{place}: {name}, {arguments.patients} patients of the phantom (of a set of polyps: drawn frames)")
    except SynthGainError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
