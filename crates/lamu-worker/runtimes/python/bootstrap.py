"""Starts lamu's Python runtime.

A script is compiled at every start; the modules it imports are not, where
their compiled form lies in `__pycache__`. So this one only imports.
"""

from lamu_runtime import main

main()
