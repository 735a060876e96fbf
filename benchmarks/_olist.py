"""What the benchmarks on Olist have in common: where its files are, how they are mapped, how a run is asked for."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "olist.yaml"


def parser(description: str | None, *, until: str) -> argparse.ArgumentParser:
    """Return a parser that knows --data, and --until with its default."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "olist")
    made.add_argument("--until", default=until)
    return made


def given(asked: argparse.ArgumentParser) -> argparse.Namespace | None:
    """Return the arguments; None, and say so, if Olist's files are not there."""
    arguments = asked.parse_args()
    if not arguments.data.is_dir():
        print(f"skipped: {arguments.data} is not there; name Olist's folder with --data")
        return None
    return arguments


def command(*arguments: str, data: Path, out: str | Path) -> None:
    """Run a public command on Olist's files and show which; its output goes to a folder."""
    print("$ partnerml", *arguments, flush=True)
    places = ("-c", str(CONFIG), "--set", f"data.source={data}", "--set", f"output={out}", "--quiet")
    subprocess.run([sys.executable, "-m", "partnerml", *arguments, *places], check=True)
