# SPDX-License-Identifier: BSD-2-Clause
"""Only what pyproject.toml cannot say: what cffi builds.

`_libssl` are declarations, compiled ahead of time; `datapath._datapath` is C.
"""

import runpy

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildPy(build_py):
    """cffi writes the declarations into a wheel; an editable installation needs them in the tree."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            runpy.run_path("ktlsctl/libssl_build.py")["ffibuilder"].compile()


setup(
    # Here alone it passes everywhere: setuptools before 77 refuses the string in pyproject.toml, later ones warn of the
    # table and of the classifier.
    license="BSD-2-Clause",
    cffi_modules=["ktlsctl/libssl_build.py:ffibuilder", "ktlsctl/datapath/build.py:ffibuilder"],
    cmdclass={"build_py": BuildPy},
)
