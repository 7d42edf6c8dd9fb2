import pytest
import torch

from openfoldpp.plm.alphabet import ESM
from openfoldpp.plm.embedder import LanguageModel
from openfoldpp.plm.quantization import Description
from openfoldpp.plm.transformer import Architecture, Encoder

LETTERS = "LAGVSERTIDPKQNFYMHWC"


def random_sequences(count, seed):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(5, 60, (count,), generator=generator).tolist()
    return ["".join(LETTERS[i] for i in torch.randint(20, (n,), generator=generator)) for n in lengths]


@pytest.fixture(params=["esm", "bert"])
def model(request):
    """Return a small model of each kind: norms first or last, rotary or learned positions."""
    first = request.param == "esm"
    architecture = Architecture(
        layers=2,
        channels=40,
        heads=2,
        hidden=144,
        vocabulary=len(ESM.tokens),
        positions=0 if first else 70,
        norm_first=first,
        norm_embedding=not first,
    )
    torch.manual_seed(0)
    encoder = Encoder(architecture)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    limit = None if first else 68
    return LanguageModel("tiny", encoder, ESM, max_residues=limit, fingerprint=lambda _layer: "tiny")


@pytest.fixture
def sequences():
    return random_sequences(12, 1)


@pytest.fixture
def calibration(model):
    return [torch.tensor(model.alphabet.encode(sequence)) for sequence in random_sequences(30, 2)]


@pytest.fixture
def description(model):
    def make(bits, method="gptq"):
        return Description(
            model="tiny",
            bits=bits,
            method=method,
            architecture=model.encoder.architecture,
            alphabet=model.alphabet,
            max_residues=model.max_residues,
            source="tiny",
            calibration="random",
        )

    return make
