"""Why something failed, in one line: libraries' texts fill a screen, and what tells is seldom their first line.

OpenVINO        "Exception from src/core.cpp:84:", "Check ... failed at ...:", then what was wrong
ONNX Runtime    "[ONNXRuntimeError] : 1 : FAIL : Load model from ... failed:" before it
torch.export    "Constraints violated (batch)!", then which
torch.onnx      steps to try, with colours, then a summary of what torch.export raised
torch._dynamo   a title, and under it an explanation
Inductor        the compiler's command, then its output
"""

import os
import re

_NOISE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|/onnxruntime_src/\S+ ")
"""Colours, and places in the sources of a library."""
_BEFORE = re.compile(r".*\n(?:## Exception summary|Output:)\n\s*", re.DOTALL)
"""What comes before a section that holds the cause alone."""
_PREFIX = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from .*? failed:)?|<class '[\w.]+'>: |--? ")
_INTRODUCTION = re.compile(r".*:|Model wasn't fully converted\..*|Constraints violated .*")
"""Lines after which the cause is still to come."""
_EXPLANATION = re.compile(r"\n  Explanation: (.*)")
_PATH = re.compile(r"(?:(?<=file://)|(?<![\w./]))/([^\s/'\":,;()<>]+)((?:/[^\s/'\":,;()<>]*)*)")


def telling_line(error: BaseException) -> str:
    """Returns the line of an error's text that says what was wrong, or the error's kind where it says nothing."""
    text = _NOISE.sub("", str(error))
    lines = [line.strip() for line in _BEFORE.sub("", text).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if text.startswith("[ONNXRuntimeError]"):
        lines = [" ".join(lines)]  # one sentence, wherever its lines break
    line = next((line for line in lines if not _INTRODUCTION.fullmatch(line)), lines[0])
    told = line[prefix.end() :] if (prefix := _PREFIX.match(line)) else line
    explained = _EXPLANATION.search(text)
    return f"{told}: {explained[1]}" if explained else told


def without_paths(line: str) -> str:
    """Returns the line with the last part alone of each absolute path on this machine."""
    return _PATH.sub(lambda found: found[0].rstrip("/").rpartition("/")[2] if _is_here(found) else found[0], line)


def has_path(line: str) -> bool:
    """Returns whether the line holds an absolute path on this machine; names such as /conv1/Conv are none."""
    return any(_is_here(found) for found in _PATH.finditer(line))


def _is_here(found: re.Match[str]) -> bool:
    return os.path.exists(f"/{found[1]}")
