"""Every error spikenas raises on purpose.

SpikenasError
├── InputError           exit 2: the value, the rule it breaks, and the way out, in one line
│   ├── GraphError       a graph that is malformed (names the node)
│   ├── GenotypeError    a genotype string or value outside its space
│   ├── DatasetError     a dataset that cannot be found or read
│   ├── TargetError      an unknown device or one whose figures make no sense
│   ├── BudgetError      a byte count that cannot be parsed
│   ├── ModelError       weights that do not belong to their graph
│   ├── TrainError       a training that cannot start or go on
│   ├── QuantizeError    a layer that cannot be made integer
│   ├── RunError         an output folder or store that cannot be used
│   └── MissingTool      an optional program or package is absent (says what to type)
└── NothingFits          exit 3: no network satisfies the constraints (says the smallest that would)

A message is one line. Whatever is not in this tree is a bug and may show a traceback.
"""

from __future__ import annotations


class SpikenasError(Exception):
    """Base of every deliberate error; ``exit_code`` is what the command line returns."""

    exit_code = 2


class InputError(SpikenasError):
    """Something the user gave breaks a rule."""


class GraphError(InputError):
    """A graph that is malformed."""


class GenotypeError(InputError):
    """A genotype outside its space."""


class DatasetError(InputError):
    """A dataset that cannot be found, read or used."""


class TargetError(InputError):
    """An unknown target device."""


class BudgetError(InputError):
    """A byte count that cannot be parsed or is not positive."""


class ModelError(InputError):
    """Weights that do not belong to their graph."""


class TrainError(InputError):
    """A training that cannot start or go on."""


class QuantizeError(InputError):
    """A layer that cannot be made integer."""


class RunError(InputError):
    """An output folder or study store that cannot be used."""


class MissingTool(InputError):
    """An optional program or package is absent."""


class NothingFits(SpikenasError):
    """No network satisfies the constraints."""

    exit_code = 3


def one_line(error: BaseException) -> str:
    """An error in one line; one that was not raised on purpose with the name of its kind.

    >>> one_line(InputError("8 bits")), one_line(ZeroDivisionError("division by zero")), one_line(AssertionError())
    ('8 bits', 'ZeroDivisionError: division by zero', 'AssertionError')
    """
    words = " ".join(str(error).split())
    if isinstance(error, SpikenasError):
        return words
    return ": ".join(filter(None, (type(error).__name__, words)))
