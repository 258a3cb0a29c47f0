"""Flags that an error advises and that the verb in use does not have.

What refuses a net or a file does not know which verb has asked for it.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable

# Those that are advised by errors about nets and files, which many verbs read.
_ADVISED = re.compile(
    r"(?<![\w-])--(allow-python|dialect|lenient|max-bytes|on-mismatch|shape|skip-corrupt)(?![\w-])"
)


def with_verbs_that_have_them(
    sentence: str, arguments: argparse.Namespace, usages: Callable[[], Iterable[tuple[str, str]]]
) -> str:
    """``sentence``, with the verbs that have the flags it names and this verb does not.

    Args:
        sentence: an error.
        arguments: those of the verb in use, with an attribute for each of its flags.
        usages: gives the name and the usage of each verb.
    """
    named = dict.fromkeys(_ADVISED.findall(sentence))
    lacking = [flag for flag in named if not hasattr(arguments, flag.replace("-", "_"))]
    if not lacking:
        return sentence
    texts = list(usages())
    said = [f"--{flag} is a flag of {_verbs(f'--{flag}', texts)}" for flag in lacking]
    return f"{sentence} ({'; '.join(said)}; not of this verb)"


def _verbs(flag: str, texts: Iterable[tuple[str, str]]) -> str:
    have = [name for name, text in texts if re.search(rf"(?<![\w-]){flag}(?![\w-])", text)]
    return f"{', '.join(have[:-1])} and {have[-1]}" if len(have) > 1 else "".join(have)
