"""One module a figure: `tidy(task, ...)` makes the table behind it, `draw(table, task)` plots that and nothing else.

The further arguments of `tidy` are the figure's `inputs` in workflow/figures.yaml, a path or a list of paths each.
"""

import os
from importlib.util import find_spec

# Jupyter sets its own backend for every program that is started from it, and matplotlib cannot be imported where the
# backend's package is not installed.
_backend = os.environ.get("MPLBACKEND", "")
if _backend.startswith("module://") and find_spec(_backend.removeprefix("module://").partition(".")[0]) is None:
    del os.environ["MPLBACKEND"]
