"""Language models with 8-bit or 4-bit weights: made, stored, loaded, compared."""

from openfoldpp.plm.quantization.files import Description, describe, is_quantised, save
from openfoldpp.plm.quantization.layerwise import quantise
from openfoldpp.plm.quantization.loading import QuantisationWarning, QuantisedModel, load_quantised

__all__ = [
    "Description",
    "QuantisationWarning",
    "QuantisedModel",
    "describe",
    "is_quantised",
    "load_quantised",
    "quantise",
    "save",
]
