"""What the programs of ``tests/programs.py`` find imported: torch, all layers, what trains nets."""

from caffecompat import Net, Solver, pycaffe
from caffecompat.cli.verbs.training import train
from caffecompat.data.loader import open_readers
from caffecompat.layers import catalogue

LOADED = (Net, Solver, open_readers, pycaffe, train, *map(catalogue.find, catalogue))
