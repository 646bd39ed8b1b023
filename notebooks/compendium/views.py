# SPDX-License-Identifier: MIT
"""Views of widgets: they live as long as the kernel that made them, so no file holds any."""

from collections.abc import Mapping
from typing import Any

from IPython import get_ipython

VIEW = "application/vnd.jupyter.widget-view+json"
"""What an output says where JupyterLab shall show a widget; without its kernel that is nothing but an error."""


def is_somebody_there() -> bool:
    """Tell whether a person runs the cells of this process, as in JupyterLab, who can move a slider.

    Whatever executes notebooks unattended, with the project's runner or another, tells its kernel that nobody can be
    asked for input. Nobody is there outside a notebook either.
    """
    kernel = getattr(get_ipython(), "kernel", None)
    return bool(getattr(kernel, "_allow_stdin", False))


def holds_view(output: Mapping[str, Any]) -> bool:
    """Tell whether an output of a cell shows a widget."""
    return VIEW in output.get("data", {})


def before_saving(model: Mapping[str, Any], **_place: object) -> None:
    """Take the views of widgets out of a notebook that Jupyter's server is about to save; what stands for them stays.

    For the server's ``pre_save_hook``. Other files are left as they are.
    """
    content = model.get("content")
    if model.get("type") != "notebook" or not content:
        return
    content["metadata"].pop("widgets", None)
    for cell in content["cells"]:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(VIEW, None)
