"""The cache of embeddings: keys, limits, damage, several processes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from openfoldpp import plm
from openfoldpp.errors import InputError
from openfoldpp.plm.cache import CacheWarning, EmbeddingCache, cached, default_folder

SEQUENCE = "EVQLVESGG"


class Fake:
    """An embedder whose numbers are drawn from its name, fingerprint and the sequence; counts its work."""

    max_residues = None

    def __init__(self, name="fake", fingerprint="weights:33:float32", channels=8):
        self.name, self.fingerprint, self.channels = name, fingerprint, channels
        self.seen = []

    def embed(self, sequences):
        return [found for _, found in self.embed_each(sequences)]

    def embed_each(self, sequences):
        for number, sequence in enumerate(sequences):
            self.seen.append(sequence)
            seed = sum(map(ord, self.name + self.fingerprint + sequence))
            generator = torch.Generator().manual_seed(seed)
            yield number, torch.randn(len(sequence), self.channels, generator=generator)


@pytest.fixture
def cache(tmp_path):
    return EmbeddingCache(tmp_path / "cache")


def entries(cache):
    return sorted(cache.folder.glob("*/*.embedding"))


def total(cache):
    return sum(path.stat().st_size for path in entries(cache))


def test_what_is_kept_comes_back_bit_for_bit(cache):
    first, second = Fake(), Fake()
    assert cache.get(SEQUENCE, first) is None
    model = cached(first, cache)
    assert isinstance(model, plm.Embedder)
    expected = model.embed([SEQUENCE, "ACD", SEQUENCE])
    assert first.seen == [SEQUENCE, "ACD"]
    found = cached(second, EmbeddingCache(cache.folder)).embed(["ACD", SEQUENCE, "ACDE"])
    assert second.seen == ["ACDE"]
    assert torch.equal(found[0], expected[1])
    assert torch.equal(found[1], expected[0])
    assert torch.equal(expected[0], expected[2])
    again = model.embed([SEQUENCE, SEQUENCE])
    for one, other in ((expected[0], expected[2]), again):
        assert one.data_ptr() != other.data_ptr()  # each the caller's own
    found[1].add_(1)  # the caller's own
    assert torch.equal(cache.get(SEQUENCE, second), expected[0])


@pytest.mark.parametrize(
    "other", [Fake(name="other"), Fake(fingerprint="weights:32:float32"), Fake(fingerprint="else:33:float32")]
)
def test_another_model_layer_or_dtype_is_another_entry(other, cache):
    cached(Fake(), cache).embed([SEQUENCE])
    cached(other, cache).embed([SEQUENCE])
    assert other.seen == [SEQUENCE]
    assert len(entries(cache)) == 2


def test_the_parts_of_a_key_do_not_run_into_each_other(cache):
    cached(Fake(name="ab", fingerprint="c"), cache).embed(["ACD"])
    assert cache.get("ACD", Fake(name="a", fingerprint="bc")) is None


def test_what_an_embedder_says_of_itself_holds_for_the_cached_one(cache):
    model = Fake()
    assert (cached(model, cache).model, cached(model, cache).layer) == ("fake", None)
    model.model, model.layer = None, 12
    assert (cached(model, cache).model, cached(model, cache).layer) == (None, 12)
    with pytest.raises(InputError, match="expected a list"):
        cached(model, cache).embed("ACD")


def test_an_entry_with_any_byte_changed_or_cut_is_made_again(cache):
    [expected] = cached(Fake(), cache).embed([SEQUENCE])
    [path] = entries(cache)
    data = path.read_bytes()
    damaged = [data[:length] for length in (0, 1, 31, 32, 33, len(data) - 4, len(data) - 1)] + [
        data + b"\0" * 4
    ]
    for place in range(0, len(data), 7):
        flipped = bytearray(data)
        flipped[place] ^= 1 << (place % 8)
        damaged.append(bytes(flipped))
    for content in damaged:
        path.write_bytes(content)
        assert cache.get(SEQUENCE, Fake()) is None
        assert not path.exists()
        model = Fake()
        assert torch.equal(cached(model, cache).embed([SEQUENCE])[0], expected)
        assert model.seen == [SEQUENCE]
        assert path.read_bytes() == data


def test_an_entry_under_anothers_name_is_not_returned(cache):
    cached(Fake(), cache).embed([SEQUENCE])
    [path] = entries(cache)
    content = path.read_bytes()
    cached(Fake(), cache).embed([SEQUENCE[::-1]])
    [other] = set(entries(cache)) - {path}
    other.write_bytes(content)
    assert cache.get(SEQUENCE[::-1], Fake()) is None


def test_the_bytes_are_bounded_and_what_is_unused_for_longest_goes(cache):
    size = 32 + 4 * 8 * 9
    cache.max_bytes = 10 * size
    model = Fake()
    sequences = [SEQUENCE[:-2] + a + b for a in "ACDE" for b in "ACDEF"]
    old = time.time_ns() - 10**12
    for number, sequence in enumerate(sequences[:10]):
        cached(model, cache).embed([sequence])
        for path in set(entries(cache)):
            if path.stat().st_mtime_ns > old + 10**11:
                os.utime(path, ns=(old + number, old + number))
    assert total(cache) == 10 * size
    assert cache.get(sequences[0], model) is not None  # used: now the youngest
    for sequence in sequences[10:]:
        cached(model, cache).embed([sequence])
        assert total(cache) <= cache.max_bytes
        assert cache.get(sequences[0], model) is not None
    assert cache.get(sequences[1], model) is None
    assert cache.get(sequences[-1], model) is not None


def test_one_that_is_too_large_and_a_limit_of_nothing(cache):
    cache.max_bytes = 100
    assert len(cached(Fake(), cache).embed([SEQUENCE])[0]) == 9
    assert not cache.folder.exists()
    with pytest.raises(InputError, match="max_bytes is -1"):
        EmbeddingCache(max_bytes=-1)


@pytest.mark.parametrize("count", ["", "nonsense", "99999999999999999999"])
def test_a_wrong_count_of_the_bytes_is_mended(count, cache):
    size = 32 + 4 * 8 * 9
    cache.max_bytes = 3 * size
    model = Fake()
    cached(model, cache).embed([SEQUENCE, SEQUENCE[::-1]])
    (cache.folder / "usage").write_text(count)
    for letter in "ACDEFG":
        cached(model, cache).embed([SEQUENCE[1:] + letter])
    assert total(cache) == int((cache.folder / "usage").read_text()) <= cache.max_bytes
    assert len(entries(cache)) >= 2


def test_what_a_killed_writer_left_is_removed(cache):
    cache.max_bytes = 1000
    cached(Fake(), cache).embed([SEQUENCE])
    torn = entries(cache)[0].with_name("0123.tmp")
    torn.write_bytes(b"half")
    cached(Fake(), cache).embed([SEQUENCE[1:] + letter for letter in "ACDEF"])
    assert not torn.exists()


def test_only_a_finite_embedding_of_the_right_shape_is_kept(cache):
    with pytest.raises(InputError, match=r"torch.float16 \[9, 8\]; expected torch.float32 \[9, 8\]"):
        cache.put(SEQUENCE, Fake(), torch.ones(9, 8).half())
    with pytest.raises(InputError, match=r"\[8, 8\]; expected torch.float32 \[9, 8\]"):
        cache.put(SEQUENCE, Fake(), torch.ones(8, 8))
    with pytest.raises(InputError, match=r"fake holds NaN or infinity, .* --plm_dtype float32"):
        cache.put(SEQUENCE, Fake(), torch.full((9, 8), torch.inf))


def test_a_folder_that_cannot_be_written_is_said_once_and_costs_nothing_else(tmp_path):
    (tmp_path / "file").touch()
    model = cached(Fake(), EmbeddingCache(tmp_path / "file" / "cache"))
    with pytest.warns(CacheWarning, match="cannot be used .*OPENFOLDPP_CACHE_DIR") as said:
        assert len(model.embed([SEQUENCE, "ACD"])) == 2
    assert len(said) == 1
    assert len(model.embed([SEQUENCE])[0]) == 9


def test_the_folder_is_the_platforms(tmp_path):
    home = Path.home()
    assert default_folder({}) == home / ".cache/openfoldpp/embeddings"
    assert default_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/openfoldpp/embeddings")
    assert default_folder({"XDG_CACHE_HOME": "relative"}) == home / ".cache/openfoldpp/embeddings"
    assert default_folder({"XDG_CACHE_HOME": "/x", "OPENFOLDPP_CACHE_DIR": "~/mine"}) == home / "mine"


def test_caching_twice_is_caching_once(cache):
    model = cached(Fake(), cache)
    assert cached(model, EmbeddingCache(cache.folder / "else")) is model


def test_a_language_model_is_cached(cache, esm_file, monkeypatch):
    monkeypatch.setitem(plm.esm.SIZES, "esm2_t6_8M_UR50D", (3, 40, 4))
    model = plm.load("esm2_t6_8M_UR50D", esm_file("esm2_t6_8M_UR50D", (3, 40, 4))[1])
    [expected] = cached(model, cache).embed([SEQUENCE])
    monkeypatch.setattr(model.encoder, "forward", None)  # what is kept is not computed
    assert torch.equal(cached(model, cache).embed([SEQUENCE])[0], expected)


MANY = """
import random, sys
import torch
from openfoldpp.plm.cache import EmbeddingCache, cached
sys.path.insert(0, sys.argv[1])
from test_cache import Fake
draw = random.Random(int(sys.argv[3]))
model = cached(Fake(), EmbeddingCache(sys.argv[2], max_bytes=6000))
names = [a + b + "DEFGH" for a in "ACDEFGHIKL" for b in "ACDEF"]
for _ in range(400):
    sequence = draw.choice(names)
    assert torch.equal(model.embed([sequence])[0], Fake().embed([sequence])[0])
print(len(model.embedder.seen))
"""


def test_several_processes_share_a_folder_that_stays_bounded(tmp_path):
    folder = tmp_path / "cache"
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", MANY, Path(__file__).parent, folder, str(seed)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(3)
    ]
    most = 0
    while any(program.poll() is None for program in programs):
        sizes = []
        for path in folder.glob("*/*.embedding"):
            try:
                sizes.append(path.stat().st_size)
            except FileNotFoundError:
                continue
        most = max(most, len(sizes))
        time.sleep(0.02)
    for program in programs:
        said, errors = program.communicate()
        assert program.returncode == 0, errors
        assert 50 < int(said) < 400  # some were there, some had gone
    cache = EmbeddingCache(folder)
    assert 0 < total(cache) <= 6000
    assert most <= 30  # 23 fit; a look takes longer than a writing
    assert int((folder / "usage").read_text()) == total(cache)
    assert not list(folder.glob("*/*.tmp"))
