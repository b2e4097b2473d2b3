"""Learning rates and weight decays for individual parameters, chosen by name.

Fine-tuning is a common use: a smaller learning rate for the first blocks, which change least, and a larger one for
the new head.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from ..common.checks import check_number
from ..layers.parameter import Parameter


def layer_settings(parameters: Sequence[Parameter], weight_decay: float,
                   layers: Sequence[Sequence] = ()) -> tuple[list[float], list[float]]:
    """Return a learning rate factor and a weight decay for each parameter.

    By default the factor is 1, and the weight decay applies to parameters with `decay` (the weights of linear maps and
    convolutions); it is 0 for all others.

    Parameters
    ----------
    parameters : list of Parameter
    weight_decay : float
        The default weight decay.
    layers : list of (pattern, factor) or (pattern, factor, decay)
        Settings for the parameters whose name matches the pattern, such as "blocks.0.*" or "*.bias" (see `fnmatch`). If
        several patterns match, the last one counts.

    Returns
    -------
    factors, decays : list of float
        In the order of the parameters.

    Raises
    ------
    ValueError
        If a pattern matches no parameter, or a number is negative.
    """
    factors, decays = [1.0] * len(parameters), [weight_decay if p.decay else 0.0 for p in parameters]
    for pattern, factor, *decay in layers:
        matching = [i for i, p in enumerate(parameters) if fnmatchcase(p.name, pattern)]
        if not matching:
            examples = ", ".join(p.name for p in parameters[:4])
            raise ValueError(f"no parameter name matches {pattern!r}; the names are {examples}, ...")
        for i in matching:
            factors[i] = check_number(f"learning rate factor of {pattern}", factor, least=0)
            if decay:
                decays[i] = check_number(f"weight decay of {pattern}", decay[0], least=0)
    return factors, decays
