"""Another Python, with an OpenCV that is made up."""

from __future__ import annotations

import sys
from pathlib import Path


def other_python(folder: Path, content: str) -> str:
    """A program that starts this Python with a module cv2 before all others."""
    (folder / "cv2.py").write_text(content)
    program = folder / "python"
    place = f"import sys; sys.path.insert(0, {str(folder)!r}); sys.argv = sys.argv[1:]"
    run = "exec(compile(open(sys.argv[0]).read(), sys.argv[0], 'exec'))"
    program.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -c "{place}; {run}" "$@"\n')
    program.chmod(0o755)
    return str(program)


FAKE_OPENCV_4 = """
import numpy as np
class error(Exception): pass
class dnn:
    def readNetFromCaffe(prototxt, model):
        if "prototxt" not in open(prototxt).name: raise error("which files?")
        return dnn()
    def enableFusion(self, on): assert not on
    def setInput(self, value, name): self.data = value
    def forward(self, names): return [self.data.reshape(len(self.data), -1)[:, :5]] * len(names)
"""
