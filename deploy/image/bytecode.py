"""Compiles Python's files below a folder to bytecode that is taken as it is: an image's files do not change.

Usage: bytecode.py FOLDER, with the Python that will read it. What cannot be compiled, such as a template, is left.
"""

import compileall
import py_compile
import sys

if __name__ == "__main__":
    compileall.compile_dir(
        sys.argv[1], quiet=2, workers=0, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
