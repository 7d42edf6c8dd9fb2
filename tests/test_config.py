import subprocess
import sys

import pytest

from openfoldpp.config import Settings
from openfoldpp.errors import ConfigError


def test_defaults():
    assert Settings.from_environment({}) == Settings(None, None, "auto")


def test_every_variable_is_read():
    settings = Settings.from_environment(
        {
            "OPENFOLDPP_NUM_THREADS": "3",
            "OPENFOLDPP_SIMD": "scalar",
            "OPENFOLDPP_BACKEND": "torch",
            "OPENFOLDPP_MEMORY_LIMIT_GIB": "1.5",
            "OPENFOLDPP_CACHE_DIR": "/somewhere",
            "HOME": "/nowhere",
        }
    )
    assert settings == Settings(3, "scalar", "torch", 1.5, "/somewhere")


def test_an_empty_variable_is_unset():
    assert Settings.from_environment({"OPENFOLDPP_SIMD": ""}) == Settings()


def test_the_process_environment_is_the_default(monkeypatch):
    monkeypatch.setenv("OPENFOLDPP_NUM_THREADS", "5")
    assert Settings.from_environment().num_threads == 5


@pytest.mark.parametrize("threads", ["0", "-1", "two", "1.5", "²"])
def test_threads_must_be_a_positive_whole_number(threads):
    with pytest.raises(ConfigError, match=f"OPENFOLDPP_NUM_THREADS={threads}: expected a whole number"):
        Settings.from_environment({"OPENFOLDPP_NUM_THREADS": threads})


def test_all_errors_come_at_once():
    environ = {
        "OPENFOLDPP_NUM_THREAD": "2",
        "OPENFOLDPP_SIMD": "mmx",
        "OPENFOLDPP_BACKEND": "cpu",
    }
    with pytest.raises(ConfigError) as raised:
        Settings.from_environment(environ)
    message = str(raised.value)
    assert "OPENFOLDPP_NUM_THREAD is not a setting; did you mean OPENFOLDPP_NUM_THREADS?" in message
    assert "OPENFOLDPP_SIMD=mmx: expected one of scalar, neon, avx2, avx512" in message
    assert "OPENFOLDPP_BACKEND=cpu: expected one of auto, native, cuda, triton, torch" in message


def test_importing_it_loads_no_torch():
    program = "import sys, openfoldpp.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", program]).returncode == 0
