"""Put the project's configs, experiments and scripts into the wheel, as `nightcrawler/assets`.

Everything else is said in pyproject.toml. The files stay where users edit them: nothing is copied
in the repository, and `nightcrawler init` lays them out again from an installed package.
"""

import runpy
import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
ASSETS = "nightcrawler/assets"

if sys.argv[1:2] in (["develop"], ["install"], ["build"]):
    sys.exit(
        f"`python setup.py {sys.argv[1]}` is not supported: "
        "run `python -m pip install -e .` instead"
    )


class BuildWithAssets(build_py):
    """Copy the files of a project beside the modules; an editable install uses them in place."""

    def run(self) -> None:
        """Build the modules, then copy the files."""
        super().run()
        if self.editable_mode:
            return
        layout = runpy.run_path(str(ROOT / "nightcrawler/cli/layout.py"))
        for path in layout["project_files"](ROOT):
            target = Path(self.build_lib, ASSETS, path)
            self.mkpath(str(target.parent))
            self.copy_file(str(ROOT / path), str(target), preserve_mode=True)


setup(
    packages=find_packages(include=["nightcrawler", "nightcrawler.*"]),
    package_data={
        "nightcrawler": ["py.typed"],
        "nightcrawler.export": ["*.md"],
        "nightcrawler.prepare": ["*.html", "*.txt"],
        "nightcrawler.report": ["*.html"],
        "nightcrawler.web": ["static/*", "examples/*.mp4"],
    },
    cmdclass={"build_py": BuildWithAssets},
)
