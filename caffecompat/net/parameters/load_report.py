"""What was loaded from a weight file into a net, and what was not."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from caffecompat.weights import Weights

ERROR, SKIP, REINIT = MISMATCHES = ("error", "skip", "reinit")


@dataclass(frozen=True)
class LoadReport:
    """The result of loading a weight file into a net.

    Attributes:
        loaded: layers that got their values from the file.
        missing: layers of the net with parameters that are not in the file; they keep their values.
        ignored: layers of the file that are not in the net.
        without_parameters: layers of both without parameters.
        mismatched: by name, layers whose blobs do not fit, with one sentence for each, which does
            not say how to pass over the layer.
        left_out: layers with parameters that ``layers`` excludes; they keep their values.
        on_mismatch: the treatment of the mismatched layers, "skip" or "reinit".
        copied: the parameters that got values, by the index of the layer that owns them and of
            the blob.
    """

    loaded: list[str]
    missing: list[str]
    ignored: list[str]
    without_parameters: list[str]
    mismatched: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    on_mismatch: str = ERROR
    copied: frozenset[tuple[int, int]] = field(default=frozenset(), repr=False)

    @property
    def total(self) -> int:
        """The number of layers of the net with parameters."""
        return sum(map(len, (self.loaded, self.missing, self.mismatched, self.left_out)))

    @property
    def nothing_loaded(self) -> bool:
        """Whether the net has parameters and none of them is from the file."""
        return self.total > 0 and not self.loaded

    def write_to(self, log: logging.Logger) -> None:
        """Logs the report, as warnings if layers are missing or mismatched.

        Each ignored layer has a line of its own, with Caffe's words.
        """
        level = logging.WARNING if self.missing or self.mismatched else logging.INFO
        self.write_ignored_to(log)
        for sentence in self._about_the_net():
            log.log(level, sentence)

    def write_ignored_to(self, log: logging.Logger) -> None:
        """Logs the layers of the file that are not in the net, as Caffe does."""
        for name in self.ignored:
            log.info("Ignoring source layer %s", name)

    def sentences(self) -> list[str]:
        """The report as lines of text; the first one has the number of loaded layers."""
        return [*self._about_the_net(), *self._in_the_file_only()]

    def fit_sentences(self) -> list[str]:
        """The report as lines of text, where only the question was whether the file fits."""
        return [
            f"the weights fit {len(self.loaded)} of {self.total} layers with parameters",
            *(f"layer {name!r} is not in the file{self._near(name)}" for name in self.missing),
            *(f"layer {name!r} does not fit: {why}" for name, why in self.mismatched.items()),
            *self._in_the_file_only(),
        ]

    def _about_the_net(self) -> list[str]:
        lines = [f"loaded {len(self.loaded)} of {self.total} layers with parameters"]
        lines += [
            f"layer {name!r} is not in the file and keeps its values{self._near(name)}"
            for name in self.missing
        ]
        done = "filled afresh" if self.on_mismatch == REINIT else "left as it was"
        lines += [f"layer {name!r} was {done}: {why}" for name, why in self.mismatched.items()]
        if self.left_out:
            lines.append(f"not asked for: {', '.join(self.left_out)}")
        return lines

    def _in_the_file_only(self) -> list[str]:
        return [f"in the file only: {', '.join(self.ignored)}"] if self.ignored else []

    def _near(self, name: str) -> str:
        """A hint at a layer of the file that has almost the name."""
        near = difflib.get_close_matches(name, self.ignored, n=1)
        return f"; the file has {near[0]!r}, which the net has not" if near else ""


def nothing_loaded(origin: str, report: LoadReport, weights: Weights) -> str:
    """The message for a file that matches no layer of the net."""
    text = f"{origin}: none of the net's {report.total} layers with parameters was loaded"
    if report.mismatched:
        return f"{text}, since {next(iter(report.mismatched.values()))} (--lenient accepts it)"
    stored = [layer.name for layer in weights.layers if layer.blobs]
    if not stored:
        return f"{text}, since the file holds a definition without values (--lenient accepts it)"
    return (
        f"{text}: the names do not agree, the net has {_some(report.missing)}, the file has "
        f"{_some(stored)}; give the weights of this net, or rename the layers; --lenient "
        "(lenient=True) goes on with the values that the net has"
    )


def _some(names: Sequence[str]) -> str:
    """The first few names."""
    shown = ", ".join(map(repr, names[:3]))
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
